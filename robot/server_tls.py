"""TLS of a connection, counted and timed from its first byte as plain ones are.

asyncio's own TLS servers tell nobody of a connection before its handshake has ended, so nobody
could count those that never end it. Here the connection is accepted as a plain one, counted, and
only then made TLS's.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from robot.server_connection import Connection

_SHUT_S = 2.0
"""How long a client may take to agree to the end of TLS."""


class Securing(asyncio.Protocol):
    """A client's connection until TLS is made on it; then it is the websocket's.

    Args:
        seconds: for the handshake.
        tasks: those of all handshakes under way; its own is among them.
    """

    def __init__(
        self,
        connection: Connection,
        context: ssl.SSLContext,
        seconds: float,
        tasks: set[asyncio.Task[None]],
    ):
        self._connection, self._context, self._seconds = connection, context, seconds
        self._tasks = tasks
        self._early = bytearray()
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        socket = cast(asyncio.Transport, transport)
        if self._connection.arrive(socket):
            task = asyncio.get_running_loop().create_task(self._secure(socket))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._connection.leave()

    def data_received(self, data: bytes) -> None:
        """What comes in one piece with the handshake's end."""
        self._early += data

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._ended = True

    async def _secure(self, socket: asyncio.Transport) -> None:
        made: asyncio.Transport | None = None
        why = ""
        try:
            made = await asyncio.get_running_loop().start_tls(
                socket,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._seconds,
                ssl_shutdown_timeout=_SHUT_S,
            )
        except ssl.SSLError as error:
            why = (error.reason or str(error)).replace("_", " ").lower()
        except OSError:
            pass  # either side hung up
        finally:
            if made is None or self._ended:
                socket.abort()  # asyncio closes it, which waits for a client that reads nothing
                late = f"none within {self._seconds:g} s"
                why = why or (late if self._connection.late else "hung up")
                self._connection.refuse("tls", f"no TLS handshake ({why})")
                self._connection.leave()
        if made is not None and not self._ended:
            self._hand_over(made)

    def _hand_over(self, transport: asyncio.Transport) -> None:
        transport.set_protocol(self._connection)
        self._connection.connection_made(transport)
        if self._early:
            self._connection.data_received(bytes(self._early))
