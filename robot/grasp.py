"""Steps of a thing as steps of the gripper that holds it.

A policy that has learnt from people's hands says how the thing is to move: an action is its step
T_t^-1 T_(t+1), in its own frame as the step begins (`ego_ops.geometry.actions`). While it is held,
T_gripper_object is the same before and after a step S, and so

    T_world_gripper' = T_world_object S T_object_gripper = T_world_gripper (G S G^-1)

with G = T_gripper_object: that is the gripper's step, in its own frame. No camera and no base has a
part in it. The thing's frame is that of the policy's state, T_camera_object: as the grasp is made,
G = T_camera_gripper^-1 T_camera_object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError

Floats = NDArray[np.float64]

STEP = 9
_FLAT = 1e-3
"""Columns shorter than this, or whose plane is flatter, say no rotation."""


def gripper_steps(actions: ArrayLike, grasp: RigidTransform) -> Floats:
    """(H, n) steps of the gripper, as those of the thing.

    The other way round, steps of a gripper become those of the thing by `grasp.inv()`.

    Args:
        actions: (H, n): translation (metres) and the first two columns of the rotation, 9 numbers,
            in the thing's frame as each step begins; what follows (an opening) is left as it is.
        grasp: T_gripper_object.

    Raises:
        UserError: they are not that.
    """
    given = np.array(actions, np.float64)
    steps = grasp * transforms(given) * grasp.inv()
    given[:, :STEP] = numbers(steps)
    return given


def transforms(actions: ArrayLike) -> RigidTransform:
    """H rigid motions, of (H, 9 or more) actions. The rotation's columns, which a policy gives
    nearly so, are made orthonormal: the first keeps its direction (Gram-Schmidt).

    Raises:
        UserError: they have fewer numbers, one is not finite, or columns span no plane.
    """
    steps = np.asarray(actions, np.float64)
    if steps.ndim != 2 or steps.shape[1] < STEP or not len(steps):
        raise UserError(f"steps of shape {steps.shape}: must be (H, {STEP}) or more")
    if not np.isfinite(steps[:, :STEP]).all():
        at = int(np.argmin(np.isfinite(steps[:, :STEP]).all(1)))
        raise UserError(f"step {at}: {steps[at].tolist()}, must be finite")
    x, y = steps[:, 3:6], steps[:, 6:9]
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.maximum(length, _FLAT)
    y = y - (x * y).sum(1, keepdims=True) * x
    height = np.linalg.norm(y, axis=1, keepdims=True)
    flat = np.flatnonzero(np.minimum(length, height) < _FLAT)
    if len(flat):
        at = int(flat[0])
        raise UserError(f"step {at}: columns {steps[at, 3:9].tolist()} are those of no rotation")
    y = y / height
    axes = np.stack([x, y, np.cross(x, y)], axis=-1)
    return RigidTransform.from_components(steps[:, :3], Rotation.from_matrix(axes))


def numbers(steps: RigidTransform) -> Floats:
    """(H, 9) of H rigid motions: what `transforms` reads."""
    axes = steps.rotation.as_matrix()
    return np.concatenate([steps.translation, axes[:, :, 0], axes[:, :, 1]], axis=1)
