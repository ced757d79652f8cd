"""The control loop, with the real server and client, and an arm that is a formula."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import pytest

from ego_ops.errors import UserError
from robot.client import Client, ClientConfig
from robot.limits import Limits
from robot.loop import Ended, Loop, LoopConfig, Tick
from robot.plan import JOINS
from robot.robot import Kind
from robot.safety import Safety
from tests.robot_arms import HOME, Arm, Circle, off_circle
from tests.robot_server_running import SECONDS, Play, Running, until


class Going:
    """A loop in a thread."""

    def __init__(self, arm: Arm, client: Client, seconds: float = SECONDS, **config: Any):
        self.ticks: list[Tick] = []
        kind: Kind = arm.kind
        options = LoopConfig(**config)
        self.loop = Loop(arm, client, Safety(Limits(), kind), options, self.ticks.append)
        self._seconds, self._ended = seconds, list[Ended]()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ended(self) -> Ended:
        self._thread.join(SECONDS)
        return self._ended[0]

    def state(self) -> str:
        return self.ticks[-1].state if self.ticks else ""

    def _run(self) -> None:
        self._ended.append(self.loop.run(self._seconds))


@contextmanager
def connected(policy: Any) -> Iterator[Client]:
    with (
        Running(policy) as running,
        Client(ClientConfig(f"ws://127.0.0.1:{running.port}")) as client,
    ):
        client.wait(SECONDS)
        yield client


@pytest.mark.parametrize("join", JOINS)
def test_goes_round(join: str) -> None:
    """A policy that takes 150 ms, asked from wherever the arm is: it keeps to the circle across
    all borders of chunks, never stands still, and is commanded on time."""
    policy, arm = Circle(seconds=0.15), Arm()
    with connected(policy) as client:
        going = Going(arm, client, 2.0, join=join, every_s=0.3, instruction="go round")
        assert going.ended().reason == "time"
    running = [tick for tick in going.ticks if tick.state == "running"]
    assert len({tick.chunk for tick in running}) >= 4
    assert going.ticks[-1].state == "stopped"
    states = [state for state, _ in groupby(tick.state for tick in going.ticks)]
    assert states == ["waiting", "running", "holding", "stopped"], "it comes to rest at the end"
    commands = np.array([tick.command for tick in running])
    assert off_circle(commands)[50:].max() < 0.03
    way = np.linalg.norm(commands[-1, :3] - HOME[:3])
    assert way > 0.05
    steps = np.linalg.norm(np.diff(commands[:, :3], axis=0), axis=1)
    assert steps.max() <= 0.5 * 0.02 * (1 + 1e-6)
    due = [tick.time - tick.late for tick in going.ticks[:-1]]
    periods = np.diff(due) / 0.02
    np.testing.assert_allclose(periods, np.round(periods), atol=1e-3)
    assert all(0.15 < tick.latency < 5 for tick in running if tick.latency)
    seen = policy.requests[0].observation
    assert (seen["prompt"], policy.requests[0].fresh) == ("go round", True)
    assert seen["observation/base_0_rgb"].shape == (32, 32, 3)
    assert not policy.requests[1].fresh


def test_rtc_says_what_is_being_done() -> None:
    policy = Circle(seconds=0.1, horizon=30)
    with connected(policy) as client:
        Going(Arm(), client, 1.2, join="rtc", every_s=0.4).ended()
    assert policy.requests[0].prefix is None
    for request in policy.requests[1:]:
        assert request.prefix is not None
        np.testing.assert_allclose(request.prefix[1], policy.steps(HOME)[1], atol=1e-4)
        assert 10 <= len(request.prefix) < 30
        assert 3 <= request.delay <= len(request.prefix), "0.1 s and more, at 20 actions a second"


def test_a_process_that_holds_much_is_not_late_with_the_first_request() -> None:
    """The garbage collector goes through it all before there is a deadline, which it would pass."""
    policy = Circle(seconds=0.15)
    gc.disable()
    much = [[] for _ in range(10_000_000)]
    gc.enable()
    with connected(policy) as client:
        began = time.monotonic()
        gc.collect()
        collection = time.monotonic() - began
        ended = Going(Arm(), client, 1.0, every_s=0.3, stale_s=0.3 + collection / 2).ended()
    del much
    assert ended.reason == "time"
    assert [request.fresh for request in policy.requests[:2]] == [True, False]


def test_holds_and_goes_on_and_gives_up() -> None:
    """The policy stops answering: the arm does its chunk to the end, comes to rest, goes on once
    there is an answer; and ends if that takes too long."""
    policy, arm = Circle(horizon=8), Arm()
    gate = policy.gate
    with connected(policy) as client:
        going = Going(arm, client, every_s=0.1, stop_after_s=0.8)
        until(lambda: len({tick.chunk for tick in going.ticks}) > 3)
        gate.clear()
        until(lambda: going.state() == "holding" and arm.held)
        still = arm.read()
        gate.set()
        until(lambda: going.state() == "running")
        gate.clear()
        ended = going.ended()
        gate.set()
    assert ended.reason == "hold"
    assert "no chunk for 0.8 s: deadline" in ended.message
    held = [tick for tick in going.ticks if tick.state == "holding"]
    assert held[0].chunk is None
    assert np.linalg.norm(still[:3] - HOME[:3]) > 0.01


def test_emergency_stop_with_no_server() -> None:
    """Nobody listens there, and the arm is held in the tick after the event all the same."""
    arm = Arm()
    with Client(ClientConfig("ws://127.0.0.1:9")) as client:
        going = Going(arm, client)
        until(lambda: len(going.ticks) > 5)
        assert going.state() == "waiting"
        before = going.loop.emergency.set() or time.monotonic()
        assert going.ended().reason == "emergency"
    assert not arm.commands
    ticks = [tick for tick in going.ticks if tick.time > before and tick.state != "stopped"]
    assert len(ticks) <= 1
    assert arm.holds


def test_emergency_stop_in_motion() -> None:
    arm = Arm()
    with connected(Circle()) as client:
        going = Going(arm, client)
        until(lambda: len(arm.commands) > 20)
        going.loop.emergency.set()
        set_at = time.monotonic()
        assert going.ended().reason == "emergency"
    assert len([when for when, _ in arm.commands if when > set_at]) <= 1
    assert arm.holds[-1] >= arm.commands[-1][0]


def test_emergency_stop_while_a_command_is_worked_out() -> None:
    """That command is not given any more, nor told of."""
    arm = Arm()
    reads = [0]

    def read() -> np.ndarray:
        reads[0] += len(arm.commands) > 20
        if reads[0] == 1:
            going.loop.emergency.set()
        return arm.position.copy()

    arm.read = read
    with connected(Circle()) as client:
        going = Going(arm, client)
        assert going.ended().reason == "emergency"
    assert len(arm.commands) == 21
    np.testing.assert_array_equal(going.ticks[-1].command, arm.commands[-1][1])


def test_commands_are_worked_out_before_they_are_due() -> None:
    """An arm that takes 3 ms to say where it is does not have them come 3 ms late."""

    class Slow(Arm):
        def read(self) -> np.ndarray:
            time.sleep(0.003)
            return super().read()

    with connected(Circle()) as client:
        going = Going(Slow(), client, 1.5)
        going.ended()
    late = [tick.late for tick in going.ticks if tick.state == "running"]
    assert len(late) > 30
    assert np.median(late) < 0.002


@pytest.mark.parametrize(("what", "said"), [("fails", "no power"), ("blind", "camera is gone")])
def test_a_robot_that_fails(what: str, said: str) -> None:
    arm = Arm()
    with connected(Circle()) as client:
        going = Going(arm, client, every_s=0.05)
        until(lambda: len(arm.commands) > 5)
        getattr(arm, what).set()
        ended = going.ended()
    assert ended.reason == "robot"
    assert said in ended.message
    assert arm.holds


def test_solved_and_asked_to_end() -> None:
    arm = Arm()
    with connected(Circle()) as client:
        going = Going(arm, client)
        until(lambda: going.state() == "running")
        going.loop.end()
        assert going.ended().reason == "asked"
        arm.done = True
        assert Going(arm, client).ended().reason == "solved"


def test_what_is_impossible_stops() -> None:
    """A policy that means a place outside of reach by a metre a step."""
    policy, arm = Circle(radius=20.0, speed=200.0), Arm()
    with connected(policy) as client:
        ended = Going(arm, client).ended()
    assert ended.reason == "impossible"
    assert "translation" in ended.message
    assert arm.holds
    steps = np.diff([HOME[:3], *(target[:3] for _, target in arm.commands)], axis=0)
    assert np.abs(steps).max(initial=0) <= 0.5 * 0.02 * (1 + 1e-6)


def test_an_arm_that_was_moved_while_it_held() -> None:
    """It goes on from where it was put, not from where it was."""
    policy, arm = Circle(horizon=8), Arm()
    gate = policy.gate
    with connected(policy) as client:
        going = Going(arm, client, every_s=0.1)
        until(lambda: going.state() == "running")
        gate.clear()
        until(lambda: going.state() == "holding" and arm.held)
        count = len(arm.commands)
        arm.position[2] += 0.2
        moved = arm.read()
        gate.set()
        until(lambda: len(arm.commands) > count)
        going.loop.end()
        going.ended()
    assert np.linalg.norm(arm.commands[count][1][:3] - moved[:3]) < 0.02


def test_a_listener_that_is_slow_or_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The loop goes on at its rate; what it was told of before is kept."""

    def listen(tick: Tick) -> None:
        time.sleep(0.3)
        raise ValueError("disk full")

    arm = Arm()
    with connected(Circle()) as client:
        loop = Loop(arm, client, Safety(Limits(), "pose"), LoopConfig(), listen)
        ended = loop.run(1.0)
    assert ended.reason == "time"
    assert ended.ticks + ended.missed >= 48
    assert "the listener failed" in caplog.text


