"""One client's websocket: what of it the websockets package does not watch over."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from websockets.asyncio.connection import broadcast
from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import State
from websockets.server import ServerProtocol

from robot.server_config import Limits
from robot.server_door import Door, Refusals


class Connection(ServerConnection):
    """Counts itself at the door, and knows since when a message, or its reader, is slow.

    Args:
        standing: all connections, this one among them from `arrive` to `leave`.
    """

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
        *,
        door: Door,
        refusals: Refusals,
        limits: Limits,
        standing: set[Connection],
        **options: Any,
    ):
        super().__init__(protocol, server, **options)
        self.address = ""
        self.answered = False
        """Whether it asked for a page, or was told why it may not come in."""
        self.entered = False
        self._door, self._refusals, self._limits = door, refusals, limits
        self._standing = standing
        self._since = time.monotonic()
        self._socket: asyncio.WriteTransport | None = None
        self._part_since: float | None = None
        self._unread_since: float | None = None
        self._fragments = False

    def arrive(self, socket: asyncio.WriteTransport) -> bool:
        """Count it, before its first byte. Whether to hear it at all; if not, it is hung up.

        Args:
            socket: under TLS, if there is any.
        """
        self._socket = socket
        self._standing.add(self)
        self.address = str((socket.get_extra_info("peername") or ("unknown",))[0])
        if self._door.arrive(self.address):
            return True
        self.answered = True
        socket.abort()
        return False

    def leave(self) -> None:
        """It has ended. Due once for each that arrived."""
        self._standing.discard(self)
        self._door.leave(self.address)

    def refuse(self, reason: str, detail: str) -> None:
        """Record why it is hung up."""
        self._refusals.add(reason, f"{self.address}: {detail}")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`. Where there is TLS, it has arrived before."""
        super().connection_made(transport)
        if self._socket is None:
            self.arrive(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if not self.answered and not self._begun:
            self._refusals.add("handshake", f"{self.address} asked for no websocket and no page")
        if self.entered:
            self._door.exit(self.address)
        self.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        part = self._fragments or bool(self.protocol.reader.buffer)
        if not part:
            self._part_since = None
        elif self._part_since is None:
            self._part_since = time.monotonic()

    def process_event(self, event: Any) -> None:
        """See `ServerConnection`."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self._fragments = not event.fin
            self._part_since = None if event.fin else self._part_since
        super().process_event(event)

    def push(self, message: bytes | str) -> None:
        """Send without waiting; a connection that closes drops it."""
        broadcast([self], message)

    def look(self) -> None:
        """Hang up on one that begins, sends or reads too slowly. To be called now and then."""
        now, limits = time.monotonic(), self._limits
        if not self._begun and self.late:
            self.hurry()
        if self.protocol.state is not State.OPEN:
            return
        if self.recv_messages.paused:  # it is we who do not read
            self._part_since = None if self._part_since is None else now
        since = self._part_since
        if since is not None and now - since > limits.message_s:
            self._drop("slow sender", f"a message takes longer than {limits.message_s:g} s")
            return
        unread = self.transport.get_write_buffer_size()
        if not unread:
            self._unread_since = None
        elif unread > limits.unread_bytes:
            self._drop("slow reader", f"{unread} bytes of answers are unread")
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > limits.unread_s:
            self._drop("slow reader", f"answers are unread for {limits.unread_s:g} s")

    def hurry(self) -> None:
        """Hang up if it is no websocket yet."""
        if not self._begun and self._socket is not None:
            self._socket.abort()

    @property
    def late(self) -> bool:
        """Whether the time for its handshakes is over."""
        return time.monotonic() - self._since >= self._limits.handshake_s

    @property
    def _begun(self) -> bool:
        return self.response is not None and self.response.status_code == 101

    def _drop(self, reason: str, detail: str) -> None:
        self.refuse(reason, detail)
        self.transport.abort()
