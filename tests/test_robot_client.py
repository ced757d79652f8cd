"""The client, with the real server, one of openpi's protocol only, and a network that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.sync.server import Server as PlainServer
from websockets.sync.server import ServerConnection, serve

pytest.importorskip("openpi_client")
from openpi_client import msgpack_numpy

from ego_ops.errors import UserError
from robot.client import Client, ClientConfig, Reply
from tests.robot_network import Relay
from tests.robot_server_running import SECONDS, Play, Running, until
from tests.test_robot_server_limits import certificate

PICTURE = np.full((64, 64, 3), [200, 100, 50], np.uint8)


class Asking:
    """A client, and what it was told."""

    def __init__(self, port: int, scheme: str = "ws", **config: Any):
        self.client = Client(ClientConfig(f"{scheme}://127.0.0.1:{port}", **config))
        self.replies = SimpleQueue[Reply]()

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()

    def ask(self, within: float = SECONDS, ask: dict[str, Any] | None = None, **seen: Any) -> int:
        return self.client.ask(seen, self.replies.put, within, **(ask or {}))

    def reply(self) -> Reply:
        return self.replies.get(timeout=SECONDS)

    def value(self) -> float | str:
        """The next reply's number, or its error's code."""
        found = self.reply()
        if found.error:
            return found.error[0]
        assert found.actions is not None
        return float(found.actions[0, 0])


@pytest.fixture
def running() -> Iterator[Running]:
    with Running(Play()) as found:
        yield found


def test_answers_pictures_and_what_they_say(running: Running) -> None:
    with Asking(running.port) as asking:
        assert asking.client.wait(SECONDS)["policy"] == "play"
        ids = [asking.ask(x=number, images={"base": PICTURE}, prompt="lift") for number in (1, 2)]
        found = [asking.reply(), asking.reply()]
        assert [reply.id for reply in found] == ids
        for reply, number in zip(found, (1, 2), strict=True):
            np.testing.assert_array_equal(reply.actions, np.full((3, 2), number))
            assert reply.message["told"]["id"] == reply.id
            np.testing.assert_array_equal(reply.message["state"], [0, 1, 2])
            assert reply.asked <= reply.heard
        asking.ask(x=3, ask={"reset": True}, do="refuse")
        error = asking.reply().error
        assert error == ("bad_request", "no state in the message")
        asking.ask(ask={"reset": True})
        assert asking.reply()[1:4:2] == (None, None)
        assert asking.client.counts == {
            "connections": 1, "asked": 4, "answered": 3, "bad_request": 1,
        }  # fmt: skip
    requests = [request for call in running.policy.calls for request in call]
    assert [request.fresh for request in requests] == [True, False, True]
    shown = requests[0].observation["images"]["base"]
    assert shown.shape == PICTURE.shape
    assert np.abs(shown.astype(int) - PICTURE).max() < 8, "a JPEG of it, colours in order"


def test_pictures_as_they_are(running: Running) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    with Asking(running.port, jpeg=0) as asking:
        asking.client.wait(SECONDS)
        asking.ask(x=1, image=noise)
        assert asking.value() == 1.0
    np.testing.assert_array_equal(running.policy.calls[0][0].observation["image"], noise)


def test_deadlines_and_late_answers(running: Running) -> None:
    """Who asks is told in time; the answer that comes after that is dropped and counted."""
    with Asking(running.port) as asking:
        asking.client.wait(SECONDS)
        running.policy.gate.clear()
        began = time.monotonic()
        asking.ask(0.2, x=1)
        assert asking.value() == "deadline"
        assert 0.2 <= time.monotonic() - began < 5
        running.policy.gate.set()
        asking.ask(x=2)
        assert asking.value() == 2.0
        until(lambda: asking.client.counts["late"] == 1)
        assert asking.replies.empty()


def test_doubled_reordered_and_malformed_answers(running: Running) -> None:
    """Each request has one reply, its own; the connection stays."""
    with Relay(running.port) as relay, Asking(relay.port) as asking:
        asking.client.wait(SECONDS)
        relay.change = lambda message: [(0.0, message), (0.0, message)]
        asking.ask(x=1)
        assert asking.value() == 1.0
        until(lambda: asking.client.counts["duplicate"] == 1)
        held = iter([0.4, 0.0])
        relay.change = lambda message: [(next(held), message)]
        first, second = asking.ask(x=2), asking.ask(x=3)
        found = [asking.reply(), asking.reply()]
        assert [reply.id for reply in found] == [second, first]
        assert [reply.actions[0, 0] for reply in found if reply.actions is not None] == [3, 2]
        garbage = [b"", b"\xc1", b"\x93\x01\x02\x03", msgpack.packb({"actions": 1})]
        garbage += [msgpack.packb({"egoscaler": {"id": 99}}), b"\x85" * 100]
        for data in garbage:
            relay.change = lambda message, data=data: [(0.0, data)]
            asking.ask(0.3, x=4)
            assert asking.value() == "deadline"
        assert asking.client.counts["malformed"] == 5
        assert asking.client.counts["unknown"] == 1
        nan = {"egoscaler": {"id": 10}, "actions": np.full((2, 2), np.nan)}
        relay.change = lambda message: [(0.0, msgpack_numpy.packb(nan))]
        assert asking.ask(x=5) == 10
        assert asking.value() == "malformed"
        relay.change = lambda message: [(0.0, message)]
        asking.ask(x=6)
        assert asking.value() == 6.0
        assert asking.client.counts["connections"] == 1
        assert asking.replies.empty()


def test_connections_that_break_or_fall_silent(running: Running) -> None:
    """What was under way is replied to, and the client connects again."""
    with Relay(running.port) as relay, Asking(relay.port, ping_s=0.3) as asking:
        asking.client.wait(SECONDS)
        running.policy.gate.clear()
        asking.ask(x=1)
        until(running.policy.computing.is_set)
        relay.sever()
        assert asking.value() == "lost"
        running.policy.gate.set()
        until(lambda: not asking.client.problem)
        asking.ask(x=2)
        assert asking.value() == 2.0
        relay.cut = True
        asking.ask(x=3)
        assert asking.value() == "lost"
        asking.ask(x=4)
        assert asking.value() == "offline"
        relay.cut = False
        until(lambda: not asking.client.problem)
        asking.ask(x=5)
        assert asking.value() == 5.0
        assert asking.client.counts["connections"] == 3


def test_a_server_that_comes_later() -> None:
    """Asking does not wait for it; neither does closing."""
    with Running(Play()) as running:
        port = running.port
    with Asking(port) as asking:
        began = time.monotonic()
        for _ in range(100):
            asking.ask(x=1)
        assert time.monotonic() - began < 1
        assert {asking.value() for _ in range(100)} == {"offline"}
        with pytest.raises(UserError, match=f"127.0.0.1:{port}: "):
            asking.client.wait(0.2)
    asking.client.close()
    asking.ask(x=1)
    assert asking.value() == "closed"


def test_closing_replies_to_what_is_under_way(running: Running) -> None:
    before = threading.active_count()
    with Asking(running.port) as asking:
        asking.client.wait(SECONDS)
        running.policy.gate.clear()
        asking.ask(x=1)
        until(running.policy.computing.is_set)
    assert asking.value() == "closed"
    running.policy.gate.set()
    until(lambda: threading.active_count() <= before + 1)


def test_tokens() -> None:
    with Running(Play(), token="open sesame") as running:
        with Asking(running.port, token="wrong") as asking:
            began = time.monotonic()
            with pytest.raises(UserError, match="refused with 401: is the token right"):
                asking.client.wait(SECONDS)
            assert time.monotonic() - began < 10
        with Asking(running.port, token="open sesame") as asking:
            asking.client.wait(SECONDS)
            asking.ask(x=1)
            assert asking.value() == 1.0


def test_tls(tmp_path: Path) -> None:
    """A server is talked to if its certificate is right."""
    cert, key = certificate(tmp_path)
    with Running(Play(), tls_cert=cert, tls_key=key) as running:
        with Asking(running.port, "wss", ca=cert) as asking:
            asking.client.wait(SECONDS)
            asking.ask(x=1)
            assert asking.value() == 1.0
        with (
            Asking(running.port, "wss") as asking,
            pytest.raises(UserError, match="certificate verify failed"),
        ):
            asking.client.wait(2.0)


class Openpi:
    """As openpi's server: one message after another, no ids; `x` of 0 fails as it does there."""

    def __init__(self) -> None:
        self.gate, self.seen = threading.Event(), list[Any]()
        self.gate.set()
        self._server: PlainServer = serve(self._talk, "127.0.0.1", 0, compression=None)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Openpi:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join(SECONDS)

    def _talk(self, connection: ServerConnection) -> None:
        connection.send(msgpack_numpy.packb({"model": "plain"}))
        for data in connection:
            seen = msgpack_numpy.unpackb(data)
            self.seen.append(seen)
            self.gate.wait(SECONDS)
            if seen["x"] == 0:
                connection.send("Traceback (most recent call last):\n  ...\nKeyError: 'state'")
                connection.close(1011, "Internal server error.")
                return
            actions = np.full((3, 2), float(seen["x"]))
            timing = {"infer_ms": 1.0}
            connection.send(msgpack_numpy.packb({"actions": actions, "server_timing": timing}))


