"""The process that a policy is served from."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections import deque
from dataclasses import replace
from typing import Any, NamedTuple

from ego_ops.errors import UserError
from robot.server import Server, ServerConfig
from workflows import served
from workflows.served import Served, Stamp

_WATCH_S, _AGAIN_S = 2.0, 2.0
_LAST_WORDS_S = 1.0
"""For the report that its policy hangs."""
_MOST_SAID = 50


class Place(NamedTuple):
    """Where an actor is."""

    node: str
    """Ray's id."""
    ip: str
    port: int
    """One that nothing listened on."""


class Report(NamedTuple):
    """What an actor tells the command."""

    pid: int
    ip: str
    ready: bool
    said: list[str]
    """What happened since the last report, a line each."""
    metrics: str
    """The server's page of them."""


class ServeActor:
    """A Ray actor. Where its process dies Ray makes it anew, and calls `serve` again.

    Args:
        watch: whether to serve what comes in the policy's place.
    """

    def __init__(self, policy: Served, config: ServerConfig, watch: bool):
        self._served, self._config, self._watch = policy, config, watch
        self._said: deque[str] = deque(maxlen=_MOST_SAID)
        self._reloading, self._ended = asyncio.Lock(), asyncio.Event()
        self._server: Server | None = None
        self._policy: Any = None
        self._stamp: Stamp = ()
        logging.getLogger("robot").addHandler(_Handler(self._said))

    async def place(self, port: int) -> Place:
        """Where it is, and the port to listen on: any that is free for 0.

        Raises:
            UserError: it is taken, or the host is no address of this machine.
        """
        import ray

        node = ray.get_runtime_context().get_node_id()
        return Place(node, ray.util.get_node_ip_address(), _free(self._config.host, port))

    async def serve(self, port: int) -> None:
        """Load the policy and serve it, until `drain` has ended.

        Raises:
            UserError: it cannot be loaded, or the server not begun. In a process that took the
                place of one that died it is tried until it can: the files may be mended.
        """
        import ray

        again = ray.get_runtime_context().was_current_actor_reconstructed
        while not self._ended.is_set():
            try:
                await self._begin(port)
                break
            except UserError as error:
                if not again:
                    raise
                self._said.append(f"cannot serve: {error}")
                await asyncio.sleep(_AGAIN_S)
        tasks = [asyncio.create_task(self._guard())]
        if self._watch:
            tasks.append(asyncio.create_task(self._look()))
        await self._ended.wait()
        for task in tasks:
            task.cancel()

    async def report(self) -> Report:
        """See the class."""
        import ray

        said = [self._said.popleft() for _ in range(len(self._said))]
        server = self._server
        ready, metrics = (server.ready, server.metrics()) if server else (False, "")
        return Report(os.getpid(), ray.util.get_node_ip_address(), ready, said, metrics)

    async def reload(self) -> None:
        """Serve what is in the policy's place now. What came of it is said in the reports."""
        async with self._reloading:
            stamp = served.stamp(self._served)
            try:
                self._said.append(await self._replaced())
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the old one stays
                self._stamp = stamp  # not tried again until it is written again
                what = str(error) if isinstance(error, UserError) else _line(error)
                self._said.append(f"not reloaded, the old policy stays: {what}")

    async def drain(self) -> None:
        """Answer what is under way, then hang up."""
        if self._server is not None:
            await self._server.drain()
        self._ended.set()

    async def _begin(self, port: int) -> None:
        self._policy, self._stamp = await asyncio.to_thread(served.opened, self._served)
        server = Server(self._policy, replace(self._config, port=port))
        try:
            await server.start()
        except UserError:
            self._policy.close()
            raise
        self._server = server
        gc.collect()
        gc.freeze()  # a policy's objects need not be looked at again and again

    async def _replaced(self) -> str:
        if self._served.kind != "checkpoint" or self._server is None:
            raise UserError("only checkpoints that are served can be loaded anew")
        policy, stamp = await asyncio.to_thread(served.opened, self._served)
        try:
            if policy.robot != self._policy.robot:  # type: ignore[attr-defined]
                raise UserError(_differs(self._policy.robot, policy.robot))  # type: ignore[attr-defined]
            await self._server.replace(policy)
        except UserError:
            policy.close()
            raise
        self._policy, self._stamp = policy, stamp
        return f"reloaded: {served.about(policy)}"

    async def _guard(self) -> None:
        """End this process if its policy hangs: no thread can be ended, and Ray starts another."""
        while self._server is not None:
            await self._server.hung.wait()
            await asyncio.sleep(_LAST_WORDS_S)
            if self._server.hung.is_set():
                os._exit(1)

    async def _look(self) -> None:
        """Load what was written in the policy's place, once it is no longer written to."""
        before = self._stamp
        while True:
            await asyncio.sleep(_WATCH_S)
            now = await asyncio.to_thread(served.stamp, self._served)
            if now == before and now != self._stamp:
                await self.reload()
            before = now


class _Handler(logging.Handler):
    """What is logged, among what the actor says."""

    def __init__(self, said: deque[str]):
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        what = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            what += f" ({_line(record.exc_info[1])})"
        self._said.append(what)


def _free(host: str, port: int) -> int:
    """See `ServeActor.place`. Servers that share a port would not notice somebody else's."""
    try:
        kind = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind[0], kind[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(kind[4])
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; give another "
            "--port or --host"
        ) from error


def _differs(old: dict[str, Any], new: dict[str, Any]) -> str:
    changes = [f"{key} {old[key]} there, {new[key]} now" for key in old if old[key] != new[key]]
    return f"it is for another robot ({'; '.join(changes)}): start another server"


def _line(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
