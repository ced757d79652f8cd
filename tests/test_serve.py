"""`egoscaler serve` as a user runs it, asked by openpi's client: real processes, which are killed.

One command serves a small checkpoint to all tests here that only ask; others have their own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("openpi_client")
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from robot.client_config import ClientConfig
from robot.encoding import pack, unpack
from sim_eval import suites
from sim_eval.episode import FAILURE
from sim_eval.policies import Access, named, open_batch
from sim_eval.policies.connection import Connections
from sim_eval.policy import PolicyError
from tests import eval_policy_files, minute_training
from tests.certificates import certificate
from tests.evaluation_runs import told
from tests.serve_runs import Serving, serving
from training import policy_folder
from training.policy import Sight
from workflows import cli, evaluate
from workflows.evaluate import EvaluateConfig
from workflows.served_checkpoint import generator

pytestmark = [
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.filterwarnings("ignore:connect:DeprecationWarning"),
]
CHANCE = np.random.default_rng(0)
MESSAGE = {
    "observation/image": CHANCE.integers(0, 256, (60, 80, 3), np.uint8),
    "observation/state": CHANCE.normal(size=10).astype(np.float32),
    "prompt": "stack it",
}
ECHO = ("--policy", "tests.served_policies:Echo")
ROBOT = eval_policy_files.Robot("tabletop", 10, 10, ("base_0_rgb",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("run") / "policy"
    return eval_policy_files.save(place, minute_training.MODEL, [ROBOT])


@pytest.fixture(scope="module")
def command(ray_cluster: None, folder: str) -> Iterator[Serving]:
    with serving("--policy", str(Path(folder).parent), "--watch", "--cpus", "1") as run:
        yield run


def client(run: Serving) -> WebsocketClientPolicy:
    return WebsocketClientPolicy("127.0.0.1", run.port)


def by(folder: str, asked: int, name: str) -> np.ndarray:
    """What the policy of a folder answers to a client's question."""
    pi0 = policy_folder.load(folder)
    config = pi0.model.config
    shape = config.horizon, config.action_size
    noise = generator(name, asked).standard_normal(shape, np.float32)
    sight = Sight(
        {"base_0_rgb": MESSAGE["observation/image"]}, "stack it", MESSAGE["observation/state"]
    )
    return pi0.act_many([sight], noise[None])[0]


def test_openpis_client_is_answered_by_the_checkpoint(command: Serving, folder: str) -> None:
    asking = client(command)
    told = asking.get_server_metadata()
    assert (told["observation"], told["state_size"], told["action_size"]) == ("tabletop", 10, 10)
    assert "prefix" in told["egoscaler"]["features"]
    for asked in range(2):
        found = asking.infer(MESSAGE)["actions"]
        np.testing.assert_allclose(found, by(folder, asked, "client-0"), atol=1e-5)
    with pytest.raises(RuntimeError, match=r"observation/state: shape \(10,\)"):
        asking.infer({**MESSAGE, "observation/state": np.zeros(3)})


def test_evaluate_asks_it(command: Serving, tmp_path: Path) -> None:
    config = EvaluateConfig(
        suite="tabletop", policy=command.address, tasks=("stack_cube",), seeds="0..0", videos=0,
        batch=2, workers=1, out=str(tmp_path),
    )  # fmt: skip
    evaluate.run(config)
    (row,) = told(tmp_path).values()
    horizon = suites.get("tabletop").tasks["stack_cube"].horizon
    assert (row.outcome, row.steps) == (FAILURE, horizon)  # its weights are random


