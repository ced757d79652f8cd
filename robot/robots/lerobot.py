"""An arm that LeRobot drives: `lerobot.robots`, versions 0.4 to 0.6.

    control thread   `read` and `command` touch memory only
    driver's thread  sends the newest command, reads the arm and its cameras, again and again

Positions, commands and states are in the driver's own units (degrees, or from -100 to 100; the
gripper's from 0 to 100), as in the datasets that LeRobot records and that policies are trained on.
The servos hold where they were last told; where no command comes for 100 ms they are told to stay
where they are.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ego_ops.errors import UserError, hint
from robot.limits import Joints, Limits
from robot.robot import Floats, Kind, Observation, RobotError
from robot.robots.messages import CAMERAS, message

ALONE_S = 0.1
_RATE, _OLD_S, _JOIN_S, _FIRST_S = 60.0, 0.5, 3.0, 10.0
_END = ".pos"
_GRIPPER = 100.0
"""The driver's units from closed to open."""
_SLACK = 0.05
"""By which a gripper may be beyond its calibrated range, of 1."""
_RANGE = math.radians(100.0)
"""What 100 units are taken for where the driver has no degrees: half of a joint's range."""


class LeRobotArm:
    """See `robot.robot.Robot`.

    Args:
        driver: a `lerobot.robots.Robot`, not connected.
        cameras: π0's name of each of the driver's cameras that is shown; by default in order.
        layout: of `robot.robots.messages`.

    Raises:
        UserError: it is commanded by other things than positions, or has no such camera.
    """

    kind: Kind = "joints"

    def __init__(self, driver: Any, cameras: Mapping[str, str], layout: str = "ours"):
        self._driver, self._layout = driver, layout
        self.name = str(driver.name)
        self.joints = tuple(driver.action_features)
        others = [key for key in self.joints if not key.endswith(_END)]
        if others or not self.joints:
            raise UserError(f"{self.name}: is commanded by {', '.join(others)}: only joints can be")
        self.size = self.state_size = len(self.joints)
        self._shown = _shown(driver.observation_features, cameras)
        shapes = {name: driver.observation_features[key] for key, name in self._shown.items()}
        self.cameras = {name: (int(h), int(w)) for name, (h, w, _) in shapes.items()}
        self._changed = threading.Condition()
        self._seen: Observation | None = None
        self._wanted: tuple[float, Floats] | None = None
        self._problem = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def scales(self) -> Floats:
        """(J,) radians of one of the driver's units; of the gripper, its opening from 0 to 1."""
        degrees = bool(getattr(self._driver.config, "use_degrees", True))
        body = math.radians(1.0) if degrees else _RANGE / 100
        return np.array([1 / _GRIPPER if _is_gripper(key) else body for key in self.joints])

    def limits(self, limits: Limits) -> Limits:
        """Limits in radians as limits in the driver's units; of the gripper, those of grippers."""
        return replace(limits, joints=_converted(limits, self.scales, self.joints))

    def start(self, seed: int) -> None:
        """Connect, once; where the arm is the episode begins. See `Robot.start`."""
        if self._thread is None:
            self._connect()
            self._thread = threading.Thread(target=self._run, name="driver", daemon=True)
            self._thread.start()
        end = time.monotonic() + _FIRST_S
        with self._changed:
            while self._seen is None and not self._problem:
                if not self._changed.wait(end - time.monotonic()):
                    self._problem = f"nothing is seen for {_FIRST_S:g} s"
        if self._problem:
            raise UserError(f"{self.name}: {self._problem}")

    def read(self) -> Floats:
        """See `Robot.read`."""
        return self._newest().position.copy()

    def observe(self) -> Observation:
        """See `Robot.observe`."""
        return self._newest()

    def message(self, observation: Observation, instruction: str) -> dict[str, Any]:
        """See `Robot.message`."""
        return message(self._layout, observation, instruction)

    def command(self, target: Floats) -> None:
        """See `Robot.command`."""
        if self._problem:
            raise RobotError(self._problem)
        self._wanted = time.monotonic(), target.copy()

    def hold(self) -> None:
        """See `Robot.hold`."""
        seen = self._seen
        if seen is not None:
            self._wanted = time.monotonic(), seen.position.copy()

    def solved(self) -> bool:
        """Nobody knows."""
        return False

    def close(self) -> None:
        """See `Robot.close`."""
        self.hold()
        self._ended.set()
        if self._thread is None:
            return
        self._thread.join(_JOIN_S)
        try:
            self._driver.disconnect()
        except Exception as error:  # noqa: BLE001 - a driver's; the arm is left as it is
            self._problem = _line(error)

    def _newest(self) -> Observation:
        seen = self._seen
        if self._problem or seen is None:
            raise RobotError(self._problem or "it is not started")
        if time.monotonic() - seen.time > _OLD_S:
            raise RobotError(f"its driver has not answered for {_OLD_S:g} s")
        return seen

    def _connect(self) -> None:
        try:
            self._driver.connect(calibrate=False)
            calibrated = self._driver.is_calibrated
        except Exception as error:  # a driver's: a port, a motor, a camera
            raise UserError(f"{self.name}: cannot connect: {_line(error)}") from error
        if not calibrated:
            self._driver.disconnect()
            raise UserError(f"{self.name}: is not calibrated: run lerobot-calibrate")

    def _run(self) -> None:
        sent = 0.0
        while not self._ended.wait(max(0.0, sent + 1 / _RATE - time.monotonic())):
            sent = time.monotonic()
            try:
                self._send()
                found = self._driver.get_observation()
                seen = self._observation(found)
            except Exception as error:  # noqa: BLE001 - a driver's: the loop is told, and stops
                self._problem = f"its driver failed: {_line(error)}"
            with self._changed:
                self._seen = self._seen if self._problem else seen
                self._changed.notify_all()
            if self._problem:
                return

    def _send(self) -> None:
        wanted = self._wanted
        if wanted is None:
            return
        since, target = wanted
        if time.monotonic() - since > ALONE_S:
            assert self._seen is not None
            target, self._wanted = self._seen.position, None
        self._driver.send_action(dict(zip(self.joints, target.tolist(), strict=True)))

    def _observation(self, found: Mapping[str, Any]) -> Observation:
        position = np.array([found[key] for key in self.joints], np.float64)
        images = {name: np.asarray(found[key]) for key, name in self._shown.items()}
        return Observation(images, position, position, time.monotonic())


