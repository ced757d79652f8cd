"""The extract job, killed again and again at random moments: nothing is lost, nothing is double.

Each run is a driver process with a Ray of its own, as a user has it. Only processes that these
drivers started are killed, by their ids.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from ego_ops import rows, shards
from ego_ops.manifest import Manifest, write
from tests import without_ray
from tests.pipelines import clips, write_manifest
from workflows.extract import ExtractConfig, run

VERBS = (*("fine",) * 30, "reject", "missing", "recover", "invalid")
POISON = ("segfault", "exit-solve")
DRIVER = """
import json, sys
from ego_ops.errors import UserError
from workflows.extract import ExtractConfig, run
try:
    run(ExtractConfig(**json.loads(sys.argv[1])))
except UserError as error:
    sys.exit(f"egoscaler: {error}")
"""


class Driver:
    """One run of the command, with the processes of its Ray."""

    def __init__(self, config: ExtractConfig):
        command = [sys.executable, "-c", DRIVER, json.dumps(dataclasses.asdict(config))]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Shells start background jobs with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.out = Path(config.out)
        self.commits = self._commits()
        self.family: list[psutil.Process] = []

    def wait_for_commits(self, count: int) -> None:
        """Wait until this run has committed at least `count` parts, or has ended."""
        end = time.monotonic() + 120
        while self.process.poll() is None and self._commits() < self.commits + count:
            assert time.monotonic() < end, "no progress"
            time.sleep(0.02)

    def workers(self) -> list[psutil.Process]:
        """The processes that perceive or solve now, with the children they have in quarantine."""
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in self.family if _works(process)]

    def kill(self, what: str) -> None:
        """SIGKILL the `driver`, Ray's `node`, or `all` at one stroke; the rest ends by itself."""
        driver = psutil.Process(self.process.pid)
        self.family = driver.children(recursive=True)
        node = [process for process in self.family if process.name() == "raylet"]
        for process in {"driver": [driver], "all": [driver, *self.family], "node": node[:1]}[what]:
            _kill(process)
        self.process.communicate(timeout=120)
        assert self.process.returncode != 0

    def tidy(self) -> None:
        """See that no process that works on clips outlived its driver for long."""
        working = [process for process in self.family if _works(process)]
        _, alive = psutil.wait_procs(working, timeout=30)
        for process in self.family:  # Ray's agents look for their raylet once a minute
            _kill(process)
        assert not alive, f"survived the driver: {alive}"

    def _commits(self) -> int:
        return sum(1 for _ in self.out.glob("commits/*/*.json"))


def _works(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return any(word in title for word in ("MapWorker", "MapBatches", "ego_ops.quarantine"))


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def config(folder: Path, manifest: str, seconds: float = 0.0) -> ExtractConfig:
    (folder / "state").mkdir(parents=True)
    return ExtractConfig(
        manifest=manifest,
        out=str(folder / "shards"),
        perception="tests.pipelines:Scripted",
        option=(f"state={folder / 'state'}", f"seconds={seconds}"),
        workers=2,
        clips_per_shard=4,
        max_unexpected=1.0,
        quiet=True,
    )


def rows_of(out: str) -> pa.Table:
    """All rows of the committed view, less what may differ between runs, by clip id."""
    kept = [name for name in rows.SCHEMA.names if name not in (*rows.PROVENANCE, "config_hash")]
    return pa.concat_tables(shards.read(out, kept, None, verify=True)).sort_by("clip_id")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("count", "killed"),
    [
        (200, ("driver", "node", "all")),
        pytest.param(
            350, ("driver", "all", "node", "driver", "all", "all"), marks=pytest.mark.slow
        ),
    ],
    ids=["3 times", "6 times"],
)
def test_a_job_killed_at_random_ends_like_one_that_was_not(count, killed, tmp_path, caplog, capsys):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    manifest = write_manifest(tmp_path, count, VERBS)
    write(manifest, clips(2, POISON, corpus="deadly"))

    undisturbed = config(tmp_path / "undisturbed", manifest)
    without_ray.run(undisturbed)
    disturbed = config(tmp_path / "disturbed", manifest, seconds=0.05)
    kills: Counter[str] = Counter()
    drivers = []
    for what in killed:
        driver = Driver(disturbed)
        drivers.append(driver)
        driver.wait_for_commits(dice.randint(1, 5))
        for _ in range(2):
            time.sleep(dice.random())
            workers = driver.workers()
            if workers:
                _kill(dice.choice(workers))
                kills["worker"] += 1
        driver.wait_for_commits(dice.randint(6, 8))
        time.sleep(dice.random() * 0.5)
        assert driver.process.poll() is None, "it ended before it could be killed"
        driver.kill(what)
        kills[what] += 1
    last = Driver(disturbed)
    text, _ = last.process.communicate(timeout=300)
    assert last.process.returncode == 0, text
    assert f"{count + 2} done, 0 left" in text
    for driver in drivers:
        driver.tidy()
    print(kills)
    assert kills.total() >= 2 * len(killed)

    with caplog.at_level(logging.WARNING):
        found, expected = rows_of(disturbed.out), rows_of(undisturbed.out)
    different = [name for name in found.schema.names if not found[name].equals(expected[name])]
    for name in different[:1]:
        ours, theirs = found[name].to_pylist(), expected[name].to_pylist()
        print(name, [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]][:5])
    assert not different
    assert caplog.text == ""  # no part was torn
    assert found["clip_id"].to_pylist() == sorted(clip.clip_id for clip in Manifest(manifest))
    assert not _tried_after_the_end(disturbed.out)

    before = _touched(tmp_path)
    run(disturbed)
    assert "nothing left to do" in capsys.readouterr().out
    assert _touched(tmp_path) == before


def _tried_after_the_end(out: str) -> dict[str, list]:
    """Clips of which a record says that they are final, and another that they were tried later.

    A clip may well end at its second attempt: its quarantine was killed from outside in the first.
    """
    history: dict[str, list[shards.Outcome]] = {}
    for path in Path(out).glob("commits/*/*.json"):
        for many in json.loads(path.read_text())["clips"].values():
            for one in many:
                history.setdefault(one[0], []).append(shards.Outcome(*one))
    return {
        clip_id: tries
        for clip_id, tries in history.items()
        if max(t.attempt for t in tries)
        > min((t.attempt for t in tries if not t.again), default=99)
    }


def _touched(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_ctrl_c_stops_with_one_line(tmp_path):
    """SIGTERM: tests/test_s3.py."""
    driver = Driver(config(tmp_path, write_manifest(tmp_path, 400), seconds=0.1))
    driver.wait_for_commits(1)
    stopped(driver.process, signal.SIGINT)


def stopped(process: subprocess.Popen, number: int) -> str:
    """Send a signal, and see that the command and all that it started end. Returns its one line."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    lines = [line for line in text.splitlines() if "egoscaler" in line]
    assert len(lines) == 1
    assert "interrupted; what is committed in" in lines[0]
    assert "Traceback" not in text
    assert not psutil.wait_procs(family, timeout=30)[1]
    return lines[0]
