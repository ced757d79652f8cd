"""`egoscaler serve` as a user runs it: a command of its own, whose actor is in the tests' cluster.

Only processes that it started, and the actor's, are ended, by their ids.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from tests.evaluation_runs import MAIN

PATIENCE_S = 120.0


class Serving:
    """One run of the command."""

    def __init__(self, *words: str):
        address = ray.get_runtime_context().gcs_address
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "serve", *words, "--port", "0", "--address", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Shells start background jobs with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self._said = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def said(self) -> str:
        """All that it has printed."""
        return self._said

    @property
    def address(self) -> str:
        """ws://HOST:PORT, once it is ready."""
        return self.wait_for(r" at (wss?://[^\s;,]+)").group(1)

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed this."""
        end = time.monotonic() + PATIENCE_S
        with self._changed:
            while (found := re.search(pattern, self._said)) is None:
                assert self._reader.is_alive(), f"no {pattern} in: {self._said}"
                assert time.monotonic() < end, f"no {pattern} yet in: {self._said}"
                self._changed.wait(0.1)
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; its exit code, once it has ended."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert "Traceback" not in self._said, self._said
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._said += line
                self._changed.notify_all()
        self.process.stdout.close()


@contextmanager
def serving(*words: str) -> Iterator[Serving]:
    """A command that serves, until the context ends."""
    run = Serving(*words)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()
