"""The policy server, asked by openpi's own client and by clients of the extended protocol."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("openpi_client")
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from ego_ops.errors import UserError
from robot.encoding import picture
from robot.server import Server, ServerConfig
from tests.robot_server_running import Play, Raw, Running, until

pytestmark = pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
PICTURE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)


@pytest.fixture
def running() -> Iterator[Running]:
    with Running(Play()) as found:
        yield found


def test_openpis_client_is_answered(running: Running) -> None:
    client = WebsocketClientPolicy("127.0.0.1", running.port)
    told = client.get_server_metadata()
    assert (told["policy"], told["egoscaler"]["version"]) == ("play", 1)
    assert told["egoscaler"]["features"] == ["reset", "deadline", "jpeg"]
    assert (told["egoscaler"]["batch"], told["egoscaler"]["fps"]) == (4, 10.0)
    for number in range(3):
        seen = {"x": number, "observation/image": PICTURE, "prompt": "lift", "n": {"y": [1, None]}}
        answer = client.infer(seen)
        np.testing.assert_array_equal(answer["actions"], np.full((3, 2), number, np.float32))
        assert answer["actions"].dtype == np.float32
        np.testing.assert_array_equal(answer["state"], [0.0, 1.0, 2.0])
        assert set(answer) == {"actions", "state", "server_timing"}
        timing = {"infer_ms"} if number == 0 else {"infer_ms", "prev_total_ms"}
        assert set(answer["server_timing"]) == timing
    for (request,) in running.policy.calls:
        np.testing.assert_array_equal(request.observation["observation/image"], PICTURE)
        assert request.observation["prompt"] == "lift"
        assert request.observation["n"] == {"y": [1, None]}
    assert [request.fresh for (request,) in running.policy.calls] == [True, False, False]
    client._ws.close()
    until(lambda: running.policy.forgotten == [running.policy.calls[0][0].client])
    assert len(running.policy.threads) == 1
    assert threading.get_ident() not in running.policy.threads


def test_openpis_broker_plays_chunks(running: Running) -> None:
    client = WebsocketClientPolicy("127.0.0.1", running.port)
    broker = ActionChunkBroker(client, action_horizon=3)
    for number in range(7):
        answer = broker.infer({"x": number})
        np.testing.assert_array_equal(answer["actions"], np.full(2, number // 3 * 3))
    assert len(running.policy.calls) == 3
    client._ws.close()


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("refuse", "no state in the message"),
        ("raise", "the policy failed: RuntimeError: out of memory"),
        ("nan", "action 1, number 1 is not finite"),
        ("list", "no Answer but list"),
        ("flat", "shape"),
        ("whole", "no array of floats"),
        ("empty", "shape"),
        ("extra", "object has no form in the protocol"),
    ],
)
def test_errors(running: Running, does: str, said: str) -> None:
    """openpi's clients are told as openpi does; others keep their connection."""
    with Raw(running) as other:
        other.say(1, x=1)
        assert other.told() == (1, 1.0)
        client = WebsocketClientPolicy("127.0.0.1", running.port)
        with pytest.raises(RuntimeError, match="Error in inference server:\n") as raised:
            client.infer({"do": does})
        assert said in str(raised.value)
        assert "Traceback" not in str(raised.value)
        with pytest.raises(ConnectionClosedError) as closed:
            client.infer({"x": 1})
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
        assert closed.value.rcvd.reason.startswith("Internal server error.")
        other.say(2, do=does)
        error = other.hear()["egoscaler"]
        assert error["id"] == 2
        assert error["error"]["code"] == ("bad_request" if does == "refuse" else "policy_error")
        assert said in error["error"]["message"]
        other.say(3, x=3)
        assert other.told() == (3, 3.0)


def test_ids_stages_and_reset(running: Running) -> None:
    with Raw(running) as client:
        client.say(7, x=1)
        answer = client.hear()
        told = answer["egoscaler"]
        assert (told["id"], told["batch"]) == (7, 1)
        assert 0 <= told["queue_ms"] <= told["total_ms"]
        assert 0 <= told["infer_ms"] <= told["total_ms"]
        client.say(8, x=2)
        assert client.told() == (8, 2.0)
        client.say(9, {"reset": True})
        assert client.hear() == {"egoscaler": {"id": 9}}
        client.say(10, x=3)
        client.say(11, {"reset": True}, x=4)
        assert {client.told(), client.told()} == {(10, 3.0), (11, 4.0)}
    asked = [request for call in running.policy.calls for request in call]
    assert [request.fresh for request in asked] == [True, False, True, True]
    assert all("egoscaler" not in request.observation for request in asked)


