"""Who may come in: limits on connections, the token, and what else is asked of the port."""

from __future__ import annotations

import hmac
import logging
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from robot.server_config import ServerConfig
from robot.server_metrics import Metrics

_LOG = logging.getLogger("robot.server")
_LOG_S = 1.0
_SPARE = 16
"""Connections beyond the limits that may stand at the door: to ask for health, or be told why not.
Those beyond are dropped without a word."""


class Reply(NamedTuple):
    """An answer to a request that is no websocket's."""

    status: HTTPStatus
    text: str


class Refusals:
    """Counts and logs what is refused: each reason once a second at most."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics
        self._logged: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def add(self, reason: str, detail: str) -> None:
        """Something was refused.

        Args:
            reason: one of few, for the metrics.
        """
        self._metrics.refused[reason] += 1
        now = time.monotonic()
        if now - self._logged.get(reason, -_LOG_S) < _LOG_S:
            self._unsaid[reason] += 1
            return
        self._logged[reason] = now
        more = self._unsaid.pop(reason, 0)
        _LOG.warning("refused (%s): %s%s", reason, detail, f" and {more} more" if more else "")


class Door:
    """Counts connections by address, from the first byte to the last."""

    def __init__(self, config: ServerConfig, refusals: Refusals):
        self._limits, self._refusals = config.limits, refusals
        self._token = config.token.strip().encode() if config.token is not None else None
        self._standing: Counter[str] = Counter()
        self._inside: Counter[str] = Counter()

    @property
    def clients(self) -> int:
        """Those who are in."""
        return self._inside.total()

    def arrive(self, address: str) -> bool:
        """Somebody connects; whether to hear them at all. `leave` is due in either case."""
        self._standing[address] += 1
        most, most_here = self._limits.connections, self._limits.per_address
        if self._standing.total() > most + _SPARE or self._standing[address] > most_here + _SPARE:
            self._refusals.add("flood", f"{address} has {self._standing[address]} connections")
            return False
        return True

    def leave(self, address: str) -> None:
        """A connection is gone."""
        _less(self._standing, address)

    def enter(self, address: str, authorization: str | None) -> Reply | None:
        """A client wants to be served: None, or why not. Then `exit` is due."""
        refusal = self.admits(address, authorization)
        if refusal is None and self.clients >= self._limits.connections:
            self._refusals.add("connections", f"{address}: {self.clients} clients are served")
            refusal = Reply(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        if refusal is None and self._inside[address] >= self._limits.per_address:
            self._refusals.add("address", f"{address} has {self._inside[address]} connections")
            refusal = Reply(HTTPStatus.TOO_MANY_REQUESTS, "too many connections of one address\n")
        if refusal is None:
            self._inside[address] += 1
        return refusal

    def page(
        self,
        path: str,
        address: str,
        authorization: str | None,
        ready: bool,
        metrics: Callable[[], str],
    ) -> Reply | None:
        """What is answered to a request for a page; None: it is for none."""
        path = path.partition("?")[0]
        if path == "/healthz":
            return Reply(HTTPStatus.OK, "OK\n")
        if path == "/readyz" and ready:
            return Reply(HTTPStatus.OK, "OK\n")
        if path == "/readyz":
            return Reply(HTTPStatus.SERVICE_UNAVAILABLE, "not ready\n")
        if path == "/metrics":
            return self.admits(address, authorization) or Reply(HTTPStatus.OK, metrics())
        return None

    def exit(self, address: str) -> None:
        """A client is no longer served."""
        _less(self._inside, address)

    def admits(self, address: str, authorization: str | None) -> Reply | None:
        """None if the token is right, or none is needed."""
        if self._token is None:
            return None
        scheme, _, token = (authorization or "").partition(" ")
        known = scheme.lower() in ("api-key", "bearer")
        if hmac.compare_digest(token.strip().encode(errors="replace"), self._token) and known:
            return None
        self._refusals.add("token", f"{address} sent {'a wrong' if token else 'no'} token")
        return Reply(HTTPStatus.UNAUTHORIZED, "send the header Authorization: Api-Key TOKEN\n")


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
