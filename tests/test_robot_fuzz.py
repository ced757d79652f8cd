"""Thousands of messages that make no sense: each ends in a message or in one error, and the server
that is sent them goes on as if nothing had been."""

from __future__ import annotations

import contextlib
import gc
import socket
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("openpi_client")
from openpi_client import msgpack_numpy
from websockets.exceptions import ConnectionClosed

from robot.encoding import EncodingError, unpack
from robot.policy import Answer, PolicyError, Request
from robot.protocol import CODES
from robot.server import Limits
from tests.robot_messages import good, mutated, stream
from tests.robot_server_running import Play, Raw, Running, until
from tests.test_robot_encoding import same

pytestmark = pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
DECODED = 12_000


class Forgetful(Play):
    """Keeps nothing of what it is asked."""

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        answers = super().infer(requests)
        self.calls.clear()
        return answers

    def forget(self, client: str) -> None:
        return


def test_any_bytes_are_a_message_or_one_error() -> None:
    """And the message is the one that openpi's package reads from them."""
    read = 0
    for data in stream(DECODED, seed=1):
        try:
            found = unpack(data)
        except EncodingError:
            continue
        read += 1
        if b"__jpeg__" not in data:
            assert same(found, msgpack_numpy.unpackb(data))
    assert DECODED / 20 < read < DECODED / 2


@pytest.mark.parametrize(
    ("count", "seed"), [(400, 2), pytest.param(10_000, 3, marks=pytest.mark.slow)]
)
def test_over_the_wire(count: int, seed: int) -> None:
    """Every message has one answer, or ends its connection with a line that says why."""
    limits = Limits(rate=1e6, in_flight=64)
    with Running(Forgetful(), limits=limits) as running, Raw(running) as bystander:
        messages = stream(count, seed)
        tracemalloc.start()
        _fuzz(running, messages[: count // 4])
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        outcomes = _fuzz(running, messages[count // 4 :])
        until(lambda: running.metric("egoscaler_connections") == 1)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < 200_000, grown
        assert outcomes["answer"] > 0
        assert outcomes["closed"] > count / 4
        assert running.metric("egoscaler_queue") == 0
        assert running.metric("egoscaler_requests_under_way") == 0
        bystander.say(1, x=1)
        assert bystander.told() == (1, 1.0)
        assert running.get("/healthz") == (200, "OK\n")


def _fuzz(running: Running, messages: list[bytes]) -> dict[str, int]:
    outcomes = {"answer": 0, "closed": 0}
    client = Raw(running)
    for message in messages:
        client.socket.send(message)
        answer = client.hear()
        if isinstance(answer, dict):
            outcomes["answer"] += 1
            error = answer.get("egoscaler", {}).get("error")
            assert error is None or error["code"] in CODES
            continue
        assert "\n" not in answer
        with pytest.raises(ConnectionClosed) as closed:
            client.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1007, 1011)
        outcomes["closed"] += 1
        client.socket.close()
        client = Raw(running)
    client.socket.close()
    return outcomes


@pytest.mark.parametrize(
    ("count", "seed"), [(150, 4), pytest.param(3000, 5, marks=pytest.mark.slow)]
)
def test_bytes_that_are_no_websocket(count: int, seed: int) -> None:
    """Handshakes and frames that are damaged, cut off or of chance."""
    chance = np.random.default_rng(seed)
    shake = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    message = good()[1]
    frame = b"\x82\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message
    limits = Limits(handshake_s=1.0, message_s=1.0)
    with Running(Play(), limits=limits) as running, Raw(running) as bystander:
        for number in range(count):
            if number % 3 == 0:
                sent = mutated(shake, chance)
            elif number % 3 == 1:
                sent = shake + mutated(frame, chance)
            else:
                sent = shake + chance.bytes(int(chance.integers(1, 200)))
            _sent(running.port, sent)
        until(lambda: running.metric("egoscaler_connections") == 1)
        until(lambda: running.server._door._standing.total() == 1)
        bystander.say(1, x=1)
        assert bystander.told() == (1, 1.0)
        assert running.get("/readyz") == (200, "OK\n")


def _sent(port: int, data: bytes) -> None:
    """Send some bytes, and wait until the server hangs up."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
    ):
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(1 << 16):
            pass