def driver(kind: str, options: Mapping[str, Any]) -> Any:
    """LeRobot's driver of an arm.

    Args:
        kind: LeRobot's name, with or without `_follower` at its end.
        options: fields of its configuration, as a file has them.

    Raises:
        UserError: LeRobot is not installed, it has no such arm, or the options do not fit.
    """
    try:
        from draccus import decode
        from lerobot import cameras, robots
        from lerobot.robots import RobotConfig
        from lerobot.robots.utils import make_robot_from_config
    except ImportError as error:
        raise UserError(
            f"--robot lerobot:{kind} needs LeRobot ({error.name} is missing): pip install lerobot"
        ) from error
    for package in (robots, cameras):
        _registered(package)
    known = list(RobotConfig.get_known_choices())
    name = kind if kind in known else f"{kind}_follower"
    if name not in known:
        raise UserError(f"--robot lerobot:{kind}: LeRobot has none; {hint(kind, known)}")
    try:
        return make_robot_from_config(decode(RobotConfig, {"type": name, **options}))
    except Exception as error:  # whatever an arm's package finds wrong with its options
        raise UserError(f"--robot lerobot:{kind}: {_line(error)}") from error


def _registered(package: Any) -> None:
    """Import all of a package's kinds: they say then that they are there. Some lack what they need,
    and are none then."""
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            try:
                importlib.import_module(f"{package.__name__}.{module.name}")
            except ImportError:
                continue


def _shown(features: Mapping[str, Any], cameras: Mapping[str, str]) -> dict[str, str]:
    """π0's camera by the driver's."""
    there = [key for key, shape in features.items() if isinstance(shape, tuple) and shape[2] == 3]
    if not there:
        raise UserError("the robot has no camera: policies need one")
    for key, name in cameras.items():
        if key not in there:
            raise UserError(f"--cameras {key}={name}: no such camera; {hint(key, there)}")
        if name not in CAMERAS:
            raise UserError(f"--cameras {key}={name}: not one of {', '.join(CAMERAS)}")
    return dict(cameras) or dict(zip(there, CAMERAS, strict=False))


def _converted(limits: Limits, scales: Floats, names: Sequence[str]) -> Joints:
    gripper = [_is_gripper(name) for name in names]
    speed = limits.gripper.speed
    of_gripper = {
        "low": limits.gripper.low - _SLACK, "high": limits.gripper.high + _SLACK,
        "step": speed / 20, "speed": speed, "acceleration": 10 * speed, "jerk": 500 * speed,
        "beyond": 2.0,
    }  # fmt: skip
    found = {}
    for name, value in vars(limits.joints).items():
        body = np.broadcast_to(np.asarray(value, float), len(names))
        radians = np.where(gripper, of_gripper[name], body)
        found[name] = tuple((radians / scales).tolist())
    return Joints(**found)


def _is_gripper(key: str) -> bool:
    return "gripper" in key


def _line(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
