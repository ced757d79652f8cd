"""openpi servers as policies: real servers in processes of their own, that fail in every way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ego_ops.errors import UserError
from robot.encoding import pack, unpack
from sim_eval.policies import Compute, Named, named, open_batch
from sim_eval.policies.connection import Connections, metadata
from sim_eval.policies.server import ServerPolicy
from sim_eval.policy import PolicyError, Request, check_shape
from tests.eval_policy_files import Suite, requests

pytest.importorskip("websockets")
SUITE = Suite(action_size=4)
Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server, on a free port or that of an address, and gives its address."""
    running: list[subprocess.Popen[str]] = []

    def started(fault: str = "", address: str = "ws://127.0.0.1:0") -> str:
        script = Path(__file__).with_name("openpi_server.py")
        command = [sys.executable, str(script), address.rsplit(":", 1)[1], fault]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert running[-1].stdout is not None
        return f"ws://127.0.0.1:{running[-1].stdout.readline().strip()}"

    started.running = running  # type: ignore[attr-defined]
    yield started
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def opened(address: str, batch: int = 4, patience_s: float = 0.3, answer_s: float = 10.0):  # type: ignore[no-untyped-def]
    policy = Named(address, "server", "0" * 16, address, Compute(batch=batch))
    return ServerPolicy(policy, SUITE, patience_s, answer_s)


def expected(request: Request) -> np.ndarray:
    seen = request.observation
    first = next(iter(seen.images.values()))
    return np.tile(seen.state.astype(np.float32) + first.mean(), (6, 1)).astype(np.float32)


def test_answers_are_each_requests_own(start: Start) -> None:
    policy = opened(start(), batch=5)
    for count in (1, 5, 3):
        asked = requests(count, SUITE, first=count)
        answers = policy.act(asked)
        assert len(answers) == count
        for request, answer in zip(asked, answers, strict=True):
            np.testing.assert_array_equal(answer, expected(request))
            assert check_shape(SUITE, answer).shape == (6, 4)
    policy.close()


def test_named_by_address_and_metadata(start: Start) -> None:
    first, second = start(), start()
    known = named(first, Compute(batch=3))
    assert (known.kind, known.place, known.batched) == ("server", first, True)
    assert named(first).digest == known.digest == named(first, Compute(batch=7)).digest
    assert named(second).digest != known.digest
    policy = open_batch(known, SUITE)
    assert (policy.batch, policy.digest) == (3, known.digest)
    policy.close()


def test_nobody_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"ws://127.0.0.1:{held.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(PolicyError, match=f"{address}: no policy server there.*start it"):
            metadata(address, patience_s=0.3)
        assert 0.3 <= time.monotonic() - begun < 3