def test_a_new_policy_is_served_on_the_same_connections(
    command: Serving, folder: str, tmp_path: Path
) -> None:
    """While a client asks without pause; one that is broken or another robot's changes nothing."""
    asking = client(command)
    answers: list[np.ndarray] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            answers.append(asking.infer(MESSAGE)["actions"])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        _put(folder, tmp_path / "broken", ROBOT)
        command.wait_for(r"not reloaded, the old policy stays: .*model\.safetensors")
        _put(folder, tmp_path / "other", dataclasses.replace(ROBOT, state_size=9))
        command.wait_for("another robot .state_size 10 there, 9 now")
        assert thread.is_alive()
        assert np.abs(answers[-1]).max() < 50
        _put(folder, tmp_path / "new", ROBOT)
        command.wait_for("reloaded: ")
        count = len(answers)
        while len(answers) < count + 3:
            assert thread.is_alive()
            time.sleep(0.02)
    finally:
        enough.set()
        thread.join()
    assert min(np.abs(one).max() for one in answers[-2:]) > 50
    assert all(one.shape == answers[0].shape for one in answers)


def _put(folder: str, new: Path, robot: eval_policy_files.Robot) -> None:
    """Put a policy in place of another as `train` does. Of one called `new` all actions are larger
    by 100; one called `broken` has lost the end of its weights."""
    eval_policy_files.save(new, minute_training.MODEL, [robot])
    if new.name == "broken":
        weights = new / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    if new.name == "new":
        path = new / "assets" / robot.name / "norm_stats.json"
        stats = json.loads(path.read_text())
        actions = stats["norm_stats"]["actions"]
        for name in ("mean", "q01", "q99", "min", "max"):
            actions[name] = [value + 100 for value in actions[name]]
        path.write_text(json.dumps(stats))
    Path(folder).rename(new.with_name(f"{new.name}.old"))
    new.rename(folder)


def test_a_process_that_is_killed_comes_back(command: Serving) -> None:
    """By Ray, on the same port: evaluate's client connects again and has its answer."""
    address = command.address
    asking = Connections(address, patience_s=90)
    (answer,) = asking.ask([pack(MESSAGE)])
    assert not isinstance(answer, PolicyError)
    os.kill(_listener(command.port), signal.SIGKILL)
    (answer,) = asking.ask([pack(MESSAGE)])
    assert not isinstance(answer, PolicyError)
    assert unpack(answer)["actions"].shape == (minute_training.MODEL.horizon, 10)
    command.wait_for(r"serving again, in process \d+: \d+ ended")
    asking.close()


def test_a_policy_that_hangs_is_started_anew() -> None:
    """Who asked is told so; then it serves again, on the same port, from another process."""
    hangs = ("--policy", "tests.served_policies:Hangs", "--cpus", "1", "--call-timeout", "1")
    with serving(*hangs) as run:
        asking = Connections(run.address, patience_s=90)
        (before,) = asking.ask([pack(MESSAGE)])
        with pytest.raises(RuntimeError, match="the policy hangs: no answer for more than 1 s"):
            client(run).infer({**MESSAGE, "hang": True})
        run.wait_for(r"the policy hangs: a call of it takes longer than 1 s")
        run.wait_for(r"serving again, in process \d+: \d+ ended")
        (after,) = asking.ask([pack(MESSAGE)])
        assert not isinstance(before, PolicyError)
        assert not isinstance(after, PolicyError)
        assert unpack(before)["pid"] != unpack(after)["pid"]
        asking.close()


def _listener(port: int) -> int:
    """The process that listens on a port of this machine."""
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
            return one.pid
    raise AssertionError(f"nobody listens on {port}")


def test_it_answers_what_was_asked_before_it_ends() -> None:
    with serving("--policy", "tests.served_policies:Slow", "--cpus", "1") as run:
        asking = client(run)
        found = []
        thread = threading.Thread(target=lambda: found.append(asking.infer(MESSAGE)))
        thread.start()
        time.sleep(0.3)
        assert run.end(signal.SIGTERM) == 0
        thread.join()
        np.testing.assert_array_equal(found[0]["actions"][0], MESSAGE["observation/state"])
        with pytest.raises((ConnectionClosed, OSError)):
            asking.infer(MESSAGE)
        assert "ended: all that was asked is answered" in run.said


