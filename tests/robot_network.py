"""A network that fails: a relay before a server, which knows where its messages begin and end."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Callable
from types import TracebackType

SECONDS = 20.0
Change = Callable[[bytes], list[tuple[float, bytes]]]
"""Of a message of the server: after how many seconds what is passed on in its place."""


def unchanged(message: bytes) -> list[tuple[float, bytes]]:
    """Passed on as it is."""
    return [(0.0, message)]


class Relay:
    """Listens on a port of its own, and passes everything on to that of the server.

    `change` is of all messages but the first of a connection, the metadata. While `cut`, nothing
    gets through in either direction, and nobody is told so: what was sent meanwhile comes later.
    """

    def __init__(self, port: int):
        self.server, self.change, self.cut = port, unchanged, False
        self._links = set[asyncio.StreamWriter]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        self._listening = self._do(asyncio.start_server(self._pass_on, "127.0.0.1", 0))
        self.port: int = self._listening.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    def sever(self) -> None:
        """Break all connections, at once."""
        self._do(self._sever())

    def _do(self, work):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    async def _close(self) -> None:
        self._listening.close()
        await self._sever()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _sever(self) -> None:
        for writer in list(self._links):
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while self.cut:
                await asyncio.sleep(0.01)
            there, beyond = await asyncio.open_connection("127.0.0.1", self.server)
            self._links |= {writer, beyond}
            ways = [
                asyncio.create_task(each)
                for each in (self._requests(reader, beyond), self._answers(there, writer))
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._links -= {writer, beyond}
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                beyond.close()
        writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._through(writer, data)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._through(writer, await reader.readuntil(b"\r\n\r\n"))
        first = True
        while True:
            head, payload = await _frame(reader)
            if head & 0xF not in (1, 2) or first:
                first = first and head & 0xF not in (1, 2)
                await self._through(writer, _framed(head, payload))
                continue
            for seconds, message in self.change(payload):
                work = self._later(seconds, writer, _framed(head, message))
                if seconds:
                    asyncio.get_running_loop().create_task(work)
                else:
                    await work

    async def _later(self, seconds: float, writer: asyncio.StreamWriter, data: bytes) -> None:
        await asyncio.sleep(seconds)
        await self._through(writer, data)

    async def _through(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while self.cut:
            await asyncio.sleep(0.01)
        with contextlib.suppress(OSError):
            writer.write(data)
            await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The first byte and the payload of a server's frame (RFC 6455): it is not masked."""
    head, length = await reader.readexactly(2)
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", await reader.readexactly(8))
    return head, await reader.readexactly(length)


def _framed(head: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes([head, size]) + payload
    if size < 1 << 16:
        return bytes([head, 126]) + struct.pack(">H", size) + payload
    return bytes([head, 127]) + struct.pack(">Q", size) + payload