def test_what_a_server_must_say() -> None:
    """Its actions a second and what they are, or the user does."""
    with connected(Play()) as client:
        for config in (LoopConfig(), LoopConfig(actions="pose_step", join="rtc")):
            with pytest.raises(UserError, match=r"of its actions None|no real-time chunking"):
                Loop(Arm(), client, Safety(Limits(), "pose"), config)
        arm = Arm(np.zeros(2), "joints")
        ended = Going(arm, client, 0.8, actions="joints", every_s=0.1).ended()
        assert ended.reason == "time"
        assert arm.commands


@pytest.mark.parametrize(
    "config", [{"rate": 0}, {"join": "last"}, {"actions": "delta"}, {"fps": -1.0}, {"blend_s": -1}]
)
def test_what_is_no_configuration(config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(config)) + "|no such"):
        LoopConfig(**config)


def may_have_priority() -> bool:
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
    except PermissionError:
        return False
    os.sched_setscheduler(0, *before)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="real-time priorities are Linux's")
def test_the_keeper_of_time_comes_first_and_nobody_stays_first_after_it() -> None:
    """One of normal priority that holds the interpreter's lock would keep it waiting for as long as
    it is not given a processor."""
    if not may_have_priority():
        pytest.skip("no real-time priority is permitted here (ulimit -r)")

    def all_threads() -> dict[str, int]:
        found = {}
        for thread in threading.enumerate():
            found[thread.name] = os.sched_getparam(thread.native_id or 0).sched_priority
        return found

    with connected(Circle()) as client:
        assert set(all_threads().values()) == {0}
        going = Going(Arm(), client, instruction="go")
        until(lambda: going.state() == "running")
        during = all_threads()
        keeper = during.pop(next(name for name in during if "_run" in name))
        assert (keeper, during["policy client"], during["observations"]) == (20, 10, 10)
        assert during["ticks"] == during["MainThread"] == 10
        going.loop.end()
        assert going.ended().reason == "asked"
        assert set(all_threads().values()) == {0}
