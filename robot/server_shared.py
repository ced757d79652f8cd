"""What the clients of one server have in common."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field

from robot.batching import Batcher
from robot.policy import Answer, Policy, Request
from robot.server_config import Limits
from robot.server_door import Refusals
from robot.server_metrics import Metrics


@dataclass
class Shared:
    """What all sessions of a server have in common."""

    limits: Limits
    batcher: Batcher[Request, Answer]
    metrics: Metrics
    refusals: Refusals
    pictures: Executor
    """Where JPEGs are decoded."""
    policy: Policy | None = None
    metadata: bytes = b""
    budget: Budget = field(init=False)
    there: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once there is, or has been, a policy."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no request is under way."""
    under_way: int = 0
    draining: bool = False

    def __post_init__(self) -> None:
        self.idle.set()
        self.budget = Budget(self.limits.request_bytes)

    def serve(self, policy: Policy | None, metadata: bytes) -> None:
        """From here on clients that connect are told of this policy."""
        self.policy = policy
        if policy is not None:
            self.metadata = metadata
            self.there.set()

    def count(self, change: int) -> None:
        """Requests begin or end."""
        self.under_way += change
        if self.under_way:
            self.idle.clear()
        else:
            self.idle.set()


class Budget:
    """Bytes of requests that are under way."""

    def __init__(self, most: int):
        self._most, self._taken = most, 0
        self.room = asyncio.Event()
        """Set when some are given back."""

    def take(self, count: int) -> bool:
        """Whether there is room for so many, which are then taken; for any number where there is
        nothing else."""
        if self._taken and self._taken + count > self._most:
            self.room.clear()
            return False
        self._taken += count
        return True

    def give(self, count: int) -> None:
        """They are no longer needed."""
        self._taken -= count
        self.room.set()


class Rate:
    """How far a client is ahead of what it may ask."""

    def __init__(self, rate: float):
        self._rate, self._left, self._at = rate, rate, time.monotonic()

    def spend(self) -> float:
        """One request more. Returns the seconds that it comes too early; 0: it does not."""
        now = time.monotonic()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._left / self._rate)
