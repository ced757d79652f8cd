"""How many clips to commit together: what they take and weigh is learnt from those done."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

SECONDS = 60.0
"""Work on one unit, and so what the loss of a worker costs."""
BYTES = 64e6
"""Size of one unit's part, which a worker holds a few times over."""
FEW = 8
"""Clips of a unit while nothing is known, and the fewest however long they take: readers, and
object stores, do not like many small files."""


class Pace:
    """Learns from the summaries of units.

    Args:
        most: clips of a unit at most.
    """

    def __init__(self, most: int):
        self._most = most
        self._seen: deque[tuple[float, float]] = deque(maxlen=1000)

    @property
    def known(self) -> bool:
        """Whether `size` rests on anything."""
        return bool(self._seen) or self._most <= FEW

    @property
    def size(self) -> int:
        """Clips of a unit."""
        if not self._seen:
            return min(FEW, self._most)
        # The median, since the first clip of a process takes far longer: it loads the models.
        seconds, size = (median(values) for values in zip(*self._seen, strict=True))
        fit = min(SECONDS / max(seconds, 1e-9), BYTES / max(size, 1.0))
        return max(1, min(self._most, max(FEW, int(fit))))

    def learn(self, summary: Mapping[str, Any]) -> None:
        """Take note of one unit: `seconds` of work and `bytes` of its part, for `clips` clips."""
        if clips := summary["clips"]:
            self._seen.append((summary["seconds"] / clips, summary["bytes"] / clips))
