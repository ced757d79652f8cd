"""Whose turn it is: requests that wait, by client. Nothing here locks; `robot.batching` does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from robot.policy import PolicyError

Q = TypeVar("Q")
A = TypeVar("A")


class Outcome(NamedTuple, Generic[A]):
    """What became of a request."""

    answer: A | PolicyError
    queue_s: float = 0.0
    infer_s: float = 0.0
    """Of the whole call."""
    batch: int = 0
    """Requests of the call; 0 where there was none."""
    since: float = 0.0
    """When it was asked, `time.monotonic()`."""


@dataclass(eq=False)
class Line(Generic[Q, A]):
    """One client."""

    queue: deque[Waiting[Q, A]] = field(default_factory=deque)
    computing: int = 0
    """Of its requests, in a call now."""
    answered: float = float("-inf")
    prompt: bool = False
    """Whether it asked within the cap after its last answer."""
    gone: bool = False


@dataclass(eq=False)
class Waiting(Generic[Q, A]):
    """A request."""

    line: Line[Q, A]
    request: Q
    done: Callable[[Outcome[A]], None]
    since: float
    within: float | None
    timer: asyncio.TimerHandle | None = None
    settled: bool = False

    def forsake(self) -> bool:
        """Nobody waits for it from here on. Returns whether somebody did."""
        waited, self.settled = not self.settled, True
        if self.timer is not None:
            self.timer.cancel()
        return waited


class Turns(Generic[Q, A]):
    """The queue."""

    def __init__(self, cap: float):
        self.count = 0
        self._cap = cap
        self._lines: set[Line[Q, A]] = set()
        self._ready: deque[Line[Q, A]] = deque()  # those with requests, whose turn it is first

    def join(self) -> Line[Q, A]:
        """A new client's line."""
        line: Line[Q, A] = Line()
        self._lines.add(line)
        return line

    def leave(self, line: Line[Q, A]) -> None:
        """Take a client out, and what it asked."""
        line.gone = True
        self._lines.discard(line)
        for one in list(line.queue):
            self.drop(one)

    def add(self, one: Waiting[Q, A]) -> None:
        """Put a request at its line's end."""
        line = one.line
        if not line.queue:
            self._ready.append(line)
            if not line.computing:
                line.prompt = one.since - line.answered <= self._cap
        line.queue.append(one)
        self.count += 1

    def drop(self, one: Waiting[Q, A]) -> None:
        """Take a request out, if it still waits."""
        if one in one.line.queue:
            one.line.queue.remove(one)
            self.count -= 1
            if not one.line.queue:
                self._ready.remove(one.line)

    def clear(self) -> list[Waiting[Q, A]]:
        """Take all out."""
        left = [one for line in self._ready for one in line.queue]
        for line in self._ready:
            line.queue.clear()
        self._ready.clear()
        self.count = 0
        return left

    def patience(self, batch: int, expected: int | None, now: float) -> float:
        """Seconds that the next call may wait for more requests; 0 or less: it begins now."""
        enough = batch if expected is None else max(1, min(batch, expected))
        if self.count >= enough:
            return 0.0
        left = min(line.queue[0].since for line in self._ready) + self._cap - now
        if expected is not None:
            return left
        soon = (line.answered for line in self._lines if self._asks_soon(line))
        return min(left, max(soon, default=float("-inf")) + self._cap - now)

    def take(self, batch: int, now: float) -> list[Waiting[Q, A]]:
        """The requests of the next call: one of each client, then another, as places last."""
        some: list[Waiting[Q, A]] = []
        while self._ready and len(some) < batch:
            line = self._ready.popleft()
            one = line.queue.popleft()
            self.count -= 1
            if line.queue:
                self._ready.append(line)
            if one.within is None or now < one.since + one.within:  # else its timer settles it
                line.computing += 1
                some.append(one)
        return some

    def answered(self, some: list[Waiting[Q, A]], now: float) -> None:
        """A call has ended."""
        for one in some:
            one.line.computing -= 1
            one.line.answered = now

    @staticmethod
    def _asks_soon(line: Line[Q, A]) -> bool:
        return line.prompt and not line.queue and not line.computing
