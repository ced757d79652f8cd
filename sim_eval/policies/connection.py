"""Connections to an openpi websocket server, which come back when the server does.

The protocol: on each connection the server first sends what it says of itself, then answers every
binary message with one. A text message is the traceback of an error, after which it hangs up.
openpi's server computes in its event loop, so it answers no pings meanwhile: none are sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ego_ops.errors import UserError
from sim_eval.policy import PolicyError

PATIENCE_S, ANSWER_S = 30.0, 120.0
_CONNECT_S, _CLOSE_S = 5.0, 1.0
_BACKOFF_S = 0.05, 2.0
_MOST_BYTES = 1 << 26

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Access:
    """How a server lets one in."""

    token: str | None = field(default=None, repr=False)
    """Sent as openpi's clients send it: `Authorization: Api-Key TOKEN`."""
    certificates: str | None = field(default=None, repr=False)
    """PEM, that the server's is to be signed by; None: the system's."""

    @property
    def headers(self) -> dict[str, str]:
        """Of the websocket's handshake."""
        return {} if self.token is None else {"Authorization": f"Api-Key {self.token}"}

    def tls(self, address: str) -> ssl.SSLContext | None:
        """The client's side of TLS; None where the address is not one of it."""
        if not address.startswith("wss://"):
            return None
        return ssl.create_default_context(cadata=self.certificates)


OPEN = Access()


class Connections:
    """As many connections as there are questions at once, made when they are needed.

    Args:
        address: ws:// or wss://.
        patience_s: how long a server may be away, from the first failure to the next answer. Then
            each question fails, after one attempt, until the server is back.
        answer_s: how long an answer may take. openpi's servers compile at their first.
        access: how the server lets one in.
    """

    def __init__(
        self,
        address: str,
        patience_s: float = PATIENCE_S,
        answer_s: float = ANSWER_S,
        access: Access = OPEN,
    ):
        self.address = address
        self._headers, self._tls = access.headers, access.tls(address)
        self._patience_s, self._answer_s = patience_s, answer_s
        self._idle: list[Any] = []
        self._away_since: float | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def metadata(self) -> bytes:
        """What the server says of itself, as sent. Raises PolicyError: it is away."""
        return self._wait(self._first())

    def ask(self, messages: Sequence[bytes]) -> list[bytes | PolicyError]:
        """Answers, each of a connection of its own, or why there is none."""
        return self._wait(self._ask_all(messages))

    def close(self) -> None:
        """Hang up."""
        self._wait(self._hang_up_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _first(self) -> bytes:
        connection, said = await self._connect(None)
        self._idle.append(connection)
        self._away_since = None
        return said

    async def _ask_all(self, messages: Sequence[bytes]) -> list[bytes | PolicyError]:
        return list(await asyncio.gather(*(self._ask(message) for message in messages)))

    async def _hang_up_all(self) -> None:
        await asyncio.gather(*(self._hang_up(connection) for connection in self._idle))

    async def _ask(self, message: bytes) -> bytes | PolicyError:
        from websockets.exceptions import ConnectionClosed

        since: float | None = None
        while True:
            try:
                connection = self._idle.pop() if self._idle else None
                if connection is None:
                    connection, _ = await self._connect(since)
                return await self._answer(connection, message)
            except ConnectionClosed as error:  # it may have died idle: another gets the message
                since = since or time.monotonic()
                if self._given_up(since):
                    return self._gone(error)
                await asyncio.sleep(_BACKOFF_S[0])
            except PolicyError as error:
                return error

    async def _answer(self, connection: Any, message: bytes) -> bytes:
        try:
            async with asyncio.timeout(self._answer_s):
                await connection.send(message)
                answer = await connection.recv()
        except TimeoutError as error:
            connection.transport.abort()  # or the answer would be taken for the next one's
            raise PolicyError(f"{self.address}: no answer in {self._answer_s:g} s") from error
        self._away_since = None
        if isinstance(answer, str):
            await self._hang_up(connection)
            raise PolicyError(f"{self.address}: the server failed: {_last_line(answer)}")
        self._idle.append(connection)
        return answer

    async def _connect(self, since: float | None) -> tuple[Any, bytes]:
        """A new connection, and what the server says of itself.

        Args:
            since: when it was first seen to be away, if it was before.
        """
        from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

        pause = _BACKOFF_S[0]
        while True:
            try:
                return await self._connect_once()
            except (socket.gaierror, InvalidURI) as error:
                raise PolicyError(f"{self.address}: no such address ({error})") from error
            except ssl.SSLCertVerificationError as error:
                raise PolicyError(
                    f"{self.address}: its certificate is not trusted ({error.verify_message}); "
                    "give its authority's with --ca"
                ) from error
            except (OSError, WebSocketException) as error:
                status = error.response.status_code if isinstance(error, InvalidStatus) else 500
                if status in (401, 403):
                    raise PolicyError(
                        f"{self.address}: refused with {status}: is the token right (--token-file)?"
                    ) from error
                since = since or time.monotonic()
                if status < 500 or self._given_up(since):
                    raise self._gone(error) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _BACKOFF_S[1])

    async def _connect_once(self) -> tuple[Any, bytes]:
        from websockets.asyncio.client import connect

        async with asyncio.timeout(_CONNECT_S):
            connection = await connect(
                self.address,
                compression=None,
                max_size=_MOST_BYTES,
                ping_interval=None,
                additional_headers=self._headers,
                ssl=self._tls,
                close_timeout=_CLOSE_S,
            )
            try:
                said = await connection.recv()
            except BaseException:
                connection.transport.abort()
                raise
        if isinstance(said, str):
            await self._hang_up(connection)
            raise PolicyError(f"{self.address}: the server failed: {_last_line(said)}")
        return connection, said

    def _given_up(self, since: float) -> bool:
        """Whether the server has been away for too long."""
        self._away_since = min(since, self._away_since or since)
        return time.monotonic() - self._away_since > self._patience_s

    def _gone(self, error: Exception) -> PolicyError:
        return PolicyError(
            f"{self.address}: no policy server there ({_line(error)}); start it, then run the "
            "same command again"
        )

    @staticmethod
    async def _hang_up(connection: Any) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await connection.close()
        except TimeoutError:  # the other side does not even read
            connection.transport.abort()


def metadata(address: str, patience_s: float = PATIENCE_S, access: Access = OPEN) -> str:
    """A digest of what a server says of itself, hexadecimal.

    Raises:
        PolicyError: none answers there.
        UserError: websockets is not installed.
    """
    try:
        import websockets  # noqa: F401
    except ImportError as error:
        raise UserError("websockets is missing: pip install 'egoscaler-ray[robot]'") from error
    connections = Connections(address, patience_s, access=access)
    try:
        return hashlib.blake2b(connections.metadata(), digest_size=16).hexdigest()
    finally:
        connections.close()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it does not say why"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
