"""Clips that kill the process which works on them.

A clip is claimed before it is begun. Where a claim is found that a dead worker left, the clip may
have killed it, or someone else did: it is run in a child process, which it may kill, and what
becomes of the child decides.

`python -m ego_ops.quarantine FOLDER PARENT` is that child: it reads FOLDER/task, leaves
FOLDER/result, and dies when its parent does.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ego_ops.attempt import Half, here, rest
from ego_ops.claims import MAX_DEATHS, Claims
from ego_ops.clip import Clip
from ego_ops.errors import UserError
from ego_ops.job import Job
from ego_ops.verdict import MAX_ATTEMPTS, Verdict, failed

_LOADING_S = 600.0
"""What the child may take to start and load its pipeline, before the clip's own time begins."""
_FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')


def guarded(job: Job, claims: Claims, half: Half, clip: Clip, *given: bytes) -> Any:
    """Run one half of the pipeline so that nothing it does can lose the clip or stop the job.

    Arguments and result are those of `ego_ops.attempt.here`.

    Raises:
        UserError: not the clip's fault: the pipeline cannot be loaded, the storage refuses.
    """
    deaths = claims.deaths(half, clip.clip_id)
    if deaths >= MAX_DEATHS:
        return failed("worker_lost", f"{deaths} processes were lost in its {half}")
    claims.enter(half, clip.clip_id)
    if deaths:
        rest()  # the child has a watchdog of its own, and time to start
        return _apart(job, half, clip, *given)
    return here(job, half, clip, *given)


def _apart(job: Job, half: Half, clip: Clip, *given: bytes) -> Any:
    """`here` in a child process.

    Its death gives the verdict `poison` or `timeout`, or `worker_lost`, which is tried again,
    where it was killed from outside.
    """
    with tempfile.TemporaryDirectory(prefix="quarantine-") as name:
        folder = Path(name)
        (folder / "task").write_bytes(pickle.dumps((job, half, clip, given)))
        command = [sys.executable, "-m", "ego_ops.quarantine", name, str(os.getpid())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        with open(folder / "log", "wb") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(job.clip_timeout_s + _LOADING_S)
            child.kill()
            child.wait()
        if not (folder / "result").exists():
            return _death(child.returncode, (folder / "log").read_text(errors="replace"), job)
        outcome = pickle.loads((folder / "result").read_bytes())
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def _death(code: int, log: str, job: Job) -> Verdict:
    """The verdict on a clip whose child left no result."""
    frame = _FRAME.search(log)
    at = f" in {frame[3]} ({os.path.basename(frame[1])}:{frame[2]})" if frame else ""
    if "Timeout (" in log:
        return failed("timeout", f"no result within {job.clip_timeout_s:g} s{at}")
    if "Traceback (most recent call last)" in log:  # `here` lets none out, so it was in loading
        error = log.strip().splitlines()[-1]
        return failed("worker_lost", f"its quarantine could not start: {error}", MAX_ATTEMPTS)
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    if -code in (signal.SIGKILL, signal.SIGTERM):
        return failed("worker_lost", f"killed from outside ({how}): out of memory?", MAX_ATTEMPTS)
    return failed("poison", f"ends the process that works on it: {how}{at}")


def _child(folder: Path, parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    faulthandler.enable()
    job, half, clip, given = pickle.loads((folder / "task").read_bytes())
    try:
        outcome = here(job, half, clip, *given)
    except UserError as error:
        outcome = error
    (folder / "aside").write_bytes(pickle.dumps(outcome))
    os.replace(folder / "aside", folder / "result")


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]))
