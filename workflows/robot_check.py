"""What is wrong with the flags of `egoscaler robot`, said before anything moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from workflows import flags

if TYPE_CHECKING:
    from robot.client import Client
    from workflows.robot import RobotConfig

_SLOWEST, _FASTEST = 12.0, 500.0
"""Commands a second. An arm holds by itself after 100 ms without one."""
_KINDS = {
    "mujoco": ("task", "wrist", "plain", "video"),
    "replay": ("observation", "cameras"),
    "arm": ("robot_config", "observation", "cameras", "arm_model", "site"),
}
"""Flags that say something of a kind of robot."""
_OF = {
    "mujoco": "the simulated arm",
    "replay": "recordings",
    "arm": "LeRobot's arms and your own",
}
_STEPS = ("pose_step", "object_step")


def flags_fit(config: RobotConfig) -> None:
    """Raises UserError: a number makes no sense, or a flag is for another robot."""
    flags.at_least(config, {"episodes": 1, "seed": 0})
    if not config.seconds > 0:
        raise UserError(f"--seconds {config.seconds:g}: must be more than 0")
    if not _SLOWEST <= config.rate <= _FASTEST:
        raise UserError(
            f"--rate {config.rate:g}: from {_SLOWEST:g} to {_FASTEST:g} commands a second"
        )
    if config.fps is not None and not 0 < config.fps <= _FASTEST:
        raise UserError(f"--fps {config.fps:g}: more than 0 and at most {_FASTEST:g} a second")
    if config.video is not None and Path(config.video).expanduser().is_dir():
        raise UserError(f"--video {config.video}: is a folder; give the name of an MP4 file")
    grasp(config.grasp)
    kind = _kind(config.robot)
    for name in _given(config):
        of = [each for each, names in _KINDS.items() if name in names]
        if of and kind not in of:
            raise UserError(
                f"--{name.replace('_', '-')}: of {' and '.join(_OF[each] for each in of)} only,"
                f" not of --robot {config.robot}"
            )


def grasp(numbers: tuple[float, ...]) -> RigidTransform | None:
    """T_gripper_object of x y z qx qy qz qw, if it is given. Raises UserError: it is none."""
    if not numbers:
        return None
    if len(numbers) != 7 or not np.isfinite(numbers).all() or not any(numbers[3:]):
        raise UserError(f"--grasp {' '.join(f'{n:g}' for n in numbers)}: give x y z qx qy qz qw")
    return RigidTransform.from_components(numbers[:3], Rotation.from_quat(numbers[3:]))


def _kind(robot: str) -> str:
    if robot == "mujoco":
        return robot
    if ":" not in robot:
        raise UserError(
            f"--robot {robot}: give mujoco, replay:DATASET, lerobot:TYPE, or module:Class"
        )
    return "replay" if robot.startswith("replay:") else "arm"


def _given(config: RobotConfig) -> list[str]:
    """Names of the fields that are not as by default."""
    return [each.name for each in fields(config) if getattr(config, each.name) != each.default]


def meant(config: RobotConfig, client: Client, arm: Any) -> tuple[str, float | None]:
    """What the server's actions are, and how many a second; None: as the server says.

    Args:
        arm: of `workflows.robot_choice`.

    Raises:
        UserError: nobody says it, or this robot cannot do such actions.
    """
    offer: Mapping[str, Any] = {**client.offer} if client.offer else {}
    said = {**client.metadata, **offer}
    steps = arm.robot.kind == "pose"
    actions = config.actions or said.get("actions") or ("pose_step" if steps else "joints")
    if (actions in _STEPS) != steps:
        raise UserError(
            f"the server's actions are {actions}: --robot {config.robot} is moved by "
            + ("steps of its gripper" if steps else "positions of its joints; or give --arm-model")
        )
    if actions == "object_step" and not config.grasp:
        raise UserError("steps of an object need its place in the gripper: --grasp")
    if actions != "object_step" and config.grasp:
        raise UserError(f"--grasp: the server's actions are {actions}, not object_step")
    fps = config.fps
    if fps is None and not isinstance(said.get("fps"), int | float):
        fps = arm.fps
        if fps is None:
            raise UserError("the server does not say how many actions a second it means: --fps")
    if config.join == "rtc" and "prefix" not in offer.get("features", ()):
        raise UserError(
            f"--join rtc: what {config.server} serves knows no real-time chunking; "
            "take latest or ensemble"
        )
    return actions, fps