def test_a_server_of_openpis_protocol_only() -> None:
    with Openpi() as server, Asking(server.port) as asking:
        assert asking.client.wait(SECONDS) == {"model": "plain"}
        assert asking.client.offer is None
        asking.ask(x=1, image=PICTURE, ask={"reset": True, "prefix": np.zeros((1, 2))})
        assert asking.value() == 1.0
        assert set(server.seen[0]) == {"x", "image"}
        np.testing.assert_array_equal(server.seen[0]["image"], PICTURE)
        server.gate.clear()
        asking.ask(0.3, x=2)
        asking.ask(x=3)
        assert [asking.value(), asking.value()] == ["busy", "deadline"]
        asking.ask(x=4)
        assert asking.value() == "busy", "the answer to 2 is still to come"
        server.gate.set()
        until(lambda: asking.client.counts["late"] == 1)
        asking.ask(x=5)
        assert asking.value() == 5.0
        asking.ask(x=0)
        error = asking.reply().error
        assert error is not None
        assert error[0] == "policy_error"
        assert "KeyError: 'state'" in error[1]
        until(lambda: asking.client.counts["connections"] == 2)
        asking.ask(x=6)
        assert asking.value() == 6.0


@pytest.mark.parametrize(
    "config",
    [{"url": "http://a"}, {"url": "ws://a", "ca": "b"}, {"url": "ws://a", "jpeg": 101},
     {"url": "ws://a", "ping_s": 0.0}, {"url": "wss://a", "ca": "/no/such"}],
)  # fmt: skip
def test_what_is_no_configuration(config: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Client(ClientConfig(**config))
