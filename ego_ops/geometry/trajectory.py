"""From an object's motion in the world to the trajectory that is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.geometry.object_motion import ObjectMotion
from ego_ops.geometry.view import Array


@dataclass(frozen=True)
class Trajectory:
    """T poses of the object and of the camera, both in the first camera frame."""

    object: RigidTransform
    """T_first_object. The object's frame sits in the middle of its tracked points and has the
    axes of the first camera before the object moves."""
    camera: RigidTransform
    """T_first_camera."""


def trajectory(moved: ObjectMotion, path: RigidTransform) -> Trajectory:
    """The trajectory that displacements in the world amount to, seen from the first camera.

    Args:
        path: T poses T_world_camera.
    """
    first = path[0].inv()
    rest = RigidTransform.from_components(moved.middle, path[0].rotation)
    return Trajectory(first * moved.motion * rest, first * path)


def quaternions(poses: RigidTransform) -> Array:
    """(T, 4) scalar-last quaternions, each on the same side as the one before it."""
    quaternion = Rotation.as_quat(poses.rotation)
    flips = np.cumprod(np.where((quaternion[1:] * quaternion[:-1]).sum(-1) < 0, -1, 1))
    quaternion[1:] *= flips[:, None]
    return quaternion
