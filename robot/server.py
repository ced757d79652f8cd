"""A policy behind a websocket: openpi's protocol, and what `robot.protocol` adds to it.

    loop      accepts, reads, decodes, answers `/healthz`, `/readyz` and `/metrics`
    thread    calls the policy, with requests that came together

The policy computes in a thread of its own, so that the loop answers whatever else is asked
meanwhile. Logs to `robot.server`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import cast

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from ego_ops.errors import UserError
from robot import server_messages as messages
from robot.batching import Batcher, Model
from robot.policy import Answer, Policy, Request
from robot.server_config import Limits, ServerConfig
from robot.server_connection import Connection
from robot.server_door import Door, Refusals
from robot.server_listener import Listener
from robot.server_metrics import Metrics
from robot.server_session import Session
from robot.server_shared import Shared

__all__ = ["Limits", "Server", "ServerConfig", "run"]

_LOG = logging.getLogger("robot.server")
_LOOK_S = 0.25


class Server:
    """A server in the event loop that `start` is called from. All methods are that loop's.

    Args:
        policy: loaded and warmed up. It is the server's from here on: closed by it, called from
            one thread of the server's only. None: `replace` will bring it; until then clients that
            connect wait for their metadata and `/readyz` is 503.
    """

    def __init__(self, policy: Policy | None, config: ServerConfig):
        self._policy, self._config = policy, config
        self._metrics = Metrics()
        self._refusals = Refusals(self._metrics)
        self._door = Door(config, self._refusals)
        self._numbers = count()
        self._shared: Shared | None = None
        self._listener = Listener(config, self._door, self._refusals, self._talk, self._asked)
        self._watch: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.hung = asyncio.Event()
        """Set while a call of the policy takes longer than `Limits.infer_s`."""

    @property
    def ready(self) -> bool:
        """Whether requests are answered now: it listens, has a policy that does not hang, and is
        not draining."""
        shared = self._shared
        if shared is None or not self._listener.begun:
            return False
        return shared.policy is not None and not (shared.draining or self.hung.is_set())

    async def start(self) -> int:
        """Listen. Returns the port.

        Raises:
            UserError: the address is taken or none of this machine's, TLS files cannot be read,
                the policy's metadata cannot be sent.
        """
        shared = self._shared = self._made(self._policy)
        self._policy = None  # else it were kept when it is replaced
        try:
            port = await self._listener.start()
        except UserError:
            await shared.batcher.close()
            raise
        self._watch = asyncio.create_task(self._look())
        return port

    async def replace(self, policy: Policy | None) -> None:
        """Serve another policy, on the connections there are. A call that computes ends on the old
        one, which is then closed; requests that wait are answered by the new one. Returns when the
        old one is closed.

        With None there is no policy for the moment, e.g. where two do not fit into memory: openpi's
        clients wait, others are told `reloading`.

        Raises:
            UserError: the server is not running, or the policy's metadata cannot be sent: the old
                one stays.
        """
        shared = self._shared
        if shared is None or self._closing is not None:
            raise UserError("the server does not run: it cannot be given another policy")
        shared.serve(policy, self._told(policy))
        await shared.batcher.replace(_model(policy))

    def metrics(self) -> str:
        """What `/metrics` says: Prometheus's text format."""
        shared = self._shared
        return self._metrics.text(
            {
                "ready": float(self.ready),
                "connections": self._door.clients,
                "queue": shared.batcher.waiting if shared else 0,
                "requests_under_way": shared.under_way if shared else 0,
            }
        )

    async def drain(self) -> None:
        """Stop: no new connections or requests, what is under way is answered (for `drain_s` at
        most), then connections are closed with 1001 and the policy is closed. Again: waits, too."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._drain())
        await asyncio.shield(self._stopping)

    async def close(self) -> None:
        """Stop at once: connections are closed with 1001, the policy once its call has ended."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    def _made(self, policy: Policy | None) -> Shared:
        told = self._told(policy)
        batcher = Batcher(_model(policy), self._config.budget_ms / 1000, self._called)
        pictures = ThreadPoolExecutor(2, "pictures")
        limits = self._config.limits
        shared = Shared(limits, batcher, self._metrics, self._refusals, pictures)
        shared.serve(policy, told)
        return shared

    def _told(self, policy: Policy | None) -> bytes:
        most = self._config.limits.message_bytes
        return b"" if policy is None else messages.metadata(policy, most)

    def _called(self, requests: int, seconds: float) -> None:
        self._metrics.batches.add(requests)

    async def _talk(self, connection: ServerConnection) -> None:
        assert self._shared is not None
        client = f"client-{next(self._numbers)}"
        try:
            await Session(cast(Connection, connection), client, self._shared).serve()
        except Exception:
            _LOG.exception("a connection's handler failed")
            raise

    def _asked(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        """Answer what is no websocket, and let in who may come."""
        asking = cast(Connection, connection)
        authorization = request.headers.get("Authorization")
        reply = self._door.page(
            request.path, asking.address, authorization, self.ready, self.metrics
        )
        if reply is None:
            reply = self._door.enter(asking.address, authorization)
            asking.entered = reply is None
        asking.answered = reply is not None
        return None if reply is None else connection.respond(reply.status, reply.text)

    async def _look(self) -> None:
        """Hang up on clients that are too slow, and give up a call that is."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look_at_the_call()
            self._listener.look()

    def _look_at_the_call(self) -> None:
        assert self._shared is not None
        batcher, most = self._shared.batcher, self._config.limits.infer_s
        if batcher.computing_s <= most:
            self.hung.clear()
            return
        if not self.hung.is_set():
            self.hung.set()
            _LOG.error("the policy hangs: a call of it takes longer than %g s", most)
        batcher.give_up(f"the policy hangs: no answer for more than {most:g} s")

    async def _drain(self) -> None:
        if self._shared is not None and self._listener.begun:
            self._shared.draining = True
            self._listener.stop()
            try:
                async with asyncio.timeout(self._config.drain_s):
                    await self._shared.idle.wait()
            except TimeoutError:
                _LOG.warning("%d requests are left unanswered", self._shared.under_way)
        await self.close()

    async def _close(self) -> None:
        shared = self._shared
        if shared is None or not self._listener.begun:
            return  # it never began
        shared.draining = True
        await self._listener.close()
        if self._watch is not None:
            self._watch.cancel()
        await shared.batcher.close()
        shared.pictures.shutdown(wait=False, cancel_futures=True)


def run(policy: Policy, config: ServerConfig) -> None:
    """Serve until SIGINT or SIGTERM, then drain. For a process that does nothing else.

    Raises:
        UserError: see `Server.start`.
    """

    async def main() -> None:
        server, ended, loop = Server(policy, config), asyncio.Event(), asyncio.get_running_loop()
        port = await server.start()
        _LOG.info("serving on %s:%d", config.host, port)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        gc.collect()
        gc.freeze()  # the policy's own objects need not be looked at again and again
        await ended.wait()
        await server.drain()

    asyncio.run(main())


def _model(policy: Policy | None) -> Model[Request, Answer] | None:
    return None if policy is None else Model(policy.infer, policy.batch, policy.close)
