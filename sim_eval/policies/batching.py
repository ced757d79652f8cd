"""Requests of many episodes, gathered into calls of one policy.

A call begins when there are requests enough to fill it, when everybody who could still ask is
waiting already, or when the oldest request has waited long enough. While a call computes, in a
thread of its own, the requests of the next one gather.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from sim_eval.policy import BatchPolicy, PolicyError, Request
from sim_eval.suite import Floats


@dataclass
class Counts:
    """What a `Batcher` has done since it was made."""

    batch: int
    """Most requests of a call."""
    calls: int = 0
    requests: int = 0
    errors: int = 0
    """Requests that had no answer."""
    computing_s: float = 0.0
    """In the policy."""
    latency_s: float = 0.0
    """Of all requests together, between asking and the answer."""
    latency_max_s: float = 0.0

    @property
    def fill(self) -> float:
        """Share of the calls' places that requests took, 0 to 1."""
        return self.requests / (self.calls * self.batch) if self.calls else 0.0


class _Waiting(NamedTuple):
    request: Request
    answer: asyncio.Future[Floats]
    since: float


class Batcher:
    """Asks one policy for many. All of it runs in one event loop; the policy in one thread.

    Args:
        cap: seconds that a request waits for others to fill its call.
    """

    def __init__(self, policy: BatchPolicy, cap: float = 0.05):
        self._policy, self._cap = policy, cap
        self._queue: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, "policy")
        self._changed = asyncio.Event()
        self._expected: int | None = None
        self._runner: asyncio.Task[None] | None = None
        self.counts = Counts(policy.batch)

    def expect(self, count: int | None) -> None:
        """Say how many episodes are in flight: once so many wait, nobody waits for more. None: it
        is not known. A number too high costs time, up to `cap`, one too low fill."""
        self._expected = count
        self._changed.set()

    async def ask(self, request: Request) -> Floats:
        """The policy's chunk (H, n).

        Raises:
            PolicyError: there is none.
        """
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        answer = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(request, answer, time.monotonic()))
        self._changed.set()
        return await answer

    async def close(self) -> None:
        """Let go of the policy, once a call that computes has ended. Who still waits gets a
        PolicyError."""
        if self._runner is not None:
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
        for waiting in self._queue:
            self._settle(waiting, PolicyError("the policy was closed"))
        self._queue.clear()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._policy.close)
        self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            await self._gather()
            some = [self._queue.popleft() for _ in range(min(len(self._queue), self.counts.batch))]
            await self._call(some)

    async def _gather(self) -> None:
        """Wait until a call is to begin."""
        while True:
            self._queue = deque(one for one in self._queue if not one.answer.done())  # cancelled
            self._changed.clear()
            if len(self._queue) >= self._enough():
                return
            patience = None
            if self._queue:
                patience = self._queue[0].since + self._cap - time.monotonic()
                if patience <= 0:
                    return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), patience)

    def _enough(self) -> int:
        if self._expected is None:
            return self.counts.batch
        return max(1, min(self.counts.batch, self._expected))

    async def _call(self, some: list[_Waiting]) -> None:
        loop, begun = asyncio.get_running_loop(), time.monotonic()
        requests = [one.request for one in some]
        try:
            answers = await loop.run_in_executor(self._thread, self._answers, requests)
        except asyncio.CancelledError:
            self._queue.extendleft(reversed(some))
            raise
        self.counts.calls += 1
        self.counts.requests += len(some)
        self.counts.computing_s += time.monotonic() - begun
        for waiting, answer in zip(some, answers, strict=True):
            self._settle(waiting, answer)

    def _answers(self, requests: list[Request]) -> list[Floats | PolicyError]:
        """The policy's answers; one for each request whatever the policy does."""
        try:
            answers = self._policy.act(requests)
            if len(answers) == len(requests):
                return answers
            error = PolicyError(f"{len(answers)} answers to {len(requests)} requests")
        except PolicyError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 - whatever is wrong with it, others go on
            error = PolicyError(f"the policy failed: {_line(raised)}")
        return [error] * len(requests)

    def _settle(self, waiting: _Waiting, answer: Floats | PolicyError) -> None:
        if waiting.answer.done():
            return  # who asked has gone
        seconds = time.monotonic() - waiting.since
        self.counts.latency_s += seconds
        self.counts.latency_max_s = max(self.counts.latency_max_s, seconds)
        if isinstance(answer, PolicyError):
            self.counts.errors += 1
            waiting.answer.set_exception(PolicyError(str(answer)))
        else:
            waiting.answer.set_result(answer)


def _line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
