"""What a batcher calls, and what it counts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from robot.policy import PolicyError

Q = TypeVar("Q")
A = TypeVar("A")
_LOG = logging.getLogger(__name__)
_LOG_S = 1.0


class _Seldom(logging.Filter):
    """A line a second: a client can make a policy fail as often as it asks."""

    _last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._last < _LOG_S:
            return False
        self._last = now
        return True


_LOG.addFilter(_Seldom())


@dataclass
class Counts:
    """What a batcher has done since it was made."""

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


class Model(NamedTuple, Generic[Q, A]):
    """What is called. All three run in the batcher's thread, one at a time."""

    call: Callable[[Sequence[Q]], Sequence[A | PolicyError]]
    """An answer for each of 1 to `batch` requests, or PolicyError raised for all."""
    batch: int
    close: Callable[[], None]


def answers_of(model: Model[Q, A], requests: list[Q]) -> Sequence[A | PolicyError]:
    """The model's answers; one for each request whatever it does. Where it fails at several, each
    is asked alone: one that it cannot stand is not to take those beside it down."""
    try:
        answers = model.call(requests)
        if isinstance(answers, list | tuple) and len(answers) == len(requests):
            return answers
        count = len(answers) if isinstance(answers, list | tuple) else type(answers).__name__
        error = PolicyError(f"{count} answers to {len(requests)} requests")
    except PolicyError as raised:
        error = raised
    except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever it is, others go on
        _LOG.warning("the policy failed at %d requests", len(requests), exc_info=True)
        if len(requests) > 1:
            return [answers_of(model, [request])[0] for request in requests]
        error = PolicyError(f"the policy failed: {_line(raised)}")
    return [error] * len(requests)


def guarded(job: Callable[[], None]) -> None:
    """Do a job; what it raises is logged."""
    try:
        job()
    except Exception:  # noqa: BLE001 - the policy's thread goes on
        _LOG.warning("the policy failed at %s", getattr(job, "__name__", job), exc_info=True)


def _line(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
