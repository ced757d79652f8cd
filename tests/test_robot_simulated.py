"""A simulated arm's processes: it goes on by itself, holds when nobody commands, is never slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ego_ops.errors import UserError
from robot.robot import RobotError
from robot.robots.simulated import SimulatedRobot
from tests.slow_arm import SPEED

SLACK_S = 0.4
"""More than 100 ms: other processes use this machine, too."""


def arm(trace: Path, factory: str = "tests.slow_arm:SlowArm") -> SimulatedRobot:
    return SimulatedRobot(factory, str(trace), {"top": (8, 8)}, 1, lambda seen, text, state: {})


@pytest.fixture
def slow(tmp_path) -> Iterator[SimulatedRobot]:
    robot = arm(tmp_path / "trace")
    robot.start(0)
    yield robot
    robot.close()


def far(x: float) -> np.ndarray:
    return np.array([x, 0, 0, 0, 0, 0, 1, 1.0])


def test_it_goes_in_real_time_while_it_renders(slow):
    seen: list = []
    watching = threading.Thread(target=lambda: seen.append(slow.observe()))
    began, x = time.monotonic(), slow.read()[0]
    watching.start()
    took = []
    while time.monotonic() < began + 1.0:
        before = time.perf_counter()
        slow.command(far(9.0))
        slow.read()
        took.append(time.perf_counter() - before)
        time.sleep(0.02)
    watching.join()
    moved, passed = slow.read()[0] - x, time.monotonic() - began - slow.behind
    assert moved == pytest.approx(SPEED * passed, abs=0.3 * SPEED)
    assert np.median(took) < 0.002
    (observation,) = seen
    assert observation.state[0] == pytest.approx(x, abs=SPEED)
    assert observation.images["top"][0, 0, 0] == round(observation.state[0] * 100)


def test_it_holds_without_commands(slow):
    for _ in range(10):
        slow.command(far(9.0))
        time.sleep(0.02)
    last, x = time.monotonic(), slow.read()[0]
    time.sleep(0.1 + SLACK_S)
    rest = slow.read()[0]
    assert x < rest + 1e-9 <= x + SPEED * (0.1 + SLACK_S)
    time.sleep(0.5)
    assert slow.read()[0] == rest
    assert time.monotonic() - last > 0.9
    slow.command(far(9.0))  # and goes on when it is commanded again
    time.sleep(0.06)
    assert slow.read()[0] > rest
    slow.hold()
    time.sleep(SLACK_S)
    rest = slow.read()[0]
    time.sleep(0.2)
    assert slow.read()[0] == rest


def test_it_holds_when_who_commands_is_killed(tmp_path):
    code = f"""
import time
from pathlib import Path
from tests.test_robot_simulated import arm, far
if __name__ == "__main__":
    robot = arm(Path({str(tmp_path / "trace")!r}))
    robot.start(0)
    print("started", flush=True)
    while True:
        robot.command(far(9.0))
        time.sleep(0.01)
"""
    script = tmp_path / "drive.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, said = process.communicate(timeout=20)  # ends once the arm's processes have, too
    assert "the simulated arm holds: who commanded it is gone" in said
    trace = np.loadtxt(tmp_path / "trace")
    times, x = trace.T
    assert x[-1] > 0.02  # it had moved
    moving = times[np.flatnonzero(np.diff(x) > 0)[-1]]
    assert moving < killed + 0.1 + SLACK_S
    assert times[-1] > moving + 0.1  # and was seen to stay


def test_what_is_wrong_is_said(tmp_path):
    robot = arm(Path("no_such_task"), "sim_eval.suites.tabletop.live:LiveTabletop")
    with pytest.raises(UserError, match="tabletop has no task no_such_task"):
        robot.start(0)
    robot.close()
    robot = arm(tmp_path / "trace")
    robot.start(0)
    robot.close()
    time.sleep(1.1)
    with pytest.raises(RobotError, match="has not answered for 1 s"):
        robot.read()
