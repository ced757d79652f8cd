"""What to command now, of the chunks that have come: where one ends and another begins.

    latest     the newest chunk, at the action that is due: those whose time has passed are left out
    rtc        the same, of chunks that the policy made to go on from the one before (real-time
               chunking, arXiv 2506.07339: the prefix and delay of `robot.protocol`). A prefix is
               what the arm is going to do, the way from its last chunk to this one included
    ensemble   all chunks that say something of now, averaged with weights exp(-k i), i = 0 the
               oldest (temporal ensembling, arXiv 2304.13705)

Two chunks do not agree on where the arm should be. As chunks come and go, what they say begins
with the last command: the difference to it is taken away over a while (`blend_s`), along a curve
that is level at both of its ends. So the target itself never jumps, whatever comes when.

An arm that waited as the observation was made has not moved since: its chunk begins as it comes,
and nothing is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from robot.chunk import Blend, Chunk, Floats, difference, moved
from robot.robot import Kind

Join = Literal["latest", "ensemble", "rtc"]
JOINS: tuple[str, ...] = get_args(Join)
_MOST = 8
"""Chunks of an ensemble."""


class Plan:
    """The chunks of one arm.

    Args:
        blend_s: how long a difference takes to go.
        stale_s: how long after its observation nothing of a chunk is done any more.
        decay: the ensemble's k.
    """

    def __init__(self, kind: Kind, join: Join, blend_s: float, stale_s: float, decay: float):
        self._kind, self._join, self._decay = kind, join, decay
        self._over, self._stale = blend_s, stale_s
        self._chunks: list[Chunk] = []
        self._new, self._last = False, -math.inf
        self._blend: Blend | None = None
        self._idle: float | None = -math.inf
        """Since when there has been nothing to do; None: there is something."""

    @property
    def newest(self) -> Chunk | None:
        """The chunk of the last observation, if it is not over."""
        return self._chunks[-1] if self._chunks else None

    def add(self, chunk: Chunk, now: float) -> bool:
        """Take up a chunk. False: it is over already, or of an observation before the last."""
        if self._until(chunk) <= now or chunk.seen <= self._last:
            return False
        if self._idle is not None and chunk.seen >= self._idle:
            chunk.begin = now
        kept = self._chunks[1 - _MOST :] if self._join == "ensemble" else []
        self._chunks, self._new, self._last = [*kept, chunk], True, chunk.seen
        self._idle = None
        return True

    def target(self, now: float, before: float, command: Floats) -> Floats | None:
        """What to command now; None: everything is used up.

        Args:
            before: the time of the last command.
            command: the last command.
        """
        lasting = [chunk for chunk in self._chunks if self._until(chunk) >= now]
        changed = self._new or len(lasting) < len(self._chunks)
        self._chunks, self._new = lasting, False
        if not lasting:
            if self._idle is None:
                self._idle = now
            return None
        if changed:
            off = difference(self._kind, self._mean(lasting, before), command)
            self._blend = lasting[-1].blend = Blend(off, before, self._over)
        said = self._mean(lasting, now)
        return said if self._blend is None else self._blend.added(self._kind, said, now)

    def clear(self) -> None:
        """Forget all chunks. One of an observation before the last is still none to take up."""
        self._chunks = []

    def _until(self, chunk: Chunk) -> float:
        return min(chunk.end, chunk.seen + self._stale)

    def _mean(self, chunks: Sequence[Chunk], time: float) -> Floats:
        first = chunks[0].at(time)
        if len(chunks) == 1:
            return first
        weights = [math.exp(-self._decay * age) for age in range(len(chunks))]
        ways = [difference(self._kind, first, chunk.at(time)) for chunk in chunks]
        total = sum((w * way for w, way in zip(weights, ways, strict=True)), 0 * ways[0])
        return moved(self._kind, first, 1 / sum(weights), total)
