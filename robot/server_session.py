"""One client's conversation with the server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from robot import server_messages as messages
from robot.batching import Outcome
from robot.encoding import EncodingError, PicturesError, unpack
from robot.encoding import Limits as EncodingLimits
from robot.policy import Answer, PolicyError, Request
from robot.server_connection import Connection
from robot.server_messages import Asked, AskError, milliseconds
from robot.server_shared import Rate, Shared

FAILED = "Internal server error. Traceback included in previous frame."
"""openpi's reason with 1011."""
_REFUSED = {1002: "protocol", 1007: "encoding", 1009: "message size"}


class Session:
    """See the module.

    Args:
        client: its name for the policy, of no other client before or after.
    """

    def __init__(self, connection: Connection, client: str, shared: Shared):
        self._connection, self._client, self._shared = connection, client, shared
        self._line = shared.batcher.line()
        self._rate = Rate(shared.limits.rate)
        self._reading = EncodingLimits(shared.limits.message_bytes)
        self._room = asyncio.Event()
        self._room.set()
        self._fresh = True
        self._in_flight = 0
        self._held = 0
        self._previous: float | None = None
        self._ending: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Until either side hangs up."""
        shared, connection = self._shared, self._connection
        try:
            if not shared.there.is_set() and not await self._comes(shared.there):
                return
            connection.push(shared.metadata)
            while self._ending is None:
                await self._take(await connection.recv())
            await self._ending
        except ConnectionClosed as closed:
            self._log(closed)
        finally:
            shared.batcher.leave(self._line)
            shared.count(-self._in_flight)
            shared.budget.give(self._held)
            if shared.policy is not None:
                shared.batcher.later(partial(shared.policy.forget, self._client))

    async def _comes(self, event: asyncio.Event) -> bool:
        """Wait for something; False: the client has gone before."""
        waits = [
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self._connection.wait_closed()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._connection.state is State.OPEN

    async def _take(self, message: bytes | str) -> None:
        """One message. Returns when the next may be read."""
        arrived = time.monotonic()
        if isinstance(message, str):
            self._end(1007, "text messages are not of the protocol")
            return
        try:
            decoded = await self._decoded(message)
            self._shared.metrics.stages["decode"].add(time.monotonic() - arrived)
            asked = messages.asked(decoded)
        except EncodingError as error:
            self._end(1007, f"the message cannot be read: {error}")
            return
        except AskError as error:
            self._fail(error.id, error, error.extended)
            return
        early, size = self._rate.spend(), messages.size_of(asked.observation)
        if asked.id is None:
            await self._ask_in_order(asked, arrived, early, size)
        elif not self._answered(asked, early, size):
            self._ask(asked, arrived, size)
        elif early > 1:
            await asyncio.sleep(early - 1)

    async def _ask_in_order(self, asked: Asked, arrived: float, early: float, size: int) -> None:
        """A request of openpi's protocol, which knows no refusals: one that comes too early waits,
        and so do those behind it."""
        if early:
            await asyncio.sleep(early)
        if not self._room.is_set() and not await self._comes(self._room):
            return
        while not self._shared.budget.take(size):
            if not await self._comes(self._shared.budget.room):
                return
        if self._shared.draining:
            self._shared.budget.give(size)
            self._ending = asyncio.create_task(self._hang_up(1001, "the server is shutting down"))
        else:
            self._ask(asked, arrived, size)

    async def _decoded(self, message: bytes) -> Any:
        try:
            return unpack(message, self._reading, pictures=False)
        except PicturesError:
            loop = asyncio.get_running_loop()
            work = partial(unpack, message, self._reading)
            return await loop.run_in_executor(self._shared.pictures, work)

    def _answered(self, asked: Asked, early: float, size: int) -> bool:
        """Whether a client of the extended protocol has its answer already, mostly why it gets
        none. If not, there is room for its request."""
        shared = self._shared
        code = ""
        if shared.draining:
            code, why = "draining", "the server is shutting down"
        elif early:
            code, why = "busy", f"more than {shared.limits.rate:g} requests a second"
        elif self._in_flight >= shared.limits.in_flight:
            code, why = "busy", f"{self._in_flight} requests are under way"
        elif shared.policy is None:
            code, why = "reloading", "the policy is being replaced"
        elif asked.observation and not shared.budget.take(size):
            code, why = "busy", f"all requests have more than {shared.limits.request_bytes} bytes"
        if code == "busy":
            shared.refusals.add("busy", f"{self._connection.address}: {why}")
        if code:
            self._fail(asked.id, PolicyError(why, code))
            return True
        if asked.observation:
            return False
        self._fresh = True
        shared.metrics.requests["ok"] += 1
        self._connection.push(messages.pack({messages.KEY: {"id": asked.id}}))
        return True

    def _ask(self, asked: Asked, arrived: float, size: int) -> None:
        """Put a request, of so many bytes of the budget, into the queue."""
        fresh, self._fresh = self._fresh or asked.reset, False
        self._in_flight += 1
        self._held += size
        self._shared.count(1)
        if self._in_flight >= self._shared.limits.in_flight:
            self._room.clear()
        request = Request(asked.observation, self._client, fresh, asked.prefix, asked.delay)
        done = partial(self._done, asked.id, arrived, size)
        within = asked.within
        if within is not None:
            within = max(0.0, arrived + within - time.monotonic())
        self._shared.batcher.post(self._line, request, done, within)

    def _done(self, id: int | None, arrived: float, size: int, outcome: Outcome[Answer]) -> None:
        """A request has its answer."""
        self._in_flight -= 1
        self._held -= size
        self._shared.budget.give(size)
        self._room.set()
        self._shared.count(-1)
        answer = messages.checked(outcome.answer)
        stages = self._shared.metrics.stages
        if outcome.batch:
            stages["queue"].add(outcome.queue_s)
            stages["infer"].add(outcome.infer_s)
        try:
            if isinstance(answer, PolicyError):
                raise answer
            self._connection.push(self._packed(id, arrived, outcome, answer))
        except PolicyError as error:
            self._fail(id, error)
            return
        self._previous = time.monotonic() - arrived
        stages["total"].add(self._previous)
        self._shared.metrics.requests["ok"] += 1

    def _packed(
        self, id: int | None, arrived: float, outcome: Outcome[Answer], answer: Answer
    ) -> bytes:
        timing = {"infer_ms": milliseconds(outcome.infer_s)}
        if self._previous is not None:
            timing["prev_total_ms"] = milliseconds(self._previous)
        told = None
        if id is not None:
            told = {
                "id": id,
                "queue_ms": milliseconds(outcome.queue_s),
                "infer_ms": timing["infer_ms"],
                "total_ms": milliseconds(time.monotonic() - arrived),
                "batch": outcome.batch,
            }
        return messages.packed(answer, timing, told)

    def _fail(self, id: int | None, error: PolicyError, extended: bool = False) -> None:
        """Tell a client that it gets no answer; one of openpi's protocol is hung up on."""
        self._shared.metrics.requests[error.code] += 1
        if id is not None or extended:
            self._connection.push(messages.failed(id, error))
        elif error.code != "draining":
            self._end(1011, str(error), FAILED)

    def _end(self, code: int, why: str, reason: str = "") -> None:
        """Hang up, with a line that says why in a text message, as openpi's clients expect it."""
        if code in _REFUSED:
            self._shared.refusals.add(_REFUSED[code], f"{self._connection.address}: {why}")
        if self._ending is None:
            self._connection.push(why)
            self._ending = asyncio.create_task(self._hang_up(code, reason or why[:100]))

    async def _hang_up(self, code: int, reason: str) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._connection.close(code, reason.encode()[:120].decode(errors="ignore"))

    def _log(self, closed: ConnectionClosed) -> None:
        """Record what was refused by the websocket itself, before any message was whole."""
        sent = closed.sent
        if self._ending is None and sent is not None and not closed.rcvd_then_sent:
            reason = _REFUSED.get(sent.code)
            if reason:
                self._shared.refusals.add(reason, f"{self._connection.address}: {sent.reason}")