def test_prefix_and_jpeg_reach_the_policy(running: Running) -> None:
    smooth = cv2.GaussianBlur(PICTURE, (0, 0), 8)
    jpeg = cv2.imencode(".jpg", smooth[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    prefix = np.arange(8, dtype=np.float32).reshape(4, 2)
    with Raw(running) as client:
        client.say(1, {"prefix": prefix, "delay": 3}, image=picture(jpeg))
        assert client.told() == (1, 0.0)
    ((request,),) = running.policy.calls
    np.testing.assert_array_equal(request.prefix, prefix)
    assert request.delay == 3
    seen = request.observation["image"]
    assert (seen.shape, seen.dtype) == ((224, 224, 3), np.uint8)
    assert np.abs(seen.astype(int) - smooth).mean() < 2


@pytest.mark.parametrize(
    "ask",
    [
        {},
        {"id": -1},
        {"id": "1"},
        {"id": True},
        {"id": 1.5},
        {"id": 1, "deadline_ms": 0},
        {"id": 1, "deadline_ms": float("nan")},
        {"id": 1, "deadline_ms": "5"},
        {"id": 1, "reset": 1},
        {"id": 1, "delay": 1},
        {"id": 1, "delay": -1},
        {"id": 1, "prefix": [[1.0]]},
        {"id": 1, "prefix": np.array([[np.inf]])},
        {"id": 1, "prefix": np.zeros(3)},
        [],
        None,
    ],
    ids=repr,
)
def test_bad_requests_are_answered(running: Running, ask: object) -> None:
    with Raw(running) as client:
        client.say(x=1, egoscaler=ask)
        error = client.hear()["egoscaler"]
        assert error["error"]["code"] == "bad_request"
        assert "\n" not in error["error"]["message"]
        client.say(5, x=2)
        assert client.told() == (5, 2.0)
    assert len(running.policy.calls) == 1


@pytest.mark.parametrize("sent", [b"\xc1", b"", b"\x93\x01", "text", b"\x80\x80"])
def test_what_cannot_be_decoded_ends_the_connection(running: Running, sent: bytes | str) -> None:
    with Raw(running) as good, Raw(running) as bad:
        bad.socket.send(sent)
        assert isinstance(bad.hear(), str)
        with pytest.raises(ConnectionClosedError) as closed:
            bad.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007
        good.say(1, x=1)
        assert good.told() == (1, 1.0)
    assert running.metric('egoscaler_refused_total{reason="encoding"}') == 1


def test_health_ready_and_metrics_while_it_infers() -> None:
    with Running(None) as running:
        assert running.get("/healthz") == (200, "OK\n")
        assert running.get("/readyz") == (503, "not ready\n")
        early: list[Raw] = []
        waiting = threading.Thread(target=lambda: early.append(Raw(running)))
        waiting.start()
        until(lambda: running.server._door.clients == 1)
        policy = Play()
        running.do(running.server.replace(policy))
        waiting.join()
        assert running.get("/readyz") == (200, "OK\n")
        policy.gate.clear()
        with early[0] as client:
            client.say(1, x=1)
            until(policy.computing.is_set)
            assert running.get("/healthz") == (200, "OK\n")
            assert Raw(running).metadata["policy"] == "play"
            status, page = running.get("/metrics")
            assert status == 200
            assert "egoscaler_requests_under_way 1\n" in page
            policy.gate.set()
            assert client.told() == (1, 1.0)
        page = running.get("/metrics")[1]
        assert 'egoscaler_requests_total{code="ok"} 1\n' in page
        assert 'egoscaler_stage_seconds_count{stage="total"} 1\n' in page
        assert "egoscaler_batch_requests_sum 1\n" in page


def test_metrics_are_prometheus(running: Running) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    with Raw(running) as client:
        client.say(1, x=1)
        client.hear()
        client.say(2, do="raise")
        client.hear()
    found = {f.name: f for f in parser.text_string_to_metric_families(running.server.metrics())}
    outcomes = {s.labels["code"]: s.value for s in found["egoscaler_requests"].samples}
    assert outcomes == {"ok": 1, "policy_error": 1}
    assert found["egoscaler_stage_seconds"].type == "histogram"
    sizes = [s.value for s in found["egoscaler_batch_requests"].samples if "bucket" in s.name]
    assert sizes == [2.0] * len(sizes)


def test_an_address_that_cannot_be_listened_on(running: Running) -> None:
    for config in (ServerConfig(port=running.port), ServerConfig(host="192.0.2.1", port=0)):
        with pytest.raises(UserError, match=f"cannot listen on {config.host}:{config.port}"):
            running.do(_begun(config))


async def _begun(config: ServerConfig) -> int:
    return await Server(Play(), config).start()


def test_a_process_that_serves_until_it_is_told_to_end() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    code = (
        "from robot.server import ServerConfig, run\n"
        "from tests.robot_server_running import Play\n"
        f"run(Play(), ServerConfig(port={port}))\n"
    )
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE
    ) as process:
        try:
            until(lambda: process.poll() is not None or _listens(port))
            client = WebsocketClientPolicy("127.0.0.1", port)
            assert client.infer({"x": 2})["actions"][0, 0] == 2
            process.terminate()
            with pytest.raises(ConnectionClosedOK) as closed:
                client._ws.recv(timeout=20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            assert process.wait(20) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""
        finally:
            process.kill()


def _listens(port: int) -> bool:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        asking.request("GET", "/healthz")
        return asking.getresponse().status == 200
    except ConnectionRefusedError:
        return False
    finally:
        asking.close()
