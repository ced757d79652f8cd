"""`egoscaler evaluate` as a user runs it: a process with a Ray of its own, which can be killed.

Only processes that it started are killed, by their ids.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from sim_eval import results
from sim_eval.episode import Result
from tests.eval_rows import read
from tests.points import Points

MAIN = "import sys; from workflows.cli import main; sys.exit(main(sys.argv[1:]))"
PATIENCE_S = 120


class SlowPoints(Points):
    """A tenth of a second for every ten steps or so, so that there is time to kill."""

    def __init__(self) -> None:
        super().__init__(step_s=0.01)


class Run:
    """One run of a command."""

    def __init__(self, *words: str, out: Path):
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *words, "--out", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Shells start background jobs with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def wait_for(self, count: int) -> None:
        """Wait until so many results are committed."""
        end = time.monotonic() + PATIENCE_S
        while len(results.finished(str(self.out))) < count:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < end, "no progress"
            time.sleep(0.02)

    def kill_all(self) -> None:
        """SIGKILL for the driver and all that it started, at one stroke."""
        assert self.process.poll() is None, "it ended before it could be killed"
        driver = psutil.Process(self.process.pid)
        for process in (driver, *driver.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.communicate(timeout=PATIENCE_S)

    def text(self, code: int = 0) -> str:
        """What it printed, once it has ended with that exit code."""
        text, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == code, text
        assert "Traceback" not in text, text
        return text


def told(out: Path) -> dict[tuple[str, str, int], Result]:
    """The results, by policy, task and seed: each episode once."""
    rows = read(str(out))
    found = {(row.policy, row.task, row.seed): row for row in rows}
    assert len(found) == len(rows) == len({row.episode for row in rows})
    return found


def same(found: dict, other: dict) -> None:
    """Assert that two runs have the same episodes, with the same states and ends."""
    assert found.keys() == other.keys()
    for key, row in found.items():
        assert row.states, key
        assert (row.outcome, row.steps, row.states) == (
            other[key].outcome, other[key].steps, other[key].states,
        ), key  # fmt: skip
