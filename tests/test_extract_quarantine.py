"""Clips that kill, hang or are killed: the units of work run in real processes, without Ray."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from ego_ops import job, manifest, shards, work
from ego_ops.errors import UserError
from ego_ops.job import Job
from ego_ops.manifest import Manifest
from ego_ops.storage import store
from tests.pipelines import clips, write_manifest

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["ego_ops.work", "tests.pipelines"])


def setup(folder: Path, verbs: tuple[str, ...], timeout: float = 60.0, **options) -> Job:
    (folder / "state").mkdir()
    listed = Manifest(write_manifest(folder, len(verbs), verbs))
    options["state"] = str(folder / "state")
    out = str(folder / "shards")
    return job.begin(out, listed, "tests.pipelines:Scripted", options, timeout)


def units(begun: Job) -> list[work.Unit]:
    listed = Manifest(begun.manifest)
    return [
        work.Unit(bucket, ids[0], ids[-1])
        for bucket, ids in ((b, listed.ids(b)) for b in range(listed.buckets))
        if ids
    ]


def do(begun: Job, unit: work.Unit) -> None:
    passed_on = pickle.dumps(work.perceive(begun, unit))
    work.solve(begun, unit, pickle.loads(passed_on))


def worker(begun: Job, unit: work.Unit) -> multiprocessing.process.BaseProcess:
    process = PROCESSES.Process(target=do, args=(begun, unit))
    process.start()
    return process


def ending(begun: Job) -> dict[str, tuple[str, str]]:
    """What became of each clip, by its verb."""
    verbs = {clip.clip_id: clip.verb for clip in Manifest(begun.manifest)}
    return {
        verbs[clip_id]: (entry.status, entry.label)
        for _, view in shards.committed(begun.out)
        for clip_id, entry in view.items()
    }


def begun_halves(begun: Job) -> list[str]:
    """Every half that was begun: `<half> <clip_id> <verb>`."""
    folder = Path(json.loads(begun.options)["state"])
    return [line for path in folder.iterdir() for line in path.read_text().splitlines()]


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("verb", "label", "detail"),
    [
        ("segfault", "poison", "SIGSEGV in string_at"),
        ("exit-solve", "poison", "exit status 7"),
        ("hang", "timeout", "no result within 1 s in <lambda> (pipelines.py:"),
        ("hang-solve", "timeout", "no result within 1 s in <lambda> (pipelines.py:"),
    ],
)
def test_a_clip_that_ends_its_process_costs_one_worker_and_one_child(tmp_path, verb, label, detail):
    begun = setup(tmp_path, (verb,), timeout=1)
    (unit,) = units(begun)
    deaths = 0
    while True:
        process = worker(begun, unit)
        process.join()
        if process.exitcode == 0:
            break
        deaths += 1
        assert ending(begun) == {}
    assert deaths == 1
    assert ending(begun) == {verb: ("failed", label)}
    (table,) = shards.read(begun.out, ["detail"], "failed")
    assert detail in table["detail"][0].as_py()
    half = "solve" if verb.endswith("-solve") else "perceive"
    assert sum(line.startswith(half) for line in begun_halves(begun)) == 2
    assert list((tmp_path / "shards" / "claims").rglob("*-*")) == []


def test_a_clip_whose_worker_was_killed_is_not_to_blame(tmp_path):
    begun = setup(tmp_path, ("fine", "reject"), seconds=0.3)
    for unit in units(begun):
        for _ in range(2):
            before = len(begun_halves(begun))
            process = worker(begun, unit)
            wait_for(lambda before=before: len(begun_halves(begun)) > before)
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        do(begun, unit)
    assert ending(begun) == {
        "fine": ("ok", ""),
        "reject": ("rejected", "no_object"),
    }


def test_a_clip_that_takes_everyone_with_it_is_given_up(tmp_path):
    begun = setup(tmp_path, ("hang",))
    (unit,) = units(begun)
    for number in range(5):
        process = worker(begun, unit)
        wait_for(lambda number=number: len(begun_halves(begun)) > number)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    do(begun, unit)
    assert len(begun_halves(begun)) == 5
    assert ending(begun) == {"hang": ("failed", "worker_lost")}


def test_the_quarantined_child_dies_with_its_worker(tmp_path):
    begun = setup(tmp_path, ("hang",))
    (unit,) = units(begun)
    process = worker(begun, unit)
    wait_for(lambda: len(begun_halves(begun)) == 1)
    process.kill()
    process.join()
    process = worker(begun, unit)
    wait_for(lambda: len(begun_halves(begun)) == 2)  # now in the child
    children = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "ego_ops.quarantine" in child.cmdline()
    ]
    assert len(children) == 1
    process.kill()
    process.join()
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() for child in children)


def test_work_given_out_twice_is_done_once(tmp_path):
    begun = setup(tmp_path, ("fine", "missing", "invalid", "reject", "memory"))
    for unit in units(begun) * 5:
        do(begun, unit)
    calls = [line.split() for line in begun_halves(begun)]
    tries = {
        verb: sum(half == "perceive" and v == verb for half, _, v in calls)
        for verb in ("fine", "missing", "invalid", "reject", "memory")
    }
    assert tries == {"fine": 1, "missing": 1, "invalid": 1, "reject": 1, "memory": 3}
    assert ending(begun)["invalid"] == ("failed", "invalid_result")
    assert sum(len(t) for t in shards.read(begun.out, ["clip_id"], None, verify=True)) == 5


def test_an_object_store_will_do(tmp_path):
    url = f"memory://extract-{tmp_path.name}"
    manifest.write(f"{url}/manifest", clips(30, ("fine", "reject", "flaky")))
    begun = job.begin(f"{url}/shards", Manifest(f"{url}/manifest"), "tests.pipelines:Scripted", {})
    for unit in units(begun) * 2:
        do(begun, unit)
    found = Counter(
        (entry.status, entry.attempt)
        for _, view in shards.committed(begun.out)
        for entry in view.values()
    )
    assert found == {("ok", 1): 10, ("rejected", 1): 10, ("failed", 2): 10}
    assert sum(len(t) for t in shards.read(begun.out, ["frames"], verify=True)) == 10
    out = store(begun.out)
    assert not any(out.files(f"claims/{bucket}") for bucket in out.names("claims"))


def test_a_folder_is_bound_to_its_configuration(tmp_path):
    setup(tmp_path, ("fine",), seconds=0.0)
    listed, out = Manifest(str(tmp_path / "manifest")), str(tmp_path / "shards")
    name, state = "tests.pipelines:Scripted", str(tmp_path / "state")
    same = job.begin(out, listed, name, {"state": state, "seconds": 0.0}, 5.0)
    assert same.clip_timeout_s == 5.0
    with pytest.raises(UserError, match=r"options\.seconds 0\.0 there, 2 now.*use another --out"):
        job.begin(out, listed, name, {"state": state, "seconds": 2})
    with pytest.raises(UserError, match=r"perception '.*' there, 'geometric' now"):
        job.begin(out, listed, "geometric", {"state": state, "seconds": 0.0})
    (tmp_path / "other").mkdir()
    other = Manifest(write_manifest(tmp_path / "other", 1))
    with pytest.raises(UserError, match=r"manifest .* there, .* now"):
        job.begin(out, other, name, {"state": state, "seconds": 0.0})
    with pytest.raises(UserError, match=r"cannot read .*: Not a directory"):
        job.begin(f"{out}/run.json", listed, name, {})
    head = store(out).read("run.json")
    (tmp_path / "shards" / "run.json").write_bytes(head[:30])
    with pytest.raises(UserError, match=r"run\.json: not JSON"):
        job.begin(out, listed, name, {})
