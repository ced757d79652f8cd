"""How a client finds its server, and how long it puts up with it."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ego_ops.errors import UserError


@dataclass(frozen=True)
class ClientConfig:
    """All that a `robot.client.Client` needs.

    Raises:
        UserError: the address is none of a websocket, or a number makes no sense.
    """

    url: str
    """`ws://HOST:PORT`, or `wss://` for TLS."""
    token: str | None = field(default=None, repr=False)
    ca: str | None = None
    """File with the certificates (PEM) that the server's is to be signed by; None: the system's."""
    jpeg: int = 90
    """Quality of the pictures' JPEGs, 1 to 100; 0 sends them as they are. A server that does not
    offer JPEG is sent them as they are."""
    connect_s: float = 5.0
    """For connecting, to the server's first message."""
    ping_s: float = 2.0
    """A server that does not answer a ping for so long is gone. It is for those of the extended
    protocol: openpi's own answers none while its policy computes, and is given a minute."""
    retry_s: tuple[float, float] = (0.1, 2.0)
    """Between attempts to connect: at first, and at most."""
    message_bytes: int = 1 << 24
    """Of an answer, at most."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise UserError(f"server {self.url!r}: must be like ws://gpu:8000, or wss:// for TLS")
        if self.ca is not None and parts.scheme != "wss":
            raise UserError(f"server {self.url!r}: certificates are for wss:// only")
        if not 0 <= self.jpeg <= 100:
            raise UserError(f"jpeg={self.jpeg}: must be a quality from 1 to 100, or 0 for none")
        numbers: dict[str, float] = {
            "connect_s": self.connect_s,
            "ping_s": self.ping_s,
            "retry_s": self.retry_s[0],
        }
        for name, value in {**numbers, "message_bytes": self.message_bytes}.items():
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"{name}={value}: must be more than 0")

    @property
    def headers(self) -> dict[str, str]:
        """Of the websocket's handshake."""
        return {} if self.token is None else {"Authorization": f"Api-Key {self.token}"}

    def tls(self) -> ssl.SSLContext | None:
        """The client's side of TLS; None if there is to be none.

        Raises:
            UserError: the certificates cannot be read.
        """
        if urlsplit(self.url).scheme != "wss":
            return None
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise UserError(f"TLS certificates {self.ca}: {error}") from error