def test_what_listens_is_no_policy_server() -> None:
    """It accepts, and says nothing that the protocol has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                peer.recv(1 << 16)
                peer.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                peer.close()

        threading.Thread(target=refuse, daemon=True).start()
        address = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(PolicyError, match=r"no policy server there.*404"):
            metadata(address, patience_s=20)
        assert time.monotonic() - begun < 10  # that will not change: it is not waited for


def test_address_that_is_none() -> None:
    for address in ("ws://", "ws://nowhere.invalid:8000"):
        with pytest.raises(PolicyError, match="no such address"):
            metadata(address, patience_s=20)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("error", "the server failed: KeyError: 'x'"),
        ("garbage", "no actions that can be read"),
        ("list", "no actions that can be read"),
        ("object", "no actions that can be read.*not allowed"),
        ("short", "no actions that can be read"),
    ],
)
def test_errors_of_a_server_are_policy_errors(start: Start, fault: str, said: str) -> None:
    policy = opened(start(fault))
    for _ in range(2):  # the second time in new connections
        for answer in policy.act(requests(3, SUITE)):
            assert isinstance(answer, PolicyError)
            with pytest.raises(PolicyError, match=said):
                raise answer
            assert "\n" not in str(answer)
    policy.close()


@pytest.mark.parametrize(
    ("fault", "said"), [("nan", "action 2, number 1 is nan"), ("wide", "actions of 99 numbers")]
)
def test_actions_no_robot_can_do_are_not_errors_of_the_server(
    start: Start, fault: str, said: str
) -> None:
    policy = opened(start(fault))
    (answer,) = policy.act(requests(1, SUITE))
    assert not isinstance(answer, PolicyError)
    with pytest.raises(UserError, match=said):
        check_shape(SUITE, answer)
    policy.close()


def test_server_that_hangs_up_is_asked_again(start: Start) -> None:
    policy = opened(start("drop"), patience_s=5)
    asked = requests(4, SUITE)
    for _ in range(5):
        for request, answer in zip(asked, policy.act(asked), strict=True):
            np.testing.assert_array_equal(answer, expected(request))
    policy.close()


def test_server_that_dies_and_comes_back(start: Start) -> None:
    address = start("die")  # at the third question
    policy = opened(address, patience_s=0.3)
    asked = requests(4, SUITE)
    assert any(isinstance(answer, PolicyError) for answer in policy.act(asked))
    begun = time.monotonic()
    for answer in policy.act(asked):
        assert isinstance(answer, PolicyError)
        assert "no policy server there" in str(answer)
    assert time.monotonic() - begun < 0.3  # it has been away for too long: one attempt each
    start("", address)
    for request, answer in zip(asked, policy.act(asked), strict=True):
        np.testing.assert_array_equal(answer, expected(request))
    start.running[1].kill()  # type: ignore[attr-defined]
    start.running[1].wait()  # type: ignore[attr-defined]
    begun = time.monotonic()
    assert all(isinstance(answer, PolicyError) for answer in policy.act(asked))
    assert time.monotonic() - begun >= 0.3  # it had answered: it is waited for again
    policy.close()


def test_server_that_comes_back_in_time_is_not_missed(start: Start) -> None:
    address = start()
    policy = opened(address, patience_s=20)
    asked = requests(4, SUITE)
    policy.act(asked)
    start.running[0].kill()  # type: ignore[attr-defined]
    start.running[0].wait()  # type: ignore[attr-defined]
    later = threading.Timer(0.2, start, ("", address))
    later.start()
    for request, answer in zip(asked, policy.act(asked), strict=True):
        np.testing.assert_array_equal(answer, expected(request))
    later.join()
    policy.close()


def test_late_answer_is_not_taken_for_the_next_one(start: Start) -> None:
    policy = opened(start("late"), answer_s=0.3)
    first, second = requests(2, SUITE)
    slow = first._replace(observation=first.observation._replace(instruction="late"))
    late, good = policy.act([slow, second])
    assert isinstance(late, PolicyError)
    assert "no answer in 0.3 s" in str(late)
    np.testing.assert_array_equal(good, expected(second))
    for request, answer in zip((second, first), policy.act([second, first]), strict=True):
        np.testing.assert_array_equal(answer, expected(request))
    policy.close()


def test_server_that_stops_reading(start: Start) -> None:
    """The question fills the socket's buffers, and sending it never ends by itself."""
    address = start()
    connections = Connections(address, patience_s=0.3, answer_s=0.3)
    connections.metadata()
    os.kill(start.running[0].pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    begun = time.monotonic()
    (answer,) = connections.ask([bytes(1 << 25)])
    assert isinstance(answer, PolicyError)
    connections.close()
    assert time.monotonic() - begun < 5


VALUES = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.arange(12).reshape(3, 4)[:, ::2],  # not contiguous
    np.zeros((0, 7)),
    np.array(2.5),
    np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8),
    np.array([True, False]),
    np.array(["spoon", "towel"]),
    np.float32(1.5),
    np.int64(-3),
    np.bool_(True),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value.dtype}{value.shape}")
def test_encoding_is_openpis(value: np.ndarray) -> None:
    theirs = pytest.importorskip("openpi_client.msgpack_numpy")
    message = {"observation/state": value, "prompt": "lift", "nested": [{"x": value}, 1, None, 2.5]}
    assert pack(message) == theirs.packb(message)
    for found in (theirs.unpackb(pack(message)), unpack(theirs.packb(message))):
        got = found["observation/state"]
        assert (type(got), got.dtype, got.shape) == (type(value), value.dtype, value.shape)
        np.testing.assert_array_equal(got, value)
        np.testing.assert_array_equal(found["nested"][0]["x"], value)
        assert (found["prompt"], found["nested"][1:]) == ("lift", [1, None, 2.5])


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
def test_their_client_takes_the_test_server_for_openpis(start: Start) -> None:
    """What the other tests rely on."""
    client = pytest.importorskip("openpi_client.websocket_client_policy")
    host, port = start().removeprefix("ws://").split(":")
    real = client.WebsocketClientPolicy(host, int(port))
    assert real.get_server_metadata() == {"robot": "arm", "horizon": 6}
    (request,) = requests(1, SUITE)
    answer = real.infer(SUITE.message(request.observation))
    np.testing.assert_array_equal(answer["actions"], expected(request))


@pytest.mark.parametrize("value", [np.array([object()]), np.array([1j]), object(), {1, 2}])
def test_what_has_no_form_is_not_sent(value: object) -> None:
    with pytest.raises(UserError, match="cannot be sent"):
        pack({"x": value})


@pytest.mark.parametrize("kind", ["|O", "|V8", "i4,f4", "<c16", "nonsense", "<M8[s]"])
def test_other_kinds_of_arrays_are_not_read(kind: str) -> None:
    msgpack = pytest.importorskip("msgpack")
    found = {b"__ndarray__": True, b"data": b"8" * 16, b"dtype": kind, b"shape": [2]}
    with pytest.raises(ValueError):
        unpack(msgpack.packb({"actions": found}))
