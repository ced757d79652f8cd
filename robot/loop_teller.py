"""Tells a listener of ticks, in a thread of its own: a slow one keeps nobody waiting."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from robot.loop_config import Tick

_LOG = logging.getLogger("robot.loop")
_MOST = 3000
_JOIN_S = 5.0


class Teller:
    """See the module. `tell` is for one thread.

    Args:
        listener: of ticks, in order. If it raises, that is logged, and it is told no more.
    """

    def __init__(self, listener: Callable[[Tick], object]):
        self._listener, self._queue = listener, SimpleQueue[Tick | None]()
        self.lost = 0
        """Ticks that it was not told of, because as many as 3000 were waiting."""
        self._thread = threading.Thread(target=self._run, name="ticks", daemon=True)
        self._thread.start()

    def tell(self, tick: Tick) -> None:
        """Returns at once."""
        if self._queue.qsize() < _MOST:
            self._queue.put(tick)
        else:
            self.lost += 1

    def close(self) -> None:
        """Returns when it was told of all, or after some seconds."""
        self._queue.put(None)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            while (tick := self._queue.get()) is not None:
                self._listener(tick)
        except Exception:  # noqa: BLE001 - whatever it is, the arm goes on
            _LOG.exception("the listener failed: it is told of no more ticks")
            while self._queue.get() is not None:
                pass
