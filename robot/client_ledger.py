"""Requests that wait for their replies, and what comes that is none: all in the client's thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robot import client_messages as messages
from robot.client_messages import Heard, Malformed
from robot.encoding import Limits

ERRORS = {
    "offline": "there is no connection",
    "lost": "the connection broke before the answer came",
    "malformed": "what came is no answer",
    "closed": "the client was closed",
}
"""Errors of a request that the server has no part in, by code; besides, `deadline` and `busy`."""

_LOG = logging.getLogger("robot.client")
_KNOWN = 256
"""Requests that are remembered after their reply, to tell late answers from doubled ones."""


class Reply(NamedTuple):
    """To a request."""

    id: int
    actions: NDArray[np.floating] | None
    """(H, A), finite; None with an error, or to a reset alone."""
    message: Mapping[str, Any]
    """The whole answer; under `told`, what `robot.protocol.Told` says."""
    error: tuple[str, str] | None
    """Code and message."""
    asked: float
    """When it was asked, `time.monotonic()`."""
    heard: float


class Asked(NamedTuple):
    """A request."""

    message: Mapping[str, Any]
    ask: Mapping[str, Any]
    within: float
    time: float
    done: Callable[[Reply], None]

    def fail(self, id: int, code: str, why: str = "") -> None:
        """Reply with an error."""
        said = code, why or ERRORS[code]
        self.done(Reply(id, None, {}, said, self.time, time.monotonic()))


class Ledger:
    """See the module.

    Args:
        counts: what becomes of requests, see `robot.client.Client.counts`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits, counts: Counter[str]):
        self._loop, self._limits, self._counts = loop, limits, counts
        self._pending: dict[int, tuple[Asked, asyncio.TimerHandle]] = {}
        self._over: deque[tuple[int, str]] = deque(maxlen=_KNOWN)
        self.owed: deque[int] = deque()
        """Sent to a server that knows no ids, and not answered yet."""

    def add(self, id: int, asked: Asked) -> None:
        """A request, which has its deadline from here on."""
        self._counts["asked"] += 1
        left = max(0.0, asked.time + asked.within - time.monotonic())
        self._pending[id] = asked, self._loop.call_later(left, self._expire, id)

    def fail(self, id: int, code: str, why: str = "") -> None:
        """Reply with an error, unless there has been a reply."""
        if id in self._pending:
            self._close(id, code).fail(id, code, why)

    def fail_all(self, code: str) -> None:
        """Reply to all that wait: nothing of what was sent will be answered any more."""
        self.owed.clear()
        for id in list(self._pending):
            self.fail(id, code)

    def hear(self, data: bytes | str, extended: bool) -> None:
        """Something that the server says."""
        try:
            if isinstance(data, str):
                self._complaint(data)
            else:
                self._answer(messages.heard(data, self._limits, extended))
        except Malformed as error:
            self._drop("malformed", str(error))
            id = self.owed.popleft() if self.owed else error.id
            if id is not None:
                self.fail(id, "malformed", str(error))

    def _answer(self, heard: Heard) -> None:
        id = heard.id
        if id is None and self.owed:
            id = self.owed.popleft()
        if id is None or id not in self._pending:
            over = dict(self._over).get(-1 if id is None else id, "")
            kind = {"answered": "duplicate", "deadline": "late"}.get(over, "unknown")
            self._drop(kind, f"to request {id}")
            return
        # An error that the server said is its answer, too: another one would be a duplicate.
        asked = self._close(id, "answered" if heard.error is None else heard.error[0], "answered")
        asked.done(
            Reply(id, heard.actions, heard.message, heard.error, asked.time, time.monotonic())
        )

    def _complaint(self, text: str) -> None:
        """A text message: openpi's form of an error, after which the server hangs up."""
        line = f"the server says: {' '.join(text.split())[-300:]}"
        if not self.owed:
            raise Malformed(line)
        self.fail(self.owed.popleft(), "policy_error", line)

    def _expire(self, id: int) -> None:
        self.fail(id, "deadline", "no answer in time")

    def _close(self, id: int, count: str, how: str = "") -> Asked:
        """Take a request out: how it ended is remembered."""
        asked, timer = self._pending.pop(id)
        timer.cancel()
        self._counts[count] += 1
        self._over.append((id, how or count))
        return asked

    def _drop(self, kind: str, why: str) -> None:
        self._counts[kind] += 1
        _LOG.warning("an answer is dropped, %s: %s", kind, why)