def test_replicas_share_a_port_and_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    words = (*ECHO, "--replicas", "2", "--cpus", "1", "--token-file", str(token))
    with serving(*words) as run:
        port = run.port
        assert "secret-token" not in run.said
        for key in (None, "another"):
            with pytest.raises(InvalidStatus, match="401"):
                WebsocketClientPolicy("127.0.0.1", port, api_key=key)
        processes = set()
        for _ in range(40):
            asking = WebsocketClientPolicy("127.0.0.1", port, api_key="secret-token")
            processes.add(int(asking.infer(MESSAGE)["pid"]))
            asking._ws.close()
        assert len(processes) == 2
        run.wait_for(r"refused \(token\): 127.0.0.1 sent")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as page:
            assert (page.status, page.read()) == (200, b"OK\n")
        run.process.send_signal(signal.SIGHUP)
        run.wait_for("not reloaded, the old policy stays: only checkpoints")
        assert run.end(signal.SIGINT) == 0


def test_tls_and_a_token(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    trust, suite = Path(cert).read_text(), eval_policy_files.Suite()
    (tmp_path / "token").write_text("secret-token\n")
    words = ("--tls-cert", cert, "--tls-key", key, "--token-file", str(tmp_path / "token"))
    with serving(*ECHO, "--cpus", "1", *words) as run:
        run.wait_for(f"wss://127.0.0.1:{run.port}")
        config = ClientConfig(f"wss://127.0.0.1:{run.port}", "secret-token", ca=cert)
        headers, trusted = config.headers, config.tls()
        with connect(config.url, ssl=trusted, additional_headers=headers, proxy=None) as asking:
            unpack(asking.recv(20))
            asking.send(pack(MESSAGE))
            actions = unpack(asking.recv(20))["actions"]
            np.testing.assert_array_equal(actions[0], MESSAGE["observation/state"])
        with pytest.raises(InvalidStatus, match="401"):
            connect(config.url, ssl=trusted, proxy=None)
        with pytest.raises(
            PolicyError, match=r"refused with 401: is the token right .--token-file"
        ):
            named(config.url, access=Access("wrong", trust))
        with pytest.raises(PolicyError, match=r"certificate is not trusted .* with --ca"):
            named(config.url, access=Access("secret-token"))
        found = named(config.url, access=Access("secret-token", trust))
        assert "secret-token" not in repr(found)
        policy = open_batch(found, suite)
        (request,) = eval_policy_files.requests(1, suite)
        (chunk,) = policy.act([request])
        np.testing.assert_array_equal(chunk[0], request.observation.state.astype(np.float32))
        policy.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(config.url, additional_headers=headers, proxy=None)
        assert run.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "nowhere/run"), "--policy nowhere/run: neither a run nor a policy's folder"),
        (
            ("--policy", "tests.served_policies:Broken"),
            "cannot load it .ValueError: no weights any",
        ),
        (("--policy", "tests.served_policies:Crash"), "its process ends while it begins"),
        ((*ECHO, "--host", "0.0.0.0"), "others could reach it: give --token-file"),
        ((*ECHO, "--host", "203.0.113.7", "--without-token"), "cannot listen on 203.0.113.7 port"),
        ((*ECHO, "--port", "TAKEN"), "cannot listen on 127.0.0.1 port .*in use; give another --po"),
        ((*ECHO, "--token-file", "nowhere"), "cannot read nowhere"),
        ((*ECHO, "--tls-cert", "nowhere", "--tls-key", "nowhere"), "TLS certificate .*nowhere"),
        ((*ECHO, "--tls-cert", "nowhere"), "TLS needs both"),
        ((*ECHO, "--watch"), "--watch: tests.served_policies:Echo is no checkpoint"),
        ((*ECHO, "--device", "cuda", "--replicas", "9"), "this machine has . GPUs for 9 replicas"),
        ((*ECHO, "--replicas", "0"), "--replicas 0: must be at least 1"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = str(held.getsockname()[1])
        assert cli.main(["serve", *(taken if word == "TAKEN" else word for word in words)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(said, line), line
