"""How a server listens, and what it puts up with."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from ego_ops.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What a client may do. Whoever goes beyond is refused, counted in `/metrics` and logged."""

    connections: int = 64
    """Clients at once."""
    per_address: int = 32
    """Of them, from one address."""
    in_flight: int = 8
    """Requests of one connection at once."""
    rate: float = 200.0
    """Requests a second of one connection, for longer than a second."""
    message_bytes: int = 1 << 24
    handshake_s: float = 5.0
    """From connecting to the end of the websocket's handshake, TLS counted."""
    message_s: float = 10.0
    """From a message's first byte to its last."""
    unread_s: float = 10.0
    """How long a client may leave answers unread that fill its connection."""
    unread_bytes: int = 1 << 22
    """Of answers that wait for a client to read them."""
    request_bytes: int = 1 << 28
    """Of all clients' requests that are not answered yet, decoded: beyond, openpi's clients wait
    and others are told `busy`. One request is always taken."""
    infer_s: float = 60.0
    """A call of the policy that takes longer hangs: it is given up, and the server no longer
    ready."""


@dataclass(frozen=True)
class ServerConfig:
    """All that a `robot.server.Server` needs besides the policy. It can be pickled.

    Raises:
        UserError: a number that makes no sense, half of a TLS certificate.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    """0 is any free one: `Server.start` returns it."""
    token: str | None = field(default=None, repr=False)
    """What clients must send, `Authorization: Api-Key TOKEN` or `Bearer TOKEN`. None: nothing."""
    tls_cert: str | None = None
    """File of the certificate chain (PEM)."""
    tls_key: str | None = None
    budget_ms: float = 5.0
    """How long a request waits at most for others to be answered with it. It waits only for clients
    that ask again as soon as they are answered; a lone client never waits."""
    drain_s: float = 10.0
    """How long `Server.drain` waits for what is under way."""
    reuse_port: bool = False
    """Whether several processes may listen on one port; the kernel shares out connections."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UserError("TLS needs both: a certificate (tls_cert) and its key (tls_key)")
        if self.token is not None and not self.token.strip():
            raise UserError("the token is empty")
        numbers = {"budget_ms": self.budget_ms, "drain_s": self.drain_s}
        for name, value in numbers.items():
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} is {value}: it must be a number, 0 or more")
        for name, value in vars(self.limits).items():
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"limits.{name} is {value}: it must be more than 0")

    def tls(self) -> ssl.SSLContext | None:
        """The server's side of TLS 1.2 or newer; None if there is to be none.

        Raises:
            UserError: the files cannot be read, or are no certificate and its key.
        """
        if self.tls_cert is None or self.tls_key is None:
            return None
        for what, path in (("certificate", self.tls_cert), ("key", self.tls_key)):
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise UserError(f"TLS {what} {path}: {error.strerror}") from error
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key, self._password)
        except ssl.SSLError as error:
            line = " ".join(str(error).split())
            raise UserError(
                f"TLS certificate {self.tls_cert} and key {self.tls_key}: {line}; give a PEM "
                "certificate, its chain after it, and the key that it was made for"
            ) from error
        return context

    def _password(self) -> str:
        """OpenSSL would ask for it on the terminal, where nobody may be."""
        raise UserError(
            f"TLS key {self.tls_key}: it is encrypted; give one that is not, readable by this user "
            f"only: openssl pkey -in {self.tls_key} -out plain.pem"
        )
