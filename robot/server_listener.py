"""The port that clients come to: websockets, over TLS or not, and how long they may take."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

from websockets.asyncio.server import Server as Websockets
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from ego_ops.errors import UserError
from robot.server_config import ServerConfig
from robot.server_connection import Connection
from robot.server_door import Door, Refusals
from robot.server_tls import Securing

_WIRE = logging.getLogger("robot.server.wire")
_WIRE.setLevel(logging.CRITICAL)  # it logs tracebacks of what clients do wrong; `Refusals` does it
_CLOSE_S, _PING_S = 2.0, 20.0
_FRAMES = 2, 1
"""Between how many frames of a connection reading stops and goes on."""


class Listener:
    """Accepts connections. Its methods are those of one event loop.

    Args:
        talk: serves a client, from its websocket's first moment to its last.
        asked: answers what is asked before that, e.g. for a page, or None: a websocket begins.
    """

    def __init__(
        self,
        config: ServerConfig,
        door: Door,
        refusals: Refusals,
        talk: Callable[[ServerConnection], Awaitable[None]],
        asked: Callable[[ServerConnection, HttpRequest], Response | None],
    ):
        self._config, self._door, self._refusals = config, door, refusals
        self._talk, self._asked = talk, asked
        self._tls: ssl.SSLContext | None = None
        self._websockets: Websockets | None = None
        self._standing: set[Connection] = set()
        self._securing: set[asyncio.Task[None]] = set()

    @property
    def begun(self) -> bool:
        """Whether it has listened."""
        return self._websockets is not None

    async def start(self) -> int:
        """Listen. Returns the port.

        Raises:
            UserError: the address is taken or none of this machine's, TLS files cannot be read.
        """
        config, limits = self._config, self._config.limits
        self._tls = config.tls()
        try:
            self._websockets = await serve(
                self._talk,
                config.host,
                config.port,
                process_request=self._asked,
                # What it makes of a TLS connection only becomes a websocket's.
                create_connection=cast(type[ServerConnection], self._connection),
                compression=None,
                max_size=limits.message_bytes,
                max_queue=_FRAMES,
                open_timeout=None,  # `look` is the one who watches
                close_timeout=_CLOSE_S,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                server_header=None,
                logger=_WIRE,
                reuse_port=config.reuse_port or None,
            )
        except OSError as error:
            place = f"{config.host}:{config.port}"
            raise UserError(f"cannot listen on {place}: {error.strerror or error}") from error
        return self._websockets.sockets[0].getsockname()[1]

    def look(self) -> None:
        """Hang up on those who are too slow. To be called now and then."""
        for each in list(self._standing):
            each.look()

    def stop(self) -> None:
        """Take no new connections."""
        if self._websockets is not None:
            self._websockets.server.close()

    async def close(self) -> None:
        """Close all connections, with 1001; those that are no websockets yet at once."""
        if self._websockets is None:
            return
        self._websockets.close(code=1001, reason="the server is shutting down")
        for each in list(self._standing):
            each.hurry()
        if self._securing:
            await asyncio.wait(self._securing)
        await self._websockets.wait_closed()

    def _connection(self, *args: Any, **options: Any) -> asyncio.Protocol:
        """A connection that was just accepted."""
        limits = self._config.limits
        made = Connection(
            *args,
            door=self._door,
            refusals=self._refusals,
            limits=limits,
            standing=self._standing,
            **options,
        )
        if self._tls is None:
            return made
        return Securing(made, self._tls, limits.handshake_s, self._securing)
