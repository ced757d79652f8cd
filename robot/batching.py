"""Requests of many clients, gathered into calls of one policy, in a thread of its own.

A call begins when there are requests enough to fill it, when nobody is left who would ask in time,
or when the oldest request has waited for the cap. While a call computes, the requests of the next
one gather. The thread takes them itself: from one call to the next it waits for no event loop.

Who would ask in time is either known (`expect`), or told from what clients did: those who asked
anew within the cap after their last answer, and were answered less than the cap ago. So requests
wait where that gives fuller calls, and those of a lone client, or of one that asks now and then,
never do. Clients take turns: each has one place of a call before any has two.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from robot.batching_line import Line, Outcome, Turns, Waiting
from robot.batching_model import Counts, Model, answers_of, guarded
from robot.policy import PolicyError

__all__ = ["Batcher", "Counts", "Line", "Model", "Outcome"]

Q = TypeVar("Q")
A = TypeVar("A")
_LOG = logging.getLogger(__name__)
_JOIN_S = 10.0
_CLOSED: Outcome[Any] = Outcome(PolicyError("the policy was closed", "draining"))


class Batcher(Generic[Q, A]):
    """Asks one model for many. Its methods are those of one event loop, running when it is made.

    Args:
        model: None: requests wait until `replace` brings one.
        cap: seconds that a request waits for others to fill its call.
        called: told of each call, how many requests and seconds it had.
    """

    def __init__(
        self,
        model: Model[Q, A] | None,
        cap: float = 0.05,
        called: Callable[[int, float], None] = lambda count, seconds: None,
    ):
        self.counts = Counts(model.batch if model else 1)
        self._model, self._cap, self._called = model, cap, called
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._turns: Turns[Q, A] = Turns(cap)  # with `_changed` held only, as the next three
        self._jobs: deque[Callable[[], None]] = deque()
        self._expected: int | None = None
        self._closing = False
        self._computing: tuple[float, list[Waiting[Q, A]]] | None = None
        self._ended = self._loop.create_future()
        self._everyone = self.line()
        threading.Thread(target=self._work, name="policy", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._turns.count

    @property
    def computing_s(self) -> float:
        """Seconds that the call under way has taken; 0 where there is none."""
        now = self._computing
        return time.monotonic() - now[0] if now else 0.0

    def give_up(self, why: str) -> None:
        """Tell those whose call is under way, and those who wait, that they get no answer: the
        model hangs. What it says later is dropped."""
        with self._changed:
            now, left = self._computing, self._turns.clear()
        for one in [*(now[1] if now else []), *left]:
            self._settle_one(one, Outcome(PolicyError(why), since=one.since))

    def expect(self, count: int | None) -> None:
        """Say how many requests there can be at once: when so many wait, nobody waits for more.
        None: it is not known. A number too high costs time, up to `cap`, one too low fill."""
        with self._changed:
            self._expected = count
            self._changed.notify()

    def line(self) -> Line[Q, A]:
        """A new client's place."""
        with self._changed:
            return self._turns.join()

    def leave(self, line: Line[Q, A]) -> None:
        """The client is gone: what it asked is dropped, and nobody is told."""
        with self._changed:
            self._turns.leave(line)
            self._changed.notify()

    def post(
        self,
        line: Line[Q, A],
        request: Q,
        done: Callable[[Outcome[A]], None],
        within: float | None = None,
    ) -> Waiting[Q, A]:
        """Ask. `done` is called once, in the loop, later.

        Args:
            within: seconds until the answer is of no use; then `done` is told `deadline`.
        """
        one = Waiting(line, request, done, time.monotonic(), within)
        if self._closing:
            self._loop.call_soon(self._settle_one, one, _CLOSED)
            return one
        if within is not None:
            one.timer = self._loop.call_later(within, self._late, one)
        with self._changed:
            self._turns.add(one)
            self._changed.notify()
        return one

    async def ask(self, request: Q) -> A:
        """The answer to one of many requests that have no clients to tell apart.

        Raises:
            PolicyError: there is none.
        """
        found: asyncio.Future[Outcome[A]] = self._loop.create_future()
        one = self.post(self._everyone, request, partial(_resolve, found))
        try:
            answer = (await found).answer
        except asyncio.CancelledError:
            with self._changed:
                self._turns.drop(one)
            raise
        if isinstance(answer, PolicyError):
            raise PolicyError(str(answer), answer.code)
        return answer

    def later(self, job: Callable[[], None]) -> None:
        """Have something done in the policy's thread, between calls."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    async def replace(self, model: Model[Q, A] | None) -> None:
        """Call another model from the next call on; returns when the old one is closed.

        Raises:
            PolicyError: the batcher is closed.
        """
        if self._closing:
            raise PolicyError("the policy was closed", "draining")
        closed: asyncio.Future[None] = self._loop.create_future()
        with self._changed:
            old, self._model = self._model, model
            self.counts.batch = model.batch if model else self.counts.batch
            if old is not None:
                self._jobs.append(old.close)
            self._jobs.append(lambda: self._tell(_resolve, closed, None))
            self._changed.notify()
        await closed

    async def close(self) -> None:
        """Let go of the model, once a call that computes has ended. Who still waits gets a
        PolicyError."""
        with self._changed:
            if not self._closing and self._model is not None:
                self._jobs.append(self._model.close)
            self._closing = True
            left = self._turns.clear()
            self._changed.notify()
        for one in left:
            self._settle_one(one, _CLOSED)
        try:
            await asyncio.wait_for(asyncio.shield(self._ended), _JOIN_S)
        except TimeoutError:
            _LOG.error("the policy's call has not ended in %g s: it is left behind", _JOIN_S)

    def _work(self) -> None:
        """The thread."""
        while True:
            with self._changed:
                work = self._next()
            if work is None:
                self._tell(_resolve, self._ended, None)
                return
            work()

    def _next(self) -> Callable[[], None] | None:
        """Wait for something to do; None: there will be nothing."""
        while True:
            if self._jobs:
                return partial(guarded, self._jobs.popleft())
            if self._closing:
                return None
            patience, model = None, self._model
            if model is not None and self._turns.count:
                patience = self._turns.patience(model.batch, self._expected, time.monotonic())
                if patience <= 0:
                    some = self._turns.take(model.batch, time.monotonic())
                    if some:
                        return partial(self._call, model, some)
                    continue
            self._changed.wait(patience)

    def _call(self, model: Model[Q, A], some: list[Waiting[Q, A]]) -> None:
        begun = time.monotonic()
        self._computing = begun, some
        answers = answers_of(model, [one.request for one in some])
        self._computing = None
        ended = time.monotonic()
        with self._changed:
            self._turns.answered(some, ended)
        self._tell(self._settle, some, answers, begun, ended)

    def _settle(
        self,
        some: list[Waiting[Q, A]],
        answers: Sequence[A | PolicyError],
        begun: float,
        ended: float,
    ) -> None:
        self.counts.calls += 1
        self.counts.requests += len(some)
        self.counts.computing_s += ended - begun
        self._called(len(some), ended - begun)
        for one, answer in zip(some, answers, strict=True):
            self._settle_one(
                one, Outcome(answer, begun - one.since, ended - begun, len(some), one.since)
            )

    def _settle_one(self, one: Waiting[Q, A], outcome: Outcome[A]) -> None:
        if one.forsake() and not one.line.gone:
            seconds = time.monotonic() - one.since
            self.counts.latency_s += seconds
            self.counts.latency_max_s = max(self.counts.latency_max_s, seconds)
            self.counts.errors += isinstance(outcome.answer, PolicyError)
            one.done(outcome)

    def _late(self, one: Waiting[Q, A]) -> None:
        with self._changed:
            self._turns.drop(one)
        error = PolicyError(f"no answer within {1000 * (one.within or 0):g} ms", "deadline")
        self._settle_one(one, Outcome(error, since=one.since))

    def _tell(self, what: Callable[..., Any], *args: Any) -> None:
        """Have the loop do something; if it has ended, nobody is left to be told."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *args)


def _resolve(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)
