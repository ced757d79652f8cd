"""How far an evaluation is: one line that is written over in a terminal, else one a minute."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from sim_eval.episode import ERRORS, FAILURE, INVALID_ACTION, SUCCESS, Result
from workflows.duration import duration

_EVERY_S = 60.0
_LIVE_S = 1.0


@dataclass
class Progress:
    """Counts of one run of `evaluate` or `sweep`.

    Args:
        done: episodes that were there before.
        left: that are to be played.
        quiet: print warnings only.
    """

    done: int
    left: int
    quiet: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    """Of this run, by outcome."""
    at: str = ""
    """What is under way."""

    def __post_init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._begun = self._said = time.monotonic()
        self._width = 0

    def add(self, result: Result) -> None:
        """Count an episode."""
        self.counts[result.outcome] += 1
        self.done, self.left = self.done + 1, self.left - 1

    def look(self) -> None:
        """Print a line if it is time."""
        if time.monotonic() - self._said > (_LIVE_S if self._live else _EVERY_S):
            self._print()

    def begin(self, at: str) -> None:
        """Something else is under way: the clock of what is said of it begins."""
        self.at = at
        self._print()

    def warn(self, text: str) -> None:
        """A line that is said even where little is."""
        self._clear()
        print(f"warning: {text}", flush=True)

    def close(self) -> None:
        """Leave the last line standing."""
        self._print()
        if self._live and not self.quiet:
            print(flush=True)
        self._width = 0

    def _print(self) -> None:
        self._said = time.monotonic()
        if self.quiet:
            return
        self._clear()
        text = str(self)
        print(text, end="" if self._live else "\n", flush=True)
        self._width = len(text)

    def _clear(self) -> None:
        if self._live and self._width:
            print("\r" + " " * self._width, end="\r")
            self._width = 0

    def __str__(self) -> str:
        parts = [f"{self.at}: {self.done} episodes done, {self.left} left"]
        parts += [
            f"{self.counts[name]} {name}"
            for name in (SUCCESS, FAILURE, INVALID_ACTION, *ERRORS)
            if self.counts[name] or name in (SUCCESS, FAILURE)
        ]
        rate = self.counts.total() / max(time.monotonic() - self._begun, 1e-9)
        if rate:
            parts.append(f"{3600 * rate:.3g} episodes/h")
        if rate and self.left:
            parts.append(f"{duration(self.left / rate)} to go")
        return ", ".join(parts)
