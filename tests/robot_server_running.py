"""A policy server in a thread, a policy that does as its observations say, and a raw client."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from openpi_client import msgpack_numpy
from websockets.sync.client import ClientConnection, connect

from robot.policy import Answer, PolicyError, Request
from robot.server import Server, ServerConfig

SECONDS = 20.0
"""No test waits for longer."""


class Play:
    """Answers with the observation's `x` in each of its (3, 2) actions, whatever is beside it.

    `do` in an observation says what goes wrong with it.
    """

    def __init__(self, batch: int = 4, seconds: float = 0.0, name: str = "play"):
        self.batch, self.seconds, self.name = batch, seconds, name
        self.metadata: Mapping[str, Any] = {"policy": name, "fps": 10.0}
        self.calls: list[list[Request]] = []
        self.forgotten: list[str] = []
        self.threads: set[int] = set()
        self.computing, self.closed = threading.Event(), threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        assert not self.closed.is_set()
        assert 1 <= len(requests) <= self.batch
        self.threads.add(threading.get_ident())
        self.calls.append(list(requests))
        self.computing.set()
        assert self.gate.wait(SECONDS)
        time.sleep(self.seconds)
        for request in requests:
            if request.observation.get("do") == "raise":
                raise RuntimeError("out of\nmemory")
        return [_answer(request) for request in requests]

    def forget(self, client: str) -> None:
        self.threads.add(threading.get_ident())
        self.forgotten.append(client)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed.set()


def _answer(request: Request) -> Any:
    does = request.observation.get("do", "")
    actions = np.full((3, 2), float(request.observation.get("x", 0)), np.float32)
    if does == "nan":
        actions[1, 1] = np.nan
    wrong: dict[str, Any] = {
        "refuse": PolicyError("no state in the message", "bad_request"),
        "list": [[1.0]],
        "flat": Answer(np.zeros(3)),
        "whole": Answer(np.zeros((3, 2), int)),
        "empty": Answer(np.zeros((0, 2))),
        "extra": Answer(actions, {"what": object()}),
    }
    return wrong.get(does, Answer(actions, {"state": np.arange(3.0)}))


class Running:
    """A server in a thread of its own."""

    def __init__(self, policy: Any, **config: Any):
        self.policy, self._config = policy, ServerConfig(port=0, **config)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        self.server = self.do(_made(self.policy, self._config))
        self.port = self.do(self.server.start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(self.policy, Play):
            self.policy.gate.set()
        self.do(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SECONDS)
        self.loop.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.begin(work).result(SECONDS)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """A page's status and text."""
        asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            asking.request(
                "GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )
            answer = asking.getresponse()
            return answer.status, answer.read().decode()
        finally:
            asking.close()

    def metric(self, line: str) -> float:
        """A number of `/metrics`, by all that stands before it; 0 if it is not there."""
        for found in self.server.metrics().splitlines():
            if found.startswith(f"{line} "):
                return float(found.rsplit(" ", 1)[1])
        return 0.0


async def _made(policy: Any, config: ServerConfig) -> Server:
    return Server(policy, config)


class Raw:
    """A client that sends what it is told, encoded by openpi's own package."""

    def __init__(self, running: Running, **options: Any):
        self.socket: ClientConnection = connect(
            f"ws://127.0.0.1:{running.port}", compression=None, max_size=None, proxy=None, **options
        )
        self.metadata = self.hear()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def say(
        self, id: int | None = None, /, ask: Mapping[str, Any] | None = None, **seen: Any
    ) -> None:
        """Send an observation; with an id, as a client of the extended protocol."""
        told = {} if id is None else {"egoscaler": {"id": id, **(ask or {})}}
        self.socket.send(msgpack_numpy.packb({**seen, **told}))

    def hear(self) -> Any:
        found = self.socket.recv(timeout=SECONDS)
        return found if isinstance(found, str) else msgpack_numpy.unpackb(found)

    def told(self) -> tuple[int, float | str]:
        """The next answer's id, and the number that it says or its error's code."""
        answer = self.hear()
        about = answer["egoscaler"]
        error = about.get("error")
        return about["id"], error["code"] if error else float(answer["actions"][0, 0])


def until(true: Callable[[], bool]) -> None:
    """Wait for something."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.005)
