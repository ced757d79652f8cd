"""Joint positions that put a gripper where it is wanted, on MuJoCo's Jacobians.

Damped least squares whose damping follows the error, which makes it safe to ask for what is out of
reach (Sugihara, IEEE T-RO 27(5), 2011). Joints at a bound are taken out of a step and the others
make up for them; what a step leaves free goes towards a posture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from robot.arm_model import names, number

Floats = NDArray[np.float64]

REACH_M, REACH_RAD = 1e-4, 1e-3
"""A pose this near is reached, metres and radians."""
_DONE = 1e-2
"""Share of these at which a search ends."""
_ARM = 0.3
"""Metres that weigh as much as a radian, by default."""
_DAMPING = 1e-6
"""Least damping: of squared metres."""
_POSTURE = 0.05
"""Share of the way to the posture that a step goes, of what is free."""
_ITERATIONS = 50
_STILL = 1e-9
"""Of all joints, a change that is none."""


class Solution(NamedTuple):
    """Joint positions, and how far the pose that they make is from the one asked for."""

    q: Floats
    """(J,)."""
    error_m: float
    error_rad: float
    reached: bool
    """Whether both are next to nothing; where not, q is the nearest that was found."""


class Kinematics:
    """Of one arm of a model; other joints are where the model has them by default.

    Attributes:
        low, high: (J,) range of each joint, infinite where the model has none.

    Args:
        model: an MjModel, see `robot.arm_model.load`.
        site: name of the site, or else body, that is moved.
        joints: names of the hinges and slides that move it, in the order of q.
        base: name of the body in whose frame poses are; the model's world by default.
        arm: metres that weigh as much as a radian, where both cannot be had: little for arms of
            fewer than six joints, which are to reach the place whatever the rotation.

    Raises:
        UserError: the model has no such site or joint, or it is no hinge or slide.
    """

    def __init__(
        self,
        model: Any,
        site: str,
        joints: Sequence[str],
        base: str | None = None,
        arm: float = _ARM,
    ):
        import mujoco

        self._arm = arm
        self._mujoco, self._model, self._data = mujoco, model, mujoco.MjData(model)
        sites, bodies = names(model, "site"), names(model, "body")
        self._is_site = site in sites
        self._site = number(model, "site" if self._is_site else "body", site, [*sites, *bodies])
        self._base = 0 if base is None else number(model, "body", base, bodies)
        known = names(model, "joint")
        numbers = [number(model, "joint", name, known) for name in joints]
        for name, at in zip(joints, numbers, strict=True):
            if model.jnt_type[at] not in (mujoco.mjtJoint.mjJNT_HINGE,
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
        base = self._data.xmat[self._base].reshape(3, 3)
        return RigidTransform.from_components(
            base.T @ (place - self._data.xpos[self._base]),
            Rotation.from_matrix(base.T @ turn.reshape(3, 3)),
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
            span = np.asarray(most, np.float64)
            low, high = np.maximum(low, start - span), np.minimum(high, start + span)
        start = np.minimum(np.maximum(start, low), high)
        rest = start if posture is None else self._checked(posture)
        place, turn = self._wanted(start, target)
        if posture is not None:  # so that it is gone to where the target is reached already, too
            error, jacobian = self._error(place, turn), self._slopes()
            step = self._step(error, jacobian, 1.0, start, rest, low, high)
            start = np.minimum(np.maximum(start + step, low), high)
        best = self._descend(place, turn, start, rest, low, high)
        draw = np.random.default_rng(0)
        for _ in range(restarts):
            if best.reached:
                break
            begin = draw.uniform(np.maximum(low, -np.pi), np.minimum(high, np.pi))
            found = self._descend(place, turn, begin, rest, low, high)
            best = min(best, found, key=lambda one: one.error_m + self._arm * one.error_rad)
        return best

    def _descend(
        self, place: Floats, turn: Floats, q: Floats, rest: Floats, low: Floats, high: Floats
    ) -> Solution:
        self._pose(q)
        error, jacobian, caution = self._error(place, turn), self._slopes(), 1.0
        for _ in range(_ITERATIONS):
            off, angle = self._far(error)
            if off < _DONE * REACH_M and angle < _DONE * REACH_RAD:
                break
            step = self._step(error, jacobian, caution, q, rest, low, high)
            if np.abs(step).max() < _STILL:
                break
            tried = np.minimum(np.maximum(q + step, low), high)
            self._pose(tried)
            left = self._error(place, turn)
            if left @ left < error @ error:
                q, error, jacobian = tried, left, self._slopes()
                caution = max(1.0, caution / 4)
            else:
                caution *= 8  # in the end it goes straight down, as little as need be
        off, angle = self._far(error)
        return Solution(q, off, angle, off <= REACH_M and angle <= REACH_RAD)

    def _step(
        self,
        error: Floats,
        jacobian: Floats,
        caution: float,
        q: Floats,
        rest: Floats,
        low: Floats,
        high: Floats,
    ) -> Floats:
        """(J,) change of q that lessens the error, within the bounds."""
        step, free = np.zeros(len(q)), np.ones(len(q), bool)
        damping = caution * (error @ error + _DAMPING) * np.eye(6)
        drawn = _POSTURE / caution * (rest - q)
        for _ in range(len(q)):
            j = jacobian[:, free]
            left = error - jacobian @ (step * ~free)
            inverse = np.linalg.solve(j @ j.T + damping, j).T
            step[free] = inverse @ (left - j @ drawn[free]) + drawn[free]
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

    def _wanted(self, q: Floats, target: RigidTransform) -> tuple[Floats, Floats]:
        """(3,) and (4,) scalar-first: place and rotation in the world of a T_base_site; the arm is
        at q then."""
        self._pose(q)
        matrix = target.as_matrix()  # SciPy's own composition takes longer than all of `solve`
        if not np.isfinite(matrix).all():
            raise UserError(f"target {matrix[:3].tolist()}: must be finite")
        axes, turn = self._data.xmat[self._base].reshape(3, 3), np.empty(4)
        self._mujoco.mju_mat2Quat(turn, (axes @ matrix[:3, :3]).ravel())
        return self._data.xpos[self._base] + axes @ matrix[:3, 3], turn

    def _error(self, place: Floats, turn: Floats) -> Floats:
        """(6,) metres: what is missing of the place and, times `arm`, of the rotation."""
        here, axes = self._at()
        now, missing, vector = np.empty(4), np.empty(4), np.empty(3)
        self._mujoco.mju_mat2Quat(now, axes)
        self._mujoco.mju_negQuat(now, now)
        self._mujoco.mju_mulQuat(missing, turn, now)
        self._mujoco.mju_quat2Vel(vector, missing, 1.0)
        return np.concatenate([place - here, self._arm * vector])

    def _slopes(self) -> Floats:
        """(6, J) of the pose by q, in the units of `_error`."""
        self._mujoco.mj_comPos(self._model, self._data)
        jac = self._mujoco.mj_jacSite if self._is_site else self._mujoco.mj_jacBody
        jac(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
        found = self._jacobian[:, self._columns]
        found[3:] *= self._arm
        return found

    def _checked(self, q: ArrayLike) -> Floats:
        array = np.array(q, np.float64)
        if array.shape != (len(self._places),) or not np.isfinite(array).all():
            raise UserError(
                f"joint positions {array.tolist()}: must be {len(self._places)} finite numbers"
            )
        return array

    def _far(self, error: Floats) -> tuple[float, float]:
        """Metres and radians of an error (6,)."""
        return math.hypot(*error[:3]), math.hypot(*error[3:]) / self._arm
