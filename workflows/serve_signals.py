"""What a command that serves is asked by signals."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Asked:
    """By signals."""

    end: bool = False
    reload: bool = False


@contextmanager
def signals() -> Iterator[Asked]:
    """Ctrl-C and SIGTERM ask to end, a second one ends at once; SIGHUP asks to reload."""
    asked = Asked()

    def end(number: int, frame: FrameType | None) -> None:
        if asked.end:
            raise KeyboardInterrupt
        asked.end = True

    def reload(number: int, frame: FrameType | None) -> None:
        asked.reload = True

    handlers = {signal.SIGINT: end, signal.SIGTERM: end, signal.SIGHUP: reload}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
