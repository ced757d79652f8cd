"""Ticks at fixed times."""

from __future__ import annotations

import time

_SPIN_S = 0.0005


class Clock:
    """Ticks that are due at whole periods after the first, whatever happens in between.

    Args:
        period: seconds.
    """

    def __init__(self, period: float):
        self.period, self.missed = period, 0
        self._due = time.monotonic()

    def wait(self) -> float:
        """Wait for the next tick. Returns when it was due, `time.monotonic()`. Ticks whose time is
        over are left out, and counted in `missed`: they are not made up for."""
        self._due += self.period
        behind = time.monotonic() - self._due
        if behind > self.period:
            left_out = int(behind / self.period)
            self.missed += left_out
            self._due += left_out * self.period
        # Sleeping ends late by what the scheduler takes: the last of it is waited for awake.
        pause = self._due - time.monotonic() - _SPIN_S
        if pause > 0:
            time.sleep(pause)
        while time.monotonic() < self._due:
            pass
        return self._due
