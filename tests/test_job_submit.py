"""`ray job submit` of a real `extract` to a real cluster: stopped, submitted again, finished."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ego_ops import shards
from tests.pipelines import write_manifest
from tests.ray_nodes import Cluster, environment, get
from workflows import status

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("aiohttp_cors", reason="job submission needs ray[default]")


class Jobs:
    """`ray job` against one cluster."""

    def __init__(self, cluster: Cluster, working_dir: Path):
        self._address = f"--address=http://127.0.0.1:{cluster.dashboard_port}"
        self._url = f"http://127.0.0.1:{cluster.dashboard_port}"
        self._working_dir = working_dir

    def call(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "ray.scripts.scripts", "job", arguments[0], self._address]
        done = subprocess.run(
            [*command, *arguments[1:]],
            env=environment(),
            capture_output=True,
            text=True,
            cwd=self._working_dir,
            timeout=300,
            check=False,
        )
        return done.stdout + done.stderr

    def submit(self, name: str, *command: str) -> None:
        end = time.monotonic() + 120
        while True:
            text = self.call(
                "submit", "--working-dir=.", "--no-wait", f"--submission-id={name}", "--", *command
            )
            if f"Job '{name}' submitted successfully" in text:
                return
            # The agent that starts jobs comes up after the node.
            assert "No available agent" in text, text
            assert time.monotonic() < end, text
            time.sleep(1)

    def state(self, name: str) -> str:
        reply = get(f"{self._url}/api/jobs/{name}")
        return json.loads(reply)["status"] if reply else ""

    def logs(self, name: str) -> str:
        return json.loads(get(f"{self._url}/api/jobs/{name}/logs"))["logs"]

    def wait(self, name: str, seconds: float = 240) -> str:
        end = time.monotonic() + seconds
        while (state := self.state(name)) not in ("SUCCEEDED", "FAILED", "STOPPED"):
            assert time.monotonic() < end, (state, self.logs(name))
            time.sleep(0.5)
        return state


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder as a user submits it, with code newer than what the cluster has installed."""
    folder = tmp_path / "checkout"
    for name in ("ego_ops", "workflows"):
        shutil.copytree(ROOT / name, folder / name)
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(ROOT / "tests/pipelines.py", folder / "my_pipeline.py")
    progress = folder / "workflows/progress.py"
    text = progress.read_text()
    assert text.count("done, ") == 1
    progress.write_text(text.replace("done, ", "done by newer code, "))
    (folder / "shards").mkdir()
    (folder / "shards/big").write_bytes(b"0" * 3_000_000)
    return folder


@pytest.mark.timeout(600)
def test_a_job_stopped_and_submitted_again_loses_and_repeats_nothing(tmp_path, checkout, capsys):
    manifest = write_manifest(tmp_path, 120)
    out, state = tmp_path / "out", tmp_path / "state"
    state.mkdir()
    command = (
        "egoscaler",
        "extract",
        "--manifest",
        manifest,
        "--out",
        str(out),
        "--workers",
        "1",
        "--perception",
        "my_pipeline:Scripted",
        "--clips-per-shard",
        "4",
        "--option",
        f"state={state}",
        "seconds=0.05",
    )
    with Cluster(dashboard=True) as cluster:
        cluster.add(2)
        cluster.wait()
        jobs = Jobs(cluster, checkout)
        jobs.submit("first", *command)
        _until(lambda: _parts(out) >= 3, jobs, "first")
        jobs.call("stop", "first")
        assert jobs.wait("first") == "STOPPED"
        stopped = _parts(out)
        time.sleep(2)
        assert _parts(out) <= stopped + 1  # what was under way may still be committed
        committed = {clip for _, ids in shards.parts(str(out)) for clip in ids}
        assert 0 < len(committed) < 120

        jobs.submit("second", *command)
        assert jobs.wait("second") == "SUCCEEDED", jobs.logs("second")
        assert "120 done by newer code, 0 left" in jobs.logs("second")
        jobs.submit("third", sys.executable, "-m", "workflows.cli", *command[1:])
        assert jobs.wait("third") == "SUCCEEDED", jobs.logs("third")
        assert "nothing left to do" in jobs.logs("third")
    assert _count(out, capsys) == 120
    begun = {path.name: path.read_text().count("perceive ") for path in state.iterdir()}
    assert len(begun) == 120
    # Only what was in hand when the job was stopped was begun again: nothing that was committed.
    assert {begun[clip] for clip in committed} == {1}
    assert max(begun.values()) <= 2


def _until(done, jobs: Jobs, name: str) -> None:
    end = time.monotonic() + 240
    while not done():
        assert jobs.state(name) not in ("SUCCEEDED", "FAILED", "STOPPED"), jobs.logs(name)
        assert time.monotonic() < end, jobs.logs(name)
        time.sleep(0.1)


def _parts(out: Path) -> int:
    return sum(1 for _ in out.glob("commits/*/*.json"))


def _count(out: Path, capsys) -> int:
    state = status.run(status.StatusConfig(out=str(out), json=True))
    capsys.readouterr()
    return state["corpora"]["toy"]["ok"]
