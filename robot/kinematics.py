"""Joint positions that put a gripper where it is wanted, on MuJoCo's Jacobians.

Damped least squares whose damping follows the error, which makes it safe to ask for what is out of
reach (Sugihara, IEEE T-RO 27(5), 2011). Joints at a bound are taken out of a step and the others
make up for them; what a step leaves free goes towards a posture.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError, hint
from ego_ops.synthetic.render import load_mujoco

Floats = NDArray[np.float64]

REACH_M, REACH_RAD = 1e-4, 1e-3
"""A pose this near is reached, metres and radians."""
_DONE = 1e-2
"""Share of these at which a search ends."""
_ARM = 0.3
"""Metres that weigh as much as a radian."""
_DAMPING = 1e-6
"""Least damping: of squared metres."""
_POSTURE = 0.05
"""Share of the way to the posture that a step goes, of what is free."""
_ITERATIONS = 50


class Solution(NamedTuple):
    """Joint positions, and how far the pose that they make is from the one asked for."""

    q: Floats
    """(J,)."""
    error_m: float
    error_rad: float
    reached: bool
    """Whether both are next to nothing; where not, q is the nearest that was found."""


def load(path: str | Path) -> Any:
    """The MjModel of an MJCF or URDF file, whether or not there is anything to render with.

    Raises:
        UserError: MuJoCo is not installed, or the file is no model.
    """
    if find_spec("mujoco") is None:
        raise UserError("kinematics need mujoco: pip install 'egoscaler-ray[eval]'")
    try:
        mujoco = load_mujoco()
    except UserError:
        if "mujoco" not in sys.modules:
            os.environ["MUJOCO_GL"] = "disable"
        import mujoco
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        line = " ".join(str(error).split())
        raise UserError(f"{path}: no model of a robot ({line})") from error


class Kinematics:
    """Of one arm of a model; other joints are where the model has them by default.

    Attributes:
        low, high: (J,) range of each joint, infinite where the model has none.

    Args:
        model: an MjModel, see `load`.
        site: name of the site, or else body, that is moved.
        joints: names of the hinges and slides that move it, in the order of q.
        base: name of the body in whose frame poses are; the model's world by default.

    Raises:
        UserError: the model has no such site or joint, or it is no hinge or slide.
    """

    def __init__(self, model: Any, site: str, joints: Sequence[str], base: str | None = None):
        import mujoco

        self._mujoco, self._model, self._data = mujoco, model, mujoco.MjData(model)
        sites, bodies = _names(model, "site"), _names(model, "body")
        self._is_site = site in sites
        self._site = _number(model, "site" if self._is_site else "body", site, [*sites, *bodies])
        self._base = 0 if base is None else _number(model, "body", base, bodies)
        known = _names(model, "joint")
        numbers = [_number(model, "joint", name, known) for name in joints]
        for name, number in zip(joints, numbers, strict=True):
            if model.jnt_type[number] not in (mujoco.mjtJoint.mjJNT_HINGE,
                                              mujoco.mjtJoint.mjJNT_SLIDE):  # fmt: skip
                raise UserError(f"joint {name}: neither a hinge nor a slide")
        self._places = model.jnt_qposadr[numbers]
        self._columns = model.jnt_dofadr[numbers]
        limited = model.jnt_limited[numbers].astype(bool)
        ranges = np.where(limited[:, None], model.jnt_range[numbers], [-np.inf, np.inf])
        self.low, self.high = ranges.T
        self._jacobian = np.zeros((6, model.nv))

    def forward(self, q: ArrayLike) -> RigidTransform:
        """T_base_site at joint positions (J,)."""
        self._pose(self._checked(q))
        place, turn = self._at()
        return self._frame().inv() * RigidTransform.from_components(
            place, Rotation.from_matrix(turn.reshape(3, 3))
        )

    def solve(
        self,
        target: RigidTransform,
        q0: ArrayLike,
        *,
        posture: ArrayLike | None = None,
        most: ArrayLike | None = None,
        restarts: int = 0,
    ) -> Solution:
        """Joint positions for a pose, near to others.

        Args:
            target: T_base_site.
            q0: (J,) to begin from.
            posture: (J,) what joints tend to where the pose leaves them free; q0 by default.
            most: (J,) or one number: by how much a joint may differ from q0, e.g. its greatest
                speed times the time that there is. Near a singularity that is what bounds speeds.
            restarts: how many other beginnings, all over the joints' ranges, are tried where q0
                does not lead there; 0 for a path that is to have no jumps.

        Raises:
            UserError: the target or q0 is not finite. A target out of reach is no error.
        """
        start = self._checked(q0)
        low, high = self.low, self.high
        if most is not None:
            low, high = np.maximum(low, start - most), np.minimum(high, start + most)
        start = np.minimum(np.maximum(start, low), high)
        rest = start if posture is None else self._checked(posture)
        self._pose(start)
        world = self._frame() * target
        place, turn = world.translation, world.rotation.as_quat()[[3, 0, 1, 2]]
        if not (np.isfinite(place).all() and np.isfinite(turn).all()):
            raise UserError(f"target {place.tolist()}, {turn.tolist()}: must be finite")
        best = self._descend(place, turn, start, rest, low, high)
        draw = np.random.default_rng(0)
        for _ in range(restarts):
            if best.reached:
                break
            begin = draw.uniform(np.maximum(low, -np.pi), np.minimum(high, np.pi))
            found = self._descend(place, turn, begin, rest, low, high)
            best = min(best, found, key=lambda one: one.error_m + _ARM * one.error_rad)
        return best

    def _descend(
        self, place: Floats, turn: Floats, q: Floats, rest: Floats, low: Floats, high: Floats
    ) -> Solution:
        best, least = q, np.inf
        errors = np.inf, np.inf
        for _ in range(_ITERATIONS):
            self._pose(q)
            error = self._error(place, turn)
            size = float(error @ error)
            if size < least:
                far = float(np.linalg.norm(error[:3])), float(np.linalg.norm(error[3:]) / _ARM)
                best, least, errors = q, size, far
                if far[0] < _DONE * REACH_M and far[1] < _DONE * REACH_RAD:
                    break
            step = self._step(error, size, q, rest, low, high)
            if np.abs(step).max() < 1e-9:
                break
            q = np.minimum(np.maximum(q + step, low), high)
        reached = errors[0] <= REACH_M and errors[1] <= REACH_RAD
        return Solution(best, *errors, reached)

    def _step(
        self, error: Floats, size: float, q: Floats, rest: Floats, low: Floats, high: Floats
    ) -> Floats:
        """(J,) change of q that lessens the error, within the bounds."""
        jacobian = self._slopes()
        step, free = np.zeros(len(q)), np.ones(len(q), bool)
        damping = (size + _DAMPING) * np.eye(6)
        for _ in range(len(q)):
            j = jacobian[:, free]
            left = error - jacobian @ (step * ~free)
            inverse = np.linalg.solve(j @ j.T + damping, j).T
            drawn = _POSTURE * (rest - q)[free]
            step[free] = inverse @ (left - j @ drawn) + drawn
            over = free & ((q + step < low) | (q + step > high))
            if not over.any():
                break
            step[over] = np.clip(q + step, low, high)[over] - q[over]
            free &= ~over
            if not free.any():
                break
        return step

    def _pose(self, q: Floats) -> None:
        self._data.qpos[self._places] = q
        self._mujoco.mj_kinematics(self._model, self._data)

    def _at(self) -> tuple[Floats, Floats]:
        """(3,) and (9,) in the world: where the site is, and its axes."""
        data = self._data
        if self._is_site:
            return data.site_xpos[self._site], data.site_xmat[self._site]
        return data.xpos[self._site], data.xmat[self._site]

    def _frame(self) -> RigidTransform:
        """T_world_base."""
        axes = self._data.xmat[self._base].reshape(3, 3)
        return RigidTransform.from_components(
            self._data.xpos[self._base], Rotation.from_matrix(axes)
        )

    def _error(self, place: Floats, turn: Floats) -> Floats:
        """(6,) metres: what is missing of the place and, times `_ARM`, of the rotation."""
        here, axes = self._at()
        now, missing, vector = np.empty(4), np.empty(4), np.empty(3)
        self._mujoco.mju_mat2Quat(now, axes)
        self._mujoco.mju_negQuat(now, now)
        self._mujoco.mju_mulQuat(missing, turn, now)
        self._mujoco.mju_quat2Vel(vector, missing, 1.0)
        return np.concatenate([place - here, _ARM * vector])

    def _slopes(self) -> Floats:
        """(6, J) of the pose by q, in the units of `_error`."""
        self._mujoco.mj_comPos(self._model, self._data)
        jac = self._mujoco.mj_jacSite if self._is_site else self._mujoco.mj_jacBody
        jac(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
        found = self._jacobian[:, self._columns]
        found[3:] *= _ARM
        return found

    def _checked(self, q: ArrayLike) -> Floats:
        array = np.array(q, np.float64)
        if array.shape != (len(self._places),) or not np.isfinite(array).all():
            raise UserError(
                f"joint positions {array.tolist()}: must be {len(self._places)} finite numbers"
            )
        return array


def _names(model: Any, kind: str) -> list[str]:
    count = {"site": model.nsite, "body": model.nbody, "joint": model.njnt}[kind]
    found = [getattr(model, kind)(number).name for number in range(count)]
    return [name for name in found if name]


def _number(model: Any, kind: str, name: str, known: list[str]) -> int:
    if name not in known:
        raise UserError(f"the model has no {kind} {name}; {hint(name, known)}")
    return int(getattr(model, kind)(name).id)
