"""A policy behind a websocket: openpi's protocol, and what `robot.protocol` adds to it.

    loop      accepts, reads, decodes, answers `/healthz`, `/readyz` and `/metrics`
    thread    calls the policy, with requests that came together

The policy computes in a thread of its own, so that the loop answers whatever else is asked
meanwhile. Logs to `robot.server`.
"""

from __future__ import annotations

from robot.policy import Policy
from robot.server_config import Limits, ServerConfig

__all__ = ["Limits", "Server", "ServerConfig", "run"]


class Server:
    """A server in the event loop that `start` is called from. All methods are that loop's.

    Args:
        policy: loaded and warmed up. It is the server's from here on: closed by it, called from
            one thread of the server's only. None: `replace` will bring it; until then clients that
            connect wait for their metadata and `/readyz` is 503.
    """

    def __init__(self, policy: Policy | None, config: ServerConfig):
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether requests are answered now: it listens, has a policy and is not draining."""
        raise NotImplementedError

    async def start(self) -> int:
        """Listen. Returns the port.

        Raises:
            UserError: the address is taken or none of this machine's, TLS files cannot be read.
        """
        raise NotImplementedError

    async def replace(self, policy: Policy | None) -> None:
        """Serve another policy, on the connections there are. A call that computes ends on the old
        one, which is then closed; requests that wait are answered by the new one. Returns when the
        old one is closed.

        With None there is no policy for the moment, e.g. where two do not fit into memory: openpi's
        clients wait, others are told `reloading`.
        """
        raise NotImplementedError

    def metrics(self) -> str:
        """What `/metrics` says: Prometheus's text format."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Stop: no new connections or requests, what is under way is answered (for `drain_s` at
        most), then connections are closed with 1001 and the policy is closed. Again: waits, too."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop at once: connections are closed with 1001, the policy once its call has ended."""
        raise NotImplementedError


def run(policy: Policy, config: ServerConfig) -> None:
    """Serve until SIGINT or SIGTERM, then drain. For a process that does nothing else.

    Raises:
        UserError: see `Server.start`.
    """
    raise NotImplementedError
