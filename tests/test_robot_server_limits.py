"""Who is refused by the policy server, what it says of it, and that nobody else notices."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openpi_client")
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosedError, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from ego_ops.errors import UserError
from robot.server import Limits, ServerConfig
from tests.certificates import certificate
from tests.robot_server_running import Play, Raw, Running, until

pytestmark = pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")


def refused(running: Running, reason: str) -> float:
    return running.metric(f'egoscaler_refused_total{{reason="{reason}"}}')


def answers(client: Raw, number: int) -> None:
    client.say(number, x=number)
    assert client.told() == (number, float(number))


def test_token(caplog: pytest.LogCaptureFixture) -> None:
    with Running(Play(), token="secret") as running:
        client = WebsocketClientPolicy("127.0.0.1", running.port, api_key="secret")
        assert client.infer({"x": 3})["actions"][0, 0] == 3
        client._ws.close()
        for right in ("Bearer secret", "bearer secret", "Api-Key secret"):
            with Raw(running, additional_headers={"Authorization": right}) as raw:
                answers(raw, 1)
        wrong = [None, "secret", "Api-Key ", "Api-Key secre", "Api-Key secret2", "Basic secret"]
        for each in [*wrong, "Api-Key s\xe9cret"]:
            headers = {} if each is None else {"Authorization": each}
            with pytest.raises(InvalidStatus) as raised:
                Raw(running, additional_headers=headers)
            assert raised.value.response.status_code == 401
            body = bytes(raised.value.response.body).decode()
            assert body == "send the header Authorization: Api-Key TOKEN\n"
        assert running.get("/healthz") == (200, "OK\n")
        assert running.get("/metrics")[0] == 401
        assert running.get("/metrics", Authorization="Bearer secret")[0] == 200
        assert refused(running, "token") == 8
    lines = [record.getMessage() for record in caplog.records if "token" in record.getMessage()]
    assert 1 <= len(lines) <= 4  # not one for each
    assert lines[0] == "refused (token): 127.0.0.1 sent no token"
    assert "secret" not in caplog.text
    assert "secret" not in repr(ServerConfig(token="secret"))


def test_messages_that_are_too_large(caplog: pytest.LogCaptureFixture) -> None:
    with Running(Play(), limits=Limits(message_bytes=1000)) as running, Raw(running) as good:
        assert good.metadata["egoscaler"]["max_bytes"] == 1000
        with Raw(running) as bad:
            bad.say(1, x=bytes(2000))
            with pytest.raises(ConnectionClosedError) as closed:
                bad.hear()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        with Raw(running) as parts:
            with contextlib.suppress(ConnectionClosedError):  # while it sends, or after
                parts.socket.send(bytes(100) for _ in range(20))  # a frame each
            with pytest.raises(ConnectionClosedError):
                parts.hear()
        answers(good, 1)
        until(lambda: refused(running, "message size") == 2)
    assert "refused (message size): 127.0.0.1" in caplog.text


def opened(running: Running) -> socket.socket:
    """A connection after the websocket's handshake, for bytes of one's own."""
    raw = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    raw.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert raw.recv(1 << 16).startswith(b"HTTP/1.1 101")
    return raw


def ends(raw: socket.socket) -> None:
    """Wait until the server hangs up."""
    try:
        while raw.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    raw.close()


def frame(data: bytes, opcode: int = 2, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    head = bytes([opcode | (0x80 if fin else 0)])
    return head + b"\xff" + struct.pack(">Q", len(data)) + bytes(4) + data


@pytest.mark.parametrize("kind", ["drip", "fragments", "stalled"])
def test_slow_sender(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    sent = frame(bytes(3000))
    with Running(Play(), limits=Limits(message_s=0.5)) as running, Raw(running) as good:
        raw, begun = opened(running), time.monotonic()
        if kind == "stalled":
            raw.sendall(sent[:1000])
        elif kind == "fragments":
            raw.sendall(frame(b"\x81", fin=False))
        else:
            for at in range(200):
                try:
                    raw.sendall(sent[at : at + 1])
                except OSError:
                    break
                time.sleep(0.02)
        ends(raw)
        assert 0.5 <= time.monotonic() - begun < 10
        assert refused(running, "slow sender") == 1
        answers(good, 1)
    assert "a message takes longer than 0.5 s" in caplog.text


def test_who_does_not_send_at_all_may_stay() -> None:
    with Running(Play(), limits=Limits(message_s=0.2)) as running, Raw(running) as quiet:
        answers(quiet, 1)
        time.sleep(0.8)
        answers(quiet, 2)


class Wordy(Play):
    """Its answers are a megabyte."""

    def infer(self, requests: Any) -> Any:
        return [a._replace(extra={"words": bytes(1 << 20)}) for a in super().infer(requests)]


@pytest.mark.parametrize(
    "limits", [Limits(unread_s=0.5), Limits(unread_bytes=1 << 21)], ids=["time", "bytes"]
)
def test_slow_reader(limits: Limits) -> None:
    with Running(Wordy(), limits=limits) as running, Raw(running) as good:
        raw = opened(running)
        asked = frame(msgpack_numpy.packb({"x": 1}))
        try:
            for _ in range(40):
                raw.sendall(asked)
        except OSError:
            pass
        until(lambda: refused(running, "slow reader") == 1)
        ends(raw)
        answers(good, 1)


def test_connections(caplog: pytest.LogCaptureFixture) -> None:
    with Running(Play(), limits=Limits(connections=2, per_address=3)) as running:
        first, second = Raw(running), Raw(running)
        with pytest.raises(InvalidStatus) as raised:
            Raw(running)
        assert raised.value.response.status_code == 503
        assert running.get("/healthz") == (200, "OK\n")
        second.socket.close()
        until(lambda: running.metric("egoscaler_connections") == 1)
        with Raw(running) as third:
            answers(third, 1)
        first.socket.close()
        assert refused(running, "connections") == 1
    assert "refused (connections): 127.0.0.1: 2 clients are served" in caplog.text


def test_connections_of_one_address() -> None:
    with Running(Play(), limits=Limits(per_address=2)) as running:
        with Raw(running), Raw(running) as second:
            with pytest.raises(InvalidStatus) as raised:
                Raw(running)
            assert raised.value.response.status_code == 429
            answers(second, 1)
        assert refused(running, "address") == 1


def test_flood_of_connections_that_say_nothing() -> None:
    limits = Limits(per_address=4, handshake_s=1.0)
    with Running(Play(), limits=limits) as running, Raw(running) as good:
        silent = [
            socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(200)
        ]
        until(lambda: refused(running, "flood") >= 50)
        answers(good, 1)
        for each in silent:
            ends(each)
        until(lambda: running.server._door._standing.total() == 1)
        assert refused(running, "flood") + refused(running, "handshake") == 200
        assert refused(running, "handshake") >= 19
        with Raw(running) as late:
            answers(late, 2)


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_what_is_no_websocket(sent: bytes) -> None:
    with Running(Play()) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as raw:
            raw.sendall(sent)
            ends(raw)
        until(lambda: refused(running, "handshake") == 1)
        with Raw(running) as good:
            answers(good, 1)


def test_rate() -> None:
    with Running(Play(), limits=Limits(rate=20.0, in_flight=50)) as running:
        with Raw(running) as client:
            for number in range(35):
                client.say(number, x=number)
            found = dict(client.told() for _ in range(35))
            busy = [number for number, said in found.items() if said == "busy"]
            assert busy
            assert min(busy) >= 20
            assert refused(running, "busy") == len(busy)
        with Raw(running) as theirs:  # they know no refusals: they are read more slowly
            begun = time.monotonic()
            for number in range(30):
                theirs.say(x=number)
            for number in range(30):
                assert theirs.hear()["actions"][0, 0] == number
            assert time.monotonic() - begun > 0.4


def test_all_requests_together() -> None:
    """Beyond the budget of memory our clients are told `busy` and openpi's wait, until there is
    room: also that of a client who has gone."""
    play, large = Play(), np.zeros(60_000, np.uint8)
    limits = Limits(request_bytes=100_000)
    with (
        Running(play, limits=limits) as running,
        Raw(running) as one,
        Raw(running) as two,
        Raw(running) as theirs,
    ):
        play.gate.clear()
        one.say(1, x=1, large=large)
        until(play.computing.is_set)
        two.say(2, x=2, large=large)
        assert two.told() == (2, "busy")
        two.say(3, x=3)  # there is room for a small one
        theirs.say(x=4, large=large)
        one.socket.socket.close()
        play.gate.set()
        assert two.told() == (3, 3.0)
        assert theirs.hear()["actions"][0, 0] == 4
        two.say(5, x=5, large=large)
        assert two.told() == (5, 5.0)
        two.say(6, x=6, large=np.zeros(300_000, np.uint8))  # one is always taken
        assert two.told() == (6, 6.0)
        assert refused(running, "busy") == 1


def test_a_policy_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    play = Play()
    with Running(play, limits=Limits(infer_s=0.5)) as running, Raw(running) as client:
        answers(client, 1)
        play.gate.clear()
        client.say(2, x=2)
        client.say(3, x=3)  # is asked with it, or waits behind it
        assert {client.told(), client.told()} == {(2, "policy_error"), (3, "policy_error")}
        assert running.get("/readyz")[0] == 503
        assert running.get("/healthz")[0] == 200
        client.say(4, x=4)
        assert client.told() == (4, "policy_error"), "who asks later is not kept waiting"
        play.gate.set()
        until(lambda: running.get("/readyz")[0] == 200)
        answers(client, 5)
    said = [record.getMessage() for record in caplog.records]
    assert said.count("the policy hangs: a call of it takes longer than 0.5 s") == 1


def test_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with Running(Play(), tls_cert=cert, tls_key=key) as running:
        trusted = ssl.create_default_context(cafile=cert)
        with connect(f"wss://127.0.0.1:{running.port}", ssl=trusted, proxy=None) as client:
            assert msgpack_numpy.unpackb(client.recv(20))["policy"] == "play"
            client.send(msgpack_numpy.packb({"x": 4, "image": np.zeros((224, 224, 3), np.uint8)}))
            assert msgpack_numpy.unpackb(client.recv(20))["actions"][0, 0] == 4
        with pytest.raises((InvalidMessage, OSError)):
            Raw(running)


def test_tls_files_that_will_not_do(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    (tmp_path / "other").mkdir()
    _, stranger = certificate(tmp_path / "other")
    none, locked = str(tmp_path / "none"), tmp_path / "locked.pem"
    secret = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    form, lock = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    locked.write_bytes(secret.private_bytes(serialization.Encoding.PEM, form, lock))
    for files, said in (
        ((none, key), f"TLS certificate {none}: No such file"),
        ((cert, none), f"TLS key {none}: No such file"),
        ((cert, str(tmp_path)), f"TLS key {tmp_path}: Is a directory"),
        ((cert, cert), f"TLS certificate {cert} and key {cert}: "),
        ((key, cert), f"TLS certificate {key} and key {cert}: "),
        ((cert, stranger), "the key that it was made for"),
        ((cert, str(locked)), f"TLS key {locked}: it is encrypted"),
    ):
        with pytest.raises(UserError, match=said):
            ServerConfig(tls_cert=files[0], tls_key=files[1]).tls()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"tls_cert": "x"}, "TLS needs both"),
        ({"token": " "}, "the token is empty"),
        ({"budget_ms": -1}, "budget_ms is -1"),
        ({"limits": Limits(rate=0)}, "limits.rate is 0"),
    ],
)
def test_settings_that_make_no_sense(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ServerConfig(**config)


def test_refusals_are_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with Running(Play(), token="t") as running:
        for _ in range(20):
            with pytest.raises(InvalidStatus):
                Raw(running)
        time.sleep(1.0)
        with pytest.raises(InvalidStatus):
            Raw(running)
    lines = [r.getMessage() for r in caplog.records if r.name == "robot.server"]
    assert len(lines) <= 5
    assert "more" in lines[-1]


def test_flood_of_tls_connections_that_never_shake_hands(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = certificate(tmp_path)
    limits = Limits(per_address=4, handshake_s=1.0)
    trusted = ssl.create_default_context(cafile=cert)
    with Running(Play(), tls_cert=cert, tls_key=key, limits=limits) as running:
        url = f"wss://127.0.0.1:{running.port}"
        with connect(url, ssl=trusted, proxy=None) as good:
            good.recv(20)
            place = ("127.0.0.1", running.port)
            silent = [socket.create_connection(place, timeout=20) for _ in range(100)]
            for each in silent:
                ends(each)
            until(lambda: running.server._door._standing.total() == 1)
            assert refused(running, "flood") + refused(running, "tls") == 100
            assert refused(running, "tls") >= 19
            good.send(msgpack_numpy.packb({"x": 4}))
            assert msgpack_numpy.unpackb(good.recv(20))["actions"][0, 0] == 4
    assert "no TLS handshake (none within 1 s)" in caplog.text
