"""Servers that are killed and networks that fail, while an arm moves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from robot.client import Client, ClientConfig
from robot.limits import Limits
from robot.loop_config import Tick
from tests.robot_arms import Arm, Circle, off_circle
from tests.robot_network import Change, Relay, unchanged
from tests.robot_server_running import SECONDS, Running, until
from tests.test_robot_loop import Going

STARTS_S = 60.0
LOAD_S = 0.15
"""What a machine that is busy with other things adds to a tick at most."""


@contextmanager
def moving(
    policy: Circle, arm: Arm, every_s: float = 0.15
) -> Iterator[tuple[Relay, Going, Client]]:
    """An arm that moves, of a policy behind a network."""
    with Running(policy) as running, Relay(running.port) as relay:
        config = ClientConfig(f"ws://127.0.0.1:{relay.port}", ping_s=1.0)
        with Client(config) as client:
            client.wait(SECONDS)
            going = Going(arm, client, 60.0, every_s=every_s, stop_after_s=30.0)
            until(lambda: chunks(going) >= 3)
            try:
                yield relay, going, client
            finally:
                going.loop.end()
                assert going.ended().reason == "asked"


def chunks(going: Going) -> int:
    return len({tick.chunk for tick in going.ticks} - {None})


def check_holds(going: Going, seconds: float) -> None:
    """Wherever chunks were used up: the arm went on for as long as the last one lasted, held within
    100 ms after its end, and came to rest within the limits; and moved on afterwards.

    Args:
        seconds: of a chunk, from its observation on.
    """
    ticks = going.ticks
    held = [
        at for at in range(1, len(ticks))
        if (ticks[at - 1].state, ticks[at].state, ticks[at].chunk) == ("running", "holding", None)
    ]  # fmt: skip
    assert held
    for at in held:
        last = ticks[at - 1]
        same = next(tick for tick in ticks if tick.chunk == last.chunk)
        assert same.latency is not None
        first = same.time - same.late
        begun = first - same.latency  # the observation was made up to a tick before that
        end = begun + seconds
        holds = ticks[at].time
        assert end - 0.02 - LOAD_S <= holds <= end + 0.1 + LOAD_S
    running = [at for at in range(held[-1], len(ticks)) if ticks[at].state == "running"]
    assert running, "it never went on"
    check_moves(ticks)


def check_moves(ticks: list[Tick]) -> None:
    """No command is further from the one before than the limits allow; the way is the circle's."""
    rates = Limits().translation
    commands = np.array([tick.command for tick in ticks])
    steps = np.diff(commands[:, :3], axis=0)
    loose = 1 + 1e-6
    assert np.linalg.norm(steps, axis=1).max() <= rates.speed * 0.02 * loose
    changes = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    assert changes.max() <= rates.acceleration * 0.02**2 * loose
    assert np.abs(off_circle(commands)).max() < 0.15


@pytest.mark.parametrize(("severed", "seconds"), [(False, 3.0), (True, 1.5)])
def test_the_network_is_cut(severed: bool, seconds: float) -> None:
    """Nothing gets through for a while; besides, connections break."""
    policy, arm = Circle(horizon=12), Arm()
    with moving(policy, arm) as (relay, going, client):
        relay.cut = True
        if severed:
            relay.sever()
        until(lambda: going.state() == "holding")
        began = going.ticks[-1].time
        until(lambda: arm.held)
        still = arm.read()
        until(lambda: going.ticks[-1].time - began > seconds - 12 / 20)
        np.testing.assert_array_equal(arm.read(), still)
        assert client.problem
        relay.cut = False
        until(lambda: going.state() == "running")
        count = chunks(going)
        until(lambda: chunks(going) > count + 2)
    check_holds(going, 12 / 20)


def replaced(number: int, by: Change) -> Change:
    """Of answers, every so many-th."""
    seen = 0

    def change(message: bytes) -> list[tuple[float, bytes]]:
        nonlocal seen
        seen += 1
        return by(message) if seen % number == 0 else [(0.0, message)]

    return change


def corrupted(message: bytes) -> list[tuple[float, bytes]]:
    """With 20 bytes in the middle of it changed."""
    data, at = bytearray(message), len(message) // 2
    data[at : at + 20] = b"\xff" * 20
    return [(0.0, bytes(data))]


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        (lambda message: [(0.8, message)], "late"),
        (lambda message: [(0.0, message), (0.01, message), (0.3, message)], "duplicate"),
        (lambda message: [(0.0, message[: len(message) // 2])], "malformed"),
        (lambda message: [(0.0, b"\xc1" + message)], "malformed"),
        (corrupted, "malformed"),
    ],
    ids=["late", "duplicate", "cut off", "no message", "corrupted"],
)
def test_answers_that_are_not_as_they_should(change: Change, counted: str) -> None:
    """Every second answer: the arm goes on round its circle as if nothing had been."""
    policy, arm = Circle(horizon=10), Arm()
    with moving(policy, arm) as (relay, going, client):
        relay.change = replaced(2, change)
        until(lambda: client.counts[counted] >= 2)
        count = chunks(going)
        relay.change = unchanged
        until(lambda: chunks(going) > count + 2)
        assert client.counts["connections"] == 1
    check_moves(going.ticks)


@contextmanager
def served(port: int) -> Iterator[Callable[[], None]]:
    """A server in a process of its own; gives what kills it."""
    command = [sys.executable, "-m", "tests.robot_served_circle", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})

    def kill() -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(SECONDS)

    try:
        yield kill
    finally:
        kill()


def test_the_server_is_killed() -> None:
    """By SIGKILL, and another one begins on its port: the arm does its chunk to the end, holds, and
    goes on by itself."""
    with Running(Circle()) as running:
        port = running.port
    arm = Arm()
    with Client(ClientConfig(f"ws://127.0.0.1:{port}")) as client:
        with served(port) as kill:
            client.wait(STARTS_S)
            going = Going(arm, client, 120.0, every_s=0.2, stop_after_s=60.0)
            until(lambda: chunks(going) >= 3)
            kill()
            until(lambda: going.state() == "holding")
            until(lambda: arm.held)
        with served(port):
            client.wait(STARTS_S)
            until(lambda: going.state() == "running")
            count = chunks(going)
            until(lambda: chunks(going) > count + 1)
            going.loop.end()
            assert going.ended().reason == "asked"
    assert client.counts["connections"] == 2
    check_holds(going, 1.0)
