"""An arm as LeRobot's drivers are, whose servos and camera are formulas."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from robot.policy import Answer, PolicyError, Request
from robot.robots.lerobot import LeRobotArm

BODY = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
NAMES = (*BODY, "gripper")


class Driver:
    """`lerobot.robots.Robot`'s interface. Degrees, and 0 to 100 of the gripper; servos go to where
    they were last told with a time constant."""

    name = "formula_follower"

    def __init__(self, names: Sequence[str] = NAMES, calibrated: bool = True, lag_s: float = 0.03):
        self.config = SimpleNamespace(use_degrees=True)
        self.is_calibrated, self.is_connected, self._lag = calibrated, False, lag_s
        self.action_features: Mapping[str, Any] = {f"{name}.pos": float for name in names}
        self.observation_features = {
            **self.action_features, "front": (48, 64, 3), "front_depth": (48, 64, 1),
        }  # fmt: skip
        self.sent: list[tuple[float, dict[str, float]]] = []
        self.fails = ""
        self._at = dict.fromkeys(self.action_features, 10.0)
        self._goal, self._since = dict(self._at), time.monotonic()

    def connect(self, calibrate: bool = True) -> None:
        assert not calibrate, "that would ask at the terminal"
        if self.fails:
            raise ConnectionError(self.fails)
        self.is_connected = True

    def get_observation(self) -> dict[str, Any]:
        if self.fails:
            raise ConnectionError(self.fails)
        self._move()
        picture = np.full((48, 64, 3), 77, np.uint8)
        return {**self._at, "front": picture, "front_depth": picture[..., :1]}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        assert action.keys() == self.action_features.keys()
        self._move()
        self._goal = dict(action)
        self.sent.append((time.monotonic(), dict(action)))
        return action

    def disconnect(self) -> None:
        assert self.is_connected
        self.is_connected = False

    def _move(self) -> None:
        now = time.monotonic()
        share = 1 - np.exp(-(now - self._since) / self._lag)
        self._since = now
        for key, goal in self._goal.items():
            self._at[key] += share * (goal - self._at[key])


class Arm(LeRobotArm):
    """For `egoscaler robot --robot tests.lerobot_arm:Arm`."""

    def __init__(self) -> None:
        super().__init__(Driver(), {})


class Waves:
    """Chunks of positions: the first joint goes to and fro, 10 degrees about where it began, the
    others stay."""

    batch = 1
    metadata: Mapping[str, Any] = {"fps": 10.0, "horizon": 16, "actions": "joints"}

    def __init__(self) -> None:
        self.states: list[np.ndarray] = []

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        return [self._answer(request.observation) for request in requests]

    def _answer(self, seen: Mapping[str, Any]) -> Answer:
        assert seen["observation/images/base_0_rgb"].shape == (48, 64, 3)
        state = seen["observation/state"]
        self.states.append(state)
        chunk = np.tile([10.0] * len(state), (16, 1))
        chunk[:, 0] += 10 * np.sin(time.monotonic() + np.arange(1, 17) / 10)
        return Answer(chunk)

    def forget(self, client: str) -> None:
        return

    def close(self) -> None:
        return
