"""An arm that is a formula, for control loops, and the policies that move it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from robot.grasp import numbers
from robot.policy import Answer, PolicyError, Request
from robot.robot import Kind, Observation, RobotError

HOME = np.array([0.3, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0, 0.5])
ALONE_S = 0.1
"""Without a command for so long it holds by itself."""


class Arm:
    """Is where it was last told to be."""

    name, state_size, kind, size = "formula", 3, "pose", 8
    cameras: Mapping[str, tuple[int, int]] = {"base_0_rgb": (32, 32)}

    def __init__(self, position: np.ndarray = HOME, kind: Kind = "pose"):
        self.kind, self.size = kind, len(position)  # type: ignore[misc]
        self.position = position.copy()
        self.commands: list[tuple[float, np.ndarray]] = []
        self.holds: list[float] = []
        self.fails, self.blind, self.done = threading.Event(), threading.Event(), False

    def start(self, seed: int) -> None:
        """It is where it is."""

    def read(self) -> np.ndarray:
        if self.fails.is_set():
            raise RobotError("no power")
        return self.position.copy()

    def observe(self) -> Observation:
        if self.blind.is_set():
            raise RobotError("the camera is gone")
        picture = np.full((32, 32, 3), 99, np.uint8)
        position = self.read()
        return Observation({"base_0_rgb": picture}, position[:3], position, time.monotonic())

    def message(self, observation: Observation, instruction: str) -> dict[str, Any]:
        images = {f"observation/{name}": image for name, image in observation.images.items()}
        return {**images, "observation/pose": observation.position, "prompt": instruction}

    def command(self, target: np.ndarray) -> None:
        self.position = target.copy()
        self.commands.append((time.monotonic(), target.copy()))

    def hold(self) -> None:
        self.holds.append(time.monotonic())

    @property
    def held(self) -> bool:
        """Whether it was told to hold after all commands."""
        return bool(self.holds and self.commands) and self.holds[-1] >= self.commands[-1][0]

    def solved(self) -> bool:
        return self.done

    def close(self) -> None:
        self.hold()


class Circle:
    """Has a gripper go around the circle through HOME with its tangent ahead, at a constant speed:
    on from where on it (or beside it) the gripper is seen to be. Chunks are (horizon, 10)
    `pose_step`s.

    Args:
        radius: metres.
        speed: m/s.
        seconds: that an answer takes.
    """

    batch = 4

    def __init__(
        self,
        fps: float = 20.0,
        horizon: int = 20,
        radius: float = 0.1,
        speed: float = 0.1,
        seconds: float = 0.0,
    ):
        self.metadata: Mapping[str, Any] = {
            "fps": fps, "horizon": horizon, "actions": "pose_step",
            "egoscaler": {"features": ["prefix"]},
        }  # fmt: skip
        self._radius, self._turn = radius, speed / radius / fps
        self._horizon, self._seconds = horizon, seconds
        self.requests: list[Request] = []
        self.gate = threading.Event()
        self.gate.set()

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        self.requests += requests
        time.sleep(self._seconds)
        self.gate.wait(5)
        return [Answer(self.steps(r.observation["observation/pose"])) for r in requests]

    def steps(self, pose: np.ndarray) -> np.ndarray:
        """(horizon, 10), from a command on."""
        spoke = pose[:2] - HOME[:2] - [0, self._radius]
        angle = np.arctan2(spoke[0], -spoke[1]) + self._turn * np.arange(1, self._horizon + 1)
        way = self._radius * np.stack([np.sin(angle), 1 - np.cos(angle), 0 * angle], axis=1)
        turned = Rotation.from_rotvec(angle[:, None] * [0.0, 0.0, 1.0]).as_quat()
        places = np.concatenate([pose[None, :3], HOME[:3] + way])
        poses = RigidTransform.from_components(
            places, Rotation.from_quat(np.concatenate([pose[None, 3:7], turned]))
        )
        steps = numbers(poses[:-1].inv() * poses[1:])
        return np.concatenate([steps, np.full((self._horizon, 1), 0.5)], axis=1)

    def forget(self, client: str) -> None:
        """Nothing is kept of any."""

    def close(self) -> None:
        """There is nothing."""


def off_circle(commands: np.ndarray, radius: float = 0.1) -> np.ndarray:
    """How far (T, 8) commands are from the circle of `Circle` that begins at HOME [m], their
    orientations' distance from its tangent added [rad]."""
    centre = HOME[:3] + [0, radius, 0]
    spoke = commands[:, :3] - centre
    angle = np.arctan2(spoke[:, 0], -spoke[:, 1])
    turn = Rotation.from_rotvec(angle[:, None] * [0.0, 0.0, 1.0])
    wrong = (turn.inv() * Rotation.from_quat(commands[:, 3:7])).magnitude()
    return np.abs(np.linalg.norm(spoke, axis=1) - radius) + wrong
