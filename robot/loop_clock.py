"""Ticks at fixed times, and a thread that keeps them."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator

_LOG = logging.getLogger("robot.loop")
_AHEAD_S = 0.004
_SPIN_S = 0.0005
_SWITCH_S = 0.0005
_PRIORITY, _OTHERS = 20, 10
"""Real-time priorities, of the thread that keeps time and of the process' other ones: below that of
the kernel's own threads (50)."""


class Clock:
    """Ticks that are due at whole periods after the first, whatever happens in between.

    Args:
        period: seconds.
    """

    def __init__(self, period: float):
        self.period, self.missed = period, 0
        self._ahead = min(_AHEAD_S, period / 4)
        self._due = time.monotonic()

    def ahead(self) -> float:
        """Wait until a little before the next tick, for what must be ready by then. Returns when it
        is due, `time.monotonic()`. Ticks whose time is over are left out, and counted in `missed`:
        they are not made up for."""
        self._due += self.period
        behind = time.monotonic() - self._due
        if behind > self.period:
            left_out = int(behind / self.period)
            self.missed += left_out
            self._due += left_out * self.period
        _sleep_until(self._due - self._ahead)
        return self._due

    def reach(self) -> float:
        """Wait until the tick is due; not at all if it is. Returns when that was."""
        # Sleeping ends late by what the scheduler takes: the last of it is waited for awake.
        _sleep_until(self._due - _SPIN_S)
        while time.monotonic() < self._due:
            pass
        return self._due

    def wait(self) -> float:
        """`ahead`, then `reach`."""
        self.ahead()
        return self.reach()


def _sleep_until(then: float) -> None:
    pause = then - time.monotonic()
    if pause > 0:
        time.sleep(pause)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Have other threads give way soon, and the garbage collector leave alone what there is.

    To enter it takes as long as one whole collection, in which no other thread runs."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


@contextlib.contextmanager
def first() -> Iterator[None]:
    """Run this thread, and after it the process' other ones, not those that they start, before all
    without a real-time priority, where that is to be had (Linux) and permitted (`ulimit -r`).

    The others too, because this one waits for whichever of them holds the interpreter's lock, and
    that one for a processor.
    """
    if sys.platform != "linux":
        yield
        return
    mine = threading.get_native_id()
    threads = [mine, *(thread.native_id for thread in threading.enumerate())]
    before = {id: scheduling for id in threads if id and (scheduling := _scheduling(id))}
    fifo = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    try:
        for id in before:
            _schedule(id, fifo, _PRIORITY if id == mine else _OTHERS)
    except PermissionError:
        _LOG.info("no real-time priority: ticks may be late on a busy machine (see ulimit -r)")
    try:
        yield
    finally:
        for id, (policy, priority) in before.items():
            _schedule(id, policy, priority)


def _scheduling(id: int) -> tuple[int, int] | None:
    """A thread's policy and priority; None: it has ended."""
    try:
        return os.sched_getscheduler(id), os.sched_getparam(id).sched_priority
    except ProcessLookupError:
        return None


def _schedule(id: int, policy: int, priority: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.sched_setscheduler(id, policy, os.sched_param(priority))
