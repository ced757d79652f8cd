"""An arm that is driven by its joints, commanded by poses of its gripper: for policies whose
actions are steps of the gripper, or of what it holds.

    pose  -> inverse kinematics (`robot.kinematics`) -> joints -> the arm
    joints -> forward kinematics -> pose
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError, hint
from robot.kinematics import Kinematics
from robot.robot import Floats, Kind, Observation, Robot, RobotError

_OFF_M, _OFF_RAD = 0.01, 0.1
"""By which joints may miss a pose that is commanded."""
_ALL, _ARM, _FEW_ARM = 6, 0.3, 0.003
"""Arms of fewer joints than a pose has numbers reach the place, and turn as far as that allows."""
_SIZE = 8


class Jointed(Robot, Protocol):
    """A robot of kind `joints` that says what its numbers are."""

    joints: tuple[str, ...]
    """Names."""

    @property
    def scales(self) -> Floats:
        """(J,) radians of a unit; of the gripper, its opening from 0 to 1."""


class Posed:
    """See `robot.robot.Robot`. Poses are T_base_site.

    Args:
        arm: with a joint of the gripper, or none, and the model's joints for all others.
        model: an MjModel: see `robot.arm_model.load`.
        site: where the gripper is, a site or body of the model.
        names: the model's joint by the arm's; by default they have the same names.

    Raises:
        UserError: the model has no such site or joint.
    """

    kind: Kind = "pose"
    size = _SIZE

    def __init__(self, arm: Jointed, model: Any, site: str, names: Mapping[str, str] | None = None):
        self._arm = arm
        self.name, self.cameras, self.state_size = arm.name, arm.cameras, arm.state_size
        self._grip = [at for at, name in enumerate(arm.joints) if "gripper" in name]
        self._body = [at for at in range(len(arm.joints)) if at not in self._grip]
        plain = [joint.removesuffix(".pos") for joint in arm.joints]
        if unknown := [name for name in names or {} if name not in plain]:
            raise UserError(f"joints.{unknown[0]}: {arm.name} has none; {hint(unknown[0], plain)}")
        if len(self._grip) > 1:
            raise UserError(f"{arm.name}: has {len(self._grip)} grippers: give one arm")
        called = [_called(arm.joints[at], names or {}) for at in self._body]
        free = len(called) >= _ALL
        self._off_rad = _OFF_RAD if free else math.inf
        solvers = [Kinematics(model, site, called, arm=_ARM if free else _FEW_ARM) for _ in "ab"]
        self._solver, self._seeing = solvers  # of two threads
        self._scales = arm.scales
        self._q: Floats | None = None

    def start(self, seed: int) -> None:
        """See `Robot.start`."""
        self._arm.start(seed)
        self._q = None

    def read(self) -> Floats:
        """See `Robot.read`."""
        return self._pose(self._solver, self._arm.read())

    def observe(self) -> Observation:
        """See `Robot.observe`. The state is the arm's own."""
        seen = self._arm.observe()
        return seen._replace(position=self._pose(self._seeing, seen.position))

    def message(self, observation: Observation, instruction: str) -> dict[str, Any]:
        """See `Robot.message`."""
        return self._arm.message(observation, instruction)

    def command(self, target: Floats) -> None:
        """See `Robot.command`. Raises RobotError: the pose is out of the joints' reach, too."""
        before = self._arm.read() * self._scales
        if self._q is None:
            self._q = before[self._body]
        pose = RigidTransform.from_components(target[:3], Rotation.from_quat(target[3:7]))
        found = self._solver.solve(pose, self._q)
        if found.error_m > _OFF_M or found.error_rad > self._off_rad:
            raise RobotError(
                f"the pose is out of reach: the joints miss it by {1000 * found.error_m:.0f} mm "
                f"and {found.error_rad:.2f} rad"
            )
        self._q = before[self._body] = found.q
        before[self._grip] = target[7]
        self._arm.command(before / self._scales)

    def hold(self) -> None:
        """See `Robot.hold`."""
        self._q = None
        self._arm.hold()

    def solved(self) -> bool:
        """See `Robot.solved`."""
        return self._arm.solved()

    def close(self) -> None:
        """See `Robot.close`."""
        self._arm.close()

    def _pose(self, solver: Kinematics, joints: Floats) -> Floats:
        q = joints * self._scales
        pose = solver.forward(q[self._body])
        opening = float(q[self._grip][0]) if self._grip else 0.0
        return np.r_[pose.translation, pose.rotation.as_quat(), min(max(opening, 0.0), 1.0)]


def _called(joint: str, names: Mapping[str, str]) -> str:
    plain = joint.removesuffix(".pos")
    return names.get(plain, plain)
