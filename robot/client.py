"""A client of a policy server that never keeps who asks waiting.

    asker     `Client.ask`, from any thread: returns at once
    thread    the client's own, with its own event loop: connects, sends, hears, connects again

Every request is replied to once: by the server's answer, or by an error of `robot.protocol.CODES`
or `ERRORS`. Answers are known by their ids. What comes late, twice, or is no answer is dropped and
counted. A server of openpi's protocol only, which knows no ids, is asked one thing at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from ego_ops.errors import UserError
from robot import client_messages as messages
from robot.client_config import ClientConfig
from robot.client_ledger import ERRORS, Asked, Ledger, Reply
from robot.client_messages import Malformed
from robot.encoding import Limits
from robot.protocol import Offer

__all__ = ["ERRORS", "Client", "ClientConfig", "Reply"]

_LOG = logging.getLogger("robot.client")
_WIRE = logging.getLogger("robot.client.wire")
_WIRE.setLevel(logging.CRITICAL)
_PLAIN_PING_S, _CLOSE_S, _JOIN_S = 60.0, 0.5, 10.0
_REFUSALS = (401, 403, 404)
_MOST = 4
"""Requests that are being sent at once: a network that takes none must not fill the memory."""


class Client:
    """Connects as it is made, and again whenever it has to, until `close`.

    Raises:
        UserError: the certificates cannot be read.
    """

    def __init__(self, config: ClientConfig):
        self._config, self._tls = config, config.tls()
        self._limits = Limits(message_bytes=config.message_bytes)
        self.counts: Counter[str] = Counter()
        """`connections`, `asked`, `answered`; errors of replies by code; and of what was dropped:
        `late`, `duplicate`, `unknown`, `malformed`."""
        self.metadata: Mapping[str, Any] = {}
        """What the server said of its policy, the last time."""
        self.offer: Offer | None = None
        """What it can do; None: openpi's protocol only."""
        self.problem = "not connected yet"
        """Why there is no connection; empty if there is one."""
        self._refused, self._online = False, threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ids, self._ledger = count(1), Ledger(self._loop, self._limits, self.counts)
        self._sending = set[asyncio.Task[None]]()
        self._connection: ClientConnection | None = None
        self._lock, self._shut, self._closed = threading.Lock(), False, threading.Event()
        self._main = self._loop.create_task(self._stay())
        self._thread = threading.Thread(target=self._run, name="policy client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def wait(self, seconds: float) -> Mapping[str, Any]:
        """The metadata, once there is a connection.

        Raises:
            UserError: there is none after so many seconds, or the server refuses this client: why.
        """
        end = time.monotonic() + seconds
        while not self._online.wait(0.05):
            if self._refused or time.monotonic() >= end:
                raise UserError(f"{self._config.url}: {self.problem}")
        return self.metadata

    def ask(
        self,
        message: Mapping[str, Any],
        done: Callable[[Reply], None],
        within: float,
        **ask: Any,
    ) -> int:
        """Send an observation, which must not be changed any more. Returns the request's id.

        Args:
            done: told the reply, once, in the client's thread (in this one if the client is
                closed): it must return at once, and not raise.
            within: seconds in which the answer is of use.
            ask: `reset`, `prefix`, `delay` of `robot.protocol.Ask`; a server is only sent what it
                offers to know.
        """
        id, asked = next(self._ids), Asked(message, ask, within, time.monotonic(), done)
        with self._lock:
            if not self._shut:
                self._loop.call_soon_threadsafe(self._take, id, asked)
                return id
        asked.fail(id, "closed")
        return id

    def close(self) -> None:
        """Hang up. What is under way is replied to with `closed`. Again: nothing."""
        if not self._closed.is_set():
            self._closed.set()
            with contextlib.suppress(RuntimeError):  # its loop has ended
                self._loop.call_soon_threadsafe(self._main.cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._main)
        with self._lock:
            self._shut = True
        self._loop.run_until_complete(asyncio.sleep(0))  # takes what was asked before
        self._ledger.fail_all("closed")
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _stay(self) -> None:
        first, most = self._config.retry_s
        pause = first
        while not self._closed.is_set():
            began = self.counts["connections"]
            try:
                await self._talk()
            except (OSError, WebSocketException, Malformed) as error:
                self._say(error)
            finally:
                self._online.clear()
                self._connection = None
                self._ledger.fail_all("closed" if self._closed.is_set() else "lost")
            pause = first if self.counts["connections"] > began else min(2 * pause, most)
            await asyncio.sleep(pause)

    async def _talk(self) -> None:
        """One connection, from its beginning to its end."""
        config = self._config
        async with contextlib.AsyncExitStack() as things:
            async with asyncio.timeout(config.connect_s):
                connection = await things.enter_async_context(self._connecting())
                said = await connection.recv()
            self.metadata, self.offer = messages.offer(said, self._limits)
            self.counts["connections"] += 1
            self._connection, self.problem, self._refused = connection, "", False
            self._online.set()
            _LOG.info("connected to %s", config.url)
            keeper = self._loop.create_task(self._keep(connection))
            try:
                while True:
                    self._ledger.hear(await connection.recv(), self.offer is not None)
            finally:
                keeper.cancel()
                for sending in self._sending:
                    sending.cancel()

    def _connecting(self) -> connect:
        config = self._config
        return connect(
            config.url,
            additional_headers=config.headers,
            compression=None,
            proxy=None,
            max_size=config.message_bytes,
            open_timeout=config.connect_s,
            close_timeout=_CLOSE_S,
            ping_interval=None,
            ssl=self._tls,
            logger=_WIRE,
        )

    async def _keep(self, connection: ClientConnection) -> None:
        """Hang up on a server that is gone without a word."""
        patience = self._config.ping_s if self.offer else _PLAIN_PING_S
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(patience / 2)
                try:
                    async with asyncio.timeout(patience):
                        await (await connection.ping())
                except TimeoutError:
                    _LOG.warning("%s: no sign of life for %g s", self._config.url, patience)
                    connection.transport.abort()
                    return

    def _take(self, id: int, asked: Asked) -> None:
        """A request, in the client's thread."""
        self._ledger.add(id, asked)
        if self._connection is None:
            self._ledger.fail(id, "offline", self.problem)
        elif len(self._sending) >= _MOST:
            self._ledger.fail(id, "busy", "the last requests are still being sent")
        elif self.offer is None and self._ledger.owed:
            self._ledger.fail(id, "busy", "the server takes one request at a time")
        else:
            self._send(self._connection, id, asked)

    def _send(self, connection: ClientConnection, id: int, asked: Asked) -> None:
        try:
            data = messages.packed(
                asked.message, asked.ask, id, asked.within, self.offer, self._config.jpeg
            )
        except UserError as error:
            self._ledger.fail(id, "bad_request", str(error))
            return
        if self.offer is None:
            self._ledger.owed.append(id)
        sending = self._loop.create_task(_sent(connection, data))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def _say(self, error: Exception) -> None:
        """Why there is no connection."""
        line = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            self._refused = status in _REFUSALS
            line = f"refused with {status}" + (": is the token right?" if self._refused else "")
        elif isinstance(error, TimeoutError):
            line = "it does not answer"
        if line != self.problem:
            _LOG.warning("%s: %s", self._config.url, line)
        self.problem = line


async def _sent(connection: ClientConnection, data: bytes) -> None:
    with contextlib.suppress(ConnectionClosed):  # which `Client._talk` sees, too
        await connection.send(data)
