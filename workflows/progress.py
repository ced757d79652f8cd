"""What a run has done so far, said in one plain line a minute."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ego_ops.errors import UserError
from workflows.duration import duration

_EVERY_S = 60.0
_ENOUGH = 200
"""Clips after which a share of failures says something, so that a broken run ends early."""


@dataclass
class Progress:
    """Counts of one run of `extract`."""

    COUNTED: ClassVar = ("ok", "rejected", "failed", "unexpected")

    done: int
    """Clips that had been committed before."""
    left: int
    """Clips that are still to be worked on."""
    quiet: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    """Attempts of this run that ended so; `unexpected` ones are among the failed."""
    begun: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    @property
    def attempts(self) -> int:
        return self.counts["ok"] + self.counts["rejected"] + self.counts["failed"]

    def add(self, summary: Mapping[str, Any]) -> None:
        """Count what one unit came to, and say a line if it is time."""
        for name in self.COUNTED:
            self.counts[name] += summary[name]
        finished = sum(summary[name] for name in self.COUNTED[:3])
        self.done += finished
        self.left = max(0, self.left - finished)
        if not self.quiet and time.monotonic() - self.said > _EVERY_S:
            self.said = time.monotonic()
            print(self, flush=True)

    def check(self, most: float) -> None:
        """Raises UserError once it is plain that too many clips fail unexpectedly."""
        if self.attempts >= _ENOUGH:
            self._judge(most)

    def close(self, most: float) -> None:
        """Say the last line. Raises UserError where too many clips failed unexpectedly."""
        print(self, flush=True)
        self._judge(most)

    def _judge(self, most: float) -> None:
        share = self.counts["unexpected"] / max(self.attempts, 1)
        if share > most:
            raise UserError(
                f"{self.counts['unexpected']} of {self.attempts} clips failed unexpectedly "
                f"({share:.0%}, more than {most:.0%}): see `status --failures`"
            )

    def __str__(self) -> str:
        seconds = time.monotonic() - self.begun
        rate = self.attempts / max(seconds, 1e-9)
        text = (
            f"{self.done} done, {self.left} left; this run: {self.counts['ok']} ok, "
            f"{self.counts['rejected']} rejected, {self.counts['failed']} failed, "
            f"{rate:.3g} clips/s"
        )
        if self.left and rate:
            text += f", {duration(self.left / rate)} to go"
        return text
