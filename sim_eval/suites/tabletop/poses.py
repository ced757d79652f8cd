"""Rigid motions for the inner loop, by MuJoCo's own functions: SciPy's take a hundred times as
long for a single pose, and would cost more than the physics."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.synthetic.render import load_mujoco

Floats = NDArray[np.float64]


class Pose(NamedTuple):
    """T_a_b: a rotation, then a translation."""

    place: Floats
    """(3,) metres."""
    quat: Floats
    """(4,) scalar-first, as MuJoCo's."""

    @staticmethod
    def of(motion: RigidTransform) -> Pose:
        return Pose(motion.translation, np.roll(motion.rotation.as_quat(), 1))

    def __matmul__(self, other: Pose) -> Pose:
        """T_a_c of this T_a_b and another's T_b_c."""
        return Pose(self.apply(other.place), times(self.quat, other.quat))

    def inverse(self) -> Pose:
        back = inverse(self.quat)
        moved = np.empty(3)
        load_mujoco().mju_rotVecQuat(moved, -self.place, back)
        return Pose(moved, back)

    def apply(self, point: Floats) -> Floats:
        """(3,) a point of b, in a."""
        turned = np.empty(3)
        load_mujoco().mju_rotVecQuat(turned, point, self.quat)
        return turned + self.place

    def axes(self) -> Floats:
        """(3, 3) the rotation's matrix."""
        matrix = np.empty(9)
        load_mujoco().mju_quat2Mat(matrix, self.quat)
        return matrix.reshape(3, 3)


def times(first: Floats, second: Floats) -> Floats:
    """(4,) the product of two rotations."""
    product = np.empty(4)
    load_mujoco().mju_mulQuat(product, first, second)
    return product


def inverse(quat: Floats) -> Floats:
    """(4,) the rotation back."""
    return quat * [1, -1, -1, -1]


def turn_of(quat: Floats) -> Floats:
    """(3,) the rotation as its axis times its angle, at most pi."""
    vector = np.empty(3)
    load_mujoco().mju_quat2Vel(vector, quat, 1.0)
    return vector


def quat_of(turn: Floats) -> Floats:
    """(4,) the rotation about an axis (3,) by its length."""
    angle = math.sqrt(turn @ turn)
    if not angle:
        return np.array([1.0, 0, 0, 0])
    quat = np.empty(4)
    load_mujoco().mju_axisAngle2Quat(quat, turn / angle, angle)
    return quat


def quat_of_columns(x: Floats, y: Floats) -> Floats:
    """(4,) the rotation whose matrix has these first two columns, orthonormal, (3,) each."""
    mujoco, axes, quat = load_mujoco(), np.empty((3, 3)), np.empty(4)
    mujoco.mju_cross(axes[2], x, y)
    axes[0], axes[1] = x, y
    mujoco.mju_mat2Quat(quat, axes.T.ravel())
    return quat
