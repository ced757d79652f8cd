"""Real-time chunking by a π0 that is served: its answers, and the arm that they move."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from robot.client import Client, ClientConfig
from robot.limits import Limits
from robot.policy import Answer, Request
from tests import circling
from tests.robot_server_running import SECONDS
from tests.test_robot_command import begun, ended
from workflows.served_checkpoint import CheckpointPolicy

SEEDS, SEEN, DELAY = 24, 3, 9
"""Answers of each kind; actions done as the observation was made, and that will be done."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return circling.save(tmp_path_factory.mktemp("run") / "policy")


def ways(policy: CheckpointPolicy, who: str, **prefix: Any) -> np.ndarray:
    """(SEEDS, HORIZON, 2) steps of the gripper's x and y, of the circle's radius 1, for as many
    clients, each with a noise of its own."""
    chance = np.random.default_rng(8)
    message = {
        "observation/image": chance.integers(0, 256, (60, 80, 3), np.uint8),
        "observation/state": chance.normal(size=10).astype(np.float32),
        "prompt": "go round",
    }
    found = []
    for seed in range(SEEDS):
        each = {name: value[seed] for name, value in prefix.items()}
        (answer,) = policy.infer([Request(message, f"{who}{seed}", False, **each)])
        assert isinstance(answer, Answer), answer
        found.append(answer.actions[:, :2] / circling.STRIDE)
    return np.array(found)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).sum(-1).mean()))


def test_an_answer_goes_on_from_the_last_one(folder: str) -> None:
    """What will have been done is done again, and what follows goes on from it, beyond what the
    last answer says too; without a prefix it is another way, from the same noise."""
    policy = CheckpointPolicy(folder, "tabletop", batch=1)
    old = ways(policy, "old")
    assert np.abs(np.linalg.norm(old, axis=-1) - 1).mean() < 0.25, "it has learnt to go round"
    full = np.zeros((SEEDS, circling.HORIZON, 10))
    full[..., :2], full[..., [3, 7]], full[..., 9] = old * circling.STRIDE, 1, 0.5
    apart = ways(policy, "new")
    led = ways(policy, "again", prefix=full[:, SEEN:], delay=[DELAY] * SEEDS)
    was, other, found = old[:, SEEN:], apart[:, :-SEEN], led[:, :-SEEN]
    kept, free = slice(None, DELAY), slice(DELAY, None)
    assert rms((other - was)[:, kept]) > 1
    assert rms((found - was)[:, kept]) < 0.2
    assert rms((other - was)[:, free]) > 1
    assert rms((found - was)[:, free]) < 0.5 * rms((other - was)[:, free])
    step = rms(np.diff(old, axis=1))
    border = found[:, DELAY] - was[:, DELAY - 1]
    assert rms(border) < 1.5 * step
    assert rms(other[:, DELAY] - was[:, DELAY - 1]) > 2 * step


@pytest.fixture
def served(folder: str, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a server in a process of its own, and what it writes of every request."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, notes = free.getsockname()[1], tmp_path / "notes"
    process = subprocess.Popen([sys.executable, "-m", "tests.circling", folder, str(port), notes])
    try:
        with Client(ClientConfig(f"ws://127.0.0.1:{port}")) as client:
            client.wait(3 * SECONDS)
        yield port, notes
    finally:
        process.kill()
        process.wait()


def test_the_arm_is_moved_by_chunks_that_go_on_from_each_other(
    served: tuple[int, Path], tmp_path: Path
) -> None:
    """`egoscaler robot --join rtc`, real processes: each request but the first says what the arm
    does, and is answered by what does the same; the arm keeps within its limits."""
    port, notes = served
    data = tmp_path / "data"
    words = ["--task", "carrot_on_plate", "--plain", "--seed", "4", "--join", "rtc", "--rate", "40"]
    code, said = ended(begun(port, *words, "--seconds", "5", "--record", str(data)))
    assert code == 0, said
    assert "carrot_on_plate 4: not solved: 5 s are over" in said
    asked = [json.loads(line) for line in notes.read_text().splitlines()]
    goes_on = [each for each in asked if len(each["prefix"] or ()) >= 3]
    assert len(goes_on) >= 2, said
    assert asked[0]["prefix"] is None
    off = []
    for each in goes_on:
        prefix, actions = np.array(each["prefix"]), np.array(each["actions"])
        assert 1 <= each["delay"] <= len(prefix)
        done = max(3, each["delay"])
        off.append((actions[1:done] - prefix[1:done])[:, :2])  # the first may make up for a lag
    assert rms(np.concatenate(off)) < 0.5 * circling.STRIDE
    table = pq.read_table(data / "extra" / "episode_000000.parquet").to_pydict()
    assert len(set(table["chunk"]) - {None}) >= 3
    keeps_to_limits(table, 1 / 40)


def keeps_to_limits(table: dict[str, list[Any]], period: float) -> None:
    """What was commanded, (T, 8), one period after another or several."""
    due = np.array(table["time"]) - table["late"]
    steps = np.diff(np.array(table["command"])[:, :3], axis=0)
    spans = np.diff(due)
    rates, loose = Limits().translation, 1 + 1e-3
    length = np.linalg.norm(steps, axis=1)
    assert length.sum() > 0.02, "it has moved"
    assert (length <= rates.speed * np.maximum(spans, period) * loose).all()
    even = (np.abs(spans[1:] - period) < 1e-3) & (np.abs(spans[:-1] - period) < 1e-3)
    assert even.sum() > 20
    change = np.linalg.norm(np.diff(steps, axis=0), axis=1)[even]
    assert change.max() <= rates.acceleration * period**2 * loose
