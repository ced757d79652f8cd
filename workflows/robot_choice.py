"""The robot that `egoscaler robot --robot` names, and what it is to be told."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ego_ops.errors import UserError
from ego_ops.storage_errors import unreadable
from robot.limits import Joints, Limits

if TYPE_CHECKING:
    from workflows.robot import RobotConfig

_REPLAY, _LEROBOT, _JOINTS = "replay:", "lerobot:", "joints"
_POSE = ["x", "y", "z", "qx", "qy", "qz", "qw", "opening"]

_ANY = Joints(low=-1e9, high=1e9, step=1e9, speed=1e9, acceleration=1e9, jerk=1e12, beyond=1e9)


@dataclass
class Chosen:
    """A robot."""

    robot: Any
    """See `robot.robot.Robot`."""
    instruction: str
    limits: Limits
    """In its units."""
    what: str
    """Of its episodes, for people."""
    seconds: float = float("inf")
    """Most that an episode can take."""
    fps: float | None = None
    """Actions a second, where it knows."""
    needs: list[str] = field(default_factory=list)
    """What the server says that it needs beyond an observation."""
    seed: int = 0


def choose(config: RobotConfig, limits: Limits) -> Any:
    """The robot of --robot, not started.

    Raises:
        UserError: there is none of that name, or its flags do not fit.
    """
    if config.robot == "mujoco":
        from workflows.robot_tabletop import Tabled

        return Tabled(config.task, config.wrist, config.plain, limits)
    if config.robot.startswith(_REPLAY):
        return _replayed(config, limits)
    if not config.instruction:
        raise UserError(f"--robot {config.robot}: say what it is to do: --instruction '...'")
    options = _options(config.robot_config)
    names = options.pop(_JOINTS, {})
    if config.robot.startswith(_LEROBOT):
        from robot.robots import lerobot

        made = lerobot.driver(config.robot.removeprefix(_LEROBOT), options)
        arm: Any = lerobot.LeRobotArm(made, _cameras(config.cameras), config.observation)
    else:
        arm = _own(config.robot, options)
    if config.arm_model is None:
        limits = arm.limits(limits) if hasattr(arm, "limits") else limits
    else:
        from robot import arm_model
        from robot.robots.posed import Posed

        arm = Posed(arm, arm_model.load(config.arm_model), config.site, names)
    return Chosen(arm, config.instruction, limits, arm.name)


def _replayed(config: RobotConfig, limits: Limits) -> Chosen:
    """An episode of a LeRobot dataset."""
    from robot.robots.recorded import Frame, Recorded
    from training.config import SourceConfig
    from training.data.lerobot_index import read_info
    from training.data.lerobot_source import LeRobotSource

    folder, _, number = config.robot.removeprefix(_REPLAY).rpartition(":")
    if not folder or not number.isdecimal():
        folder, number = config.robot.removeprefix(_REPLAY), "0"
    folder = str(Path(folder).expanduser())
    source = LeRobotSource(SourceConfig(folder, "lerobot", cameras=config.cameras), horizon=1)
    episodes = source.windows()
    if int(number) >= len(episodes):
        raise UserError(f"{folder}: has {len(episodes)} episodes, none of number {number}")
    info = read_info(folder)
    poses = info["features"]["action"].get("names") == _POSE
    if not poses and source.state_size != source.action_size:
        raise UserError(
            f"{folder}: its actions are neither poses of the gripper, as `egoscaler robot "
            "--record` has them, nor positions of joints: it does not say where the robot is"
        )
    unit = source.load(int(number))
    windows = [unit.window(step) for step in range(int(episodes[int(number)]))]
    frames = []
    for one in windows:
        position = one.actions[0] if poses else one.state
        frames.append(Frame(one.images, one.state.astype(float), position.astype(float)))
    if not poses and config.limits is None:
        limits = replace(limits, joints=_ANY)  # of units that are not known, and nothing moves
    robot = Recorded(frames, float(info["fps"]), "pose" if poses else "joints", config.observation)
    said = config.instruction or windows[0].instruction
    return Chosen(robot, said, limits, f"{folder} {number}", robot.seconds, float(info["fps"]))


def _own(name: str, options: Mapping[str, Any]) -> Any:
    """A robot of one's own, module:Class."""
    module, _, kind = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), kind)(**options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise UserError(f"--robot {name}: cannot be made: {line}") from error


def _options(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    file = Path(path).expanduser()
    try:
        text = file.read_text("utf-8")
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise UserError(f"--robot-config {path}: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"--robot-config {path}: must be a table of fields")
    return found


def _cameras(texts: tuple[str, ...]) -> dict[str, str]:
    found = dict(text.partition("=")[::2] for text in texts)
    if "" in found.values():
        raise UserError(f"--cameras {' '.join(texts)}: give CAMERA=NAME, NAME one of pi0's")
    return found
