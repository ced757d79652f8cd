"""`egoscaler train` as a user runs it: a process with a Ray of its own, which can be killed.

Only processes that it started are killed, by their ids.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests import minute_training as minute
from training.saved_files import newest

MAIN = "import sys; from workflows.cli import main; sys.exit(main(sys.argv[1:]))"
PATIENCE_S = 200
# To be told of a death soon, and one process less to start.
_RAY = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


class Run:
    """One run of the command."""

    def __init__(self, folder: Path, *more: str):
        """Args: folder: of the run; beside it lie its shards. more: flags, then options."""
        self.folder = folder
        options = minute.options(folder.parent)
        at = options.index("--option")
        flags = [*options[:at], "--out", str(folder), *options[at:], *more]
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "train", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | _RAY,
            # Shells start background jobs with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.family: list[psutil.Process] = []
        self.printed = ""

    def wait_for(self, step: int) -> int:
        """Wait until there is a checkpoint of that step or a later one; the newest's step."""
        end = time.monotonic() + PATIENCE_S
        while (reached := newest(self.folder)) < step:
            assert self.process.poll() is None, self.process.communicate()[0]
            if time.monotonic() > end:
                self.kill_all()
                raise AssertionError(f"no progress: {self.printed}")
            time.sleep(0.01)
        return reached

    def workers(self) -> list[psutil.Process]:
        """The processes that train."""
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in self.family if _trains(process)]

    def kill(self, process: psutil.Process) -> None:
        """SIGKILL."""
        assert self.process.poll() is None, "it ended before it could be killed"
        _kill(process)

    def kill_all(self) -> None:
        """SIGKILL for the driver and all that it started, at one stroke."""
        assert self.process.poll() is None, "it ended before it could be killed"
        driver = psutil.Process(self.process.pid)
        self.family = driver.children(recursive=True)
        for process in (driver, *self.family):
            _kill(process)
        self.printed, _ = self.process.communicate(timeout=PATIENCE_S)

    def kill_driver(self) -> None:
        """SIGKILL for the driver alone, and see that what trains ends by itself."""
        working = self.workers()
        self.kill(psutil.Process(self.process.pid))
        self.process.communicate(timeout=PATIENCE_S)
        _, alive = psutil.wait_procs(working, timeout=30)
        for process in self.family:  # Ray's agents look for their raylet once a minute
            _kill(process)
        assert not alive, f"survived the driver: {alive}"

    def text(self, code: int = 0) -> str:
        """What it printed, once it has ended with that exit code."""
        text, _ = self.process.communicate(timeout=2 * PATIENCE_S)
        assert self.process.returncode == code, text
        assert "Traceback" not in text, text
        return text

    def error(self) -> str:
        """The one line that it ended with."""
        lines = [line for line in self.text(1).splitlines() if line.startswith("egoscaler: ")]
        assert len(lines) == 1, lines
        return lines[0]


def _trains(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
