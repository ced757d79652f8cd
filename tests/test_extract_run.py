"""The extract job on Ray: every ending of a clip, run again, run elsewhere, run into the ground."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ego_ops import manifest, shards
from ego_ops.errors import UserError
from ego_ops.manifest import Manifest
from tests.pipelines import clips, write_manifest
from workflows import extract
from workflows.extract import ExtractConfig, run

VERBS = (
    *("fine",) * 8,
    "reject",
    "missing",
    "flaky",
    "recover",
    "bug",
    "memory",
    "invalid",
    "segfault",
)
ENDINGS = {
    "fine": ("ok", "", 1),
    "reject": ("rejected", "no_object", 1),
    "missing": ("failed", "missing_file", 1),
    "flaky": ("failed", "io_timeout", 3),
    "recover": ("ok", "", 2),
    "bug": ("failed", "unexpected", 2),
    "memory": ("failed", "out_of_memory", 3),
    "invalid": ("failed", "invalid_result", 1),
    "segfault": ("failed", "poison", 1),
}


def config(folder: Path, count: int, verbs: tuple[str, ...] = ("fine",), **more) -> ExtractConfig:
    (folder / "state").mkdir()
    return ExtractConfig(
        manifest=write_manifest(folder, count, verbs),
        out=str(folder / "shards"),
        perception="tests.pipelines:Scripted",
        option=(f"state={folder / 'state'}",),
        **{"max_unexpected": 1.0, "quiet": True, "workers": 2, **more},
    )


def endings(done: ExtractConfig) -> dict[str, Counter[tuple[str, str, int]]]:
    verbs = {clip.clip_id: clip.verb for clip in Manifest(done.manifest)}
    found: dict[str, Counter[tuple[str, str, int]]] = {}
    for _, view in shards.committed(done.out):
        for clip_id, entry in view.items():
            ending = entry.status, entry.label, entry.attempt
            found.setdefault(verbs[clip_id], Counter())[ending] += 1
    return found


def calls(done: ExtractConfig) -> Counter[str]:
    """How often each verb's first half was begun."""
    state = Path(done.option[0].removeprefix("state="))
    lines = [line.split() for path in state.iterdir() for line in path.read_text().splitlines()]
    return Counter(verb for half, _, verb in lines if half == "perceive")


@pytest.mark.usefixtures("ray_cluster")
def test_every_clip_ends_as_it_should_and_only_once(tmp_path, capsys, monkeypatch):
    first = config(tmp_path, 32, VERBS)
    run(first)
    assert "32 done, 0 left" in capsys.readouterr().out
    assert endings(first) == {
        verb: Counter({e: VERBS.count(verb) * 2}) for verb, e in ENDINGS.items()
    }
    rows = [
        row
        for table in shards.read(first.out, None, None, verify=True)
        for row in table.to_pylist()
    ]
    assert sorted(r["clip_id"] for r in rows) == sorted(c.clip_id for c in clips(32))

    before = calls(first)
    run(first)  # again: nothing is done
    assert "nothing left to do: all 32 clips" in capsys.readouterr().out
    assert calls(first) == before

    manifest.write(first.manifest, clips(37, ("late",)))  # five that are new, in other units
    monkeypatch.setattr(extract, "_WAVE", 2)
    other = dataclasses.replace(first, clips_per_shard=3, workers=1)
    run(dataclasses.replace(other, retry=("missing_file,no_object",)))
    assert calls(first) - before == Counter(late=5, missing=2, reject=2)
    assert endings(first)["missing"] == Counter({("failed", "missing_file", 2): 2})
    assert endings(first)["fine"] == Counter({("ok", "", 1): 16})


def test_where_nothing_is_left_ray_is_not_even_imported(tmp_path):
    done = config(tmp_path, 0)
    code = (
        "import sys\n"
        "from workflows.extract import ExtractConfig, run\n"
        f"run(ExtractConfig(manifest={done.manifest!r}, out={done.out!r}))\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("ray_cluster")
def test_too_many_unexpected_failures_end_the_job(tmp_path):
    broken = config(tmp_path, 20, ("fine",) * 4 + ("bug",), max_unexpected=0.05, workers=1)
    with pytest.raises(UserError, match=r"8 of 24 clips failed unexpectedly \(33%, more than 5%\)"):
        run(broken)
    assert endings(broken)["bug"] == Counter({("failed", "unexpected", 2): 4})


@pytest.mark.usefixtures("ray_cluster")
def test_a_pipeline_that_cannot_be_loaded_is_one_line(tmp_path):
    sound = config(tmp_path, 4)
    lost = dataclasses.replace(sound, perception="tests.nowhere:Pipeline")
    with pytest.raises(UserError, match=r"--perception tests\.nowhere:Pipeline: cannot load it"):
        run(lost)
    with pytest.raises(UserError, match="no room for 9 workers of 1 CPUs"):
        run(dataclasses.replace(sound, out=str(tmp_path / "other"), workers=9))
    with pytest.raises(UserError, match="--option fps: not of the form key=value"):
        run(dataclasses.replace(lost, option=("fps",)))


@pytest.mark.usefixtures("ray_cluster")
def test_a_submitted_job_joins_its_cluster_and_leaves_it_running(tmp_path):
    import ray

    job = config(tmp_path, 8, workers=1)
    code = (
        "import ray\n"
        "from workflows import cluster\n"
        "from workflows.extract import *\n"
        f"config = {job!r}\n"
        "with cluster.connect(config):\n"
        "    print(ray.get_runtime_context().gcs_address)\n"
        "    run(config)\n"
    )
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_ADDRESS": address}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[0] == address, done.stderr
    assert "8 done, 0 left" in done.stdout
    assert ray.cluster_resources()["CPU"] == 4


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 400 KiB, which holds some 30 parts."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.usefixtures("ray_cluster")
def test_a_full_disk_stops_the_job_with_one_line_and_loses_nothing(tmp_path, small_disk):
    full = config(tmp_path, 64, clips_per_shard=1, workers=1)
    full = dataclasses.replace(full, out=str(small_disk / "shards"))
    with pytest.raises(UserError, match="No space left on device; nothing committed is lost"):
        run(full)
    kept = {row for t in shards.read(full.out, ["clip_id"], verify=True) for row in t["clip_id"]}
    assert 0 < len(kept) < 64
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    before = calls(full)
    run(full)
    assert endings(full) == {"fine": Counter({("ok", "", 1): 64})}
    # A unit that was under way when the job stopped may have been committed since.
    assert (calls(full) - before)["fine"] <= 64 - len(kept)
