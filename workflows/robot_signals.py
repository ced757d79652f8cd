"""How a robot is stopped from outside: Ctrl-C, signals, a file that appears."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_LOOK_S = 0.02


class Stop:
    """Sets an event, and that of the loop which runs now."""

    def __init__(self) -> None:
        self.asked = False
        self._event: threading.Event | None = None

    def watch(self, event: threading.Event) -> None:
        """From here on this event is what a stop sets."""
        self._event = event
        if self.asked:
            event.set()

    def now(self) -> None:
        """Stop."""
        self.asked = True
        if self._event is not None:
            self._event.set()


@contextmanager
def signals(stop_file: str | None) -> Iterator[Stop]:
    """SIGUSR1, SIGTERM, Ctrl-C and the file stop the robot; a second Ctrl-C ends at once."""
    stop, ended = Stop(), threading.Event()

    def asked(number: int, frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.now()

    def look(path: Path) -> None:
        while not ended.wait(_LOOK_S):
            if path.exists():
                stop.now()
                return

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, asked) for number in numbers}
    if stop_file is not None:
        path = Path(stop_file).expanduser()
        threading.Thread(target=look, args=(path,), name="stop file", daemon=True).start()
    try:
        yield stop
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)
