"""What is known of a clip before any track is looked at: how heads and hands move, depths err."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.geometry.smooth_motion import MotionPrior, add_smoothness
from ego_ops.geometry.view import Array, Index, Mask

HAND = MotionPrior(acceleration=5.0, turn_acceleration=40.0)
HEAD = MotionPrior(acceleration=5.0, turn_acceleration=20.0, rest_speed=np.inf, rest_turn=np.inf)


@dataclass(frozen=True)
class Priors:
    """Standard deviations; all of them weak against what the tracks say where there are tracks."""

    hand: MotionPrior = HAND
    """How the object moves in the world."""
    head: MotionPrior = HEAD
    """How the camera does: it never counts as at rest."""
    flicker: float = 0.03
    """Of a frame's depth scale about that of the clip, as a logarithm."""
    clip_scale: float = 1e-3
    """Of the clip's depth scale: where no path is recorded, lengths are as the depth says."""
    free_scale: float = 0.5
    """The same where a recorded path gives the lengths."""
    path_position: float = 0.003
    """Metres of a recorded camera pose."""
    path_rotation: float = 0.002
    """Radians of the same."""

    def to_world(self, camera: RigidTransform, motion: RigidTransform, middle: Array) -> Array:
        """(T, 6, 6) from a small motion of the object in the camera frame to a turn about its
        middle and that middle's shift, both in the world."""
        turn = camera.rotation.as_matrix()
        arm = motion.apply(middle) - camera.translation
        out = np.zeros((len(turn), 6, 6))
        out[:, :3, :3] = out[:, 3:, 3:] = turn
        out[:, 3:, :3] = -_cross(arm) @ turn
        return out


@dataclass(frozen=True)
class Measured:
    """Poses of the object that something other than its tracks measured."""

    poses: RigidTransform
    """T poses T_camera_object, the object's frame that of the points."""
    position_sd: Array
    """(T,) metres; infinite where nothing was measured."""
    rotation_sd: Array
    """(T,) radians; likewise."""

    def frames(self, which: Index) -> Measured:
        """Those of some frames (n,)."""
        return Measured(self.poses[which], self.position_sd[which], self.rotation_sd[which])


def add_measured(
    measured: Measured, band: Array, right: Array, pose: RigidTransform, middle: Array
) -> float:
    """Tie the object's poses (T) to measured ones, in the unknowns of its motion.

    Returns:
        What they cost at this state.
    """
    centre = pose.apply(middle)
    turn = (measured.poses.rotation * pose.rotation.inv()).as_rotvec()
    shift = measured.poses.apply(middle) - centre
    by_step = np.zeros((len(centre), 6, 6))
    by_step[:, :3, :3] = by_step[:, 3:, 3:] = np.eye(3)
    by_step[:, 3:, :3] = -_cross(centre)
    sd = np.repeat(np.stack((measured.rotation_sd, measured.position_sd), -1), 3, axis=-1)
    error, weighted = np.concatenate((turn, shift), -1), by_step / sd[..., None] ** 2
    band[:, 0, 6:12, 6:12] += weighted.swapaxes(1, 2) @ by_step
    right[:, 6:12] += (weighted.swapaxes(1, 2) @ error[..., None])[..., 0]
    return float(((error / sd) ** 2).sum()) / 2


def add_priors(
    priors: Priors,
    band: Array,
    right: Array,
    times: Array,
    camera: RigidTransform,
    motion: RigidTransform,
    middle: Array,
    log_scale: Array,
    path: RigidTransform | None,
    seen: Mask,
) -> float:
    """Add what the priors say to a band of blocks (T, 3, 13, 13) and its right side (T, 13).

    Args:
        seen: (T,) frames that show the object.

    Returns:
        What they cost at this state.
    """
    steps = len(times)
    centre = motion.apply(middle)
    blocks, pull = np.zeros((steps, 3, 6, 6)), np.zeros((steps, 6))
    cost = add_smoothness(blocks, pull, motion, centre, times, priors.hand, seen)
    to_world = priors.to_world(camera, motion, middle)
    _spread(band, right, blocks, pull, to_world, both=True)
    blocks, pull = np.zeros((steps, 3, 6, 6)), np.zeros((steps, 6))
    cost += add_smoothness(blocks, pull, camera, camera.translation, times, priors.head)
    if path is not None:
        cost += _add_path(blocks, pull, camera, path, priors)
    turn = camera.rotation.as_matrix()
    back = np.zeros((steps, 6, 6))
    back[:, :3, :3] = back[:, 3:, 3:] = -turn
    _spread(band, right, blocks, pull, back, both=False)
    clip = priors.clip_scale if path is None else priors.free_scale
    mean = float(log_scale.mean())
    # About the clip's own mean as it is now, and that mean about zero.
    off = (log_scale - mean) / priors.flicker**2 + mean / clip**2 / steps
    band[:, 0, 12, 12] += priors.flicker**-2 + clip**-2 / steps
    right[:, 12] -= off
    band[:, 0] += 1e-6 * np.eye(band.shape[-1])
    return cost + float(((log_scale - mean) ** 2).sum() / priors.flicker**2 + mean**2 / clip**2) / 2


def _spread(
    band: Array, right: Array, blocks: Array, pull: Array, by: Array, *, both: bool
) -> None:
    """Take blocks of world motions to the unknowns: the camera's, or (both) object less camera."""
    steps = len(by)
    for offset in range(min(3, steps)):
        part = by[offset:].swapaxes(1, 2) @ blocks[: steps - offset, offset] @ by[: steps - offset]
        own = band[: steps - offset, offset]
        own[:, :6, :6] += part
        if both:
            own[:, 6:12, 6:12] += part
            own[:, 6:12, :6] -= part
            own[:, :6, 6:12] -= part
    turned = (pull[:, None] @ by)[:, 0]
    if both:
        right[:, 6:12] += turned
        right[:, :6] -= turned
    else:
        right[:, :6] += turned


def _add_path(
    blocks: Array, pull: Array, camera: RigidTransform, path: RigidTransform, priors: Priors
) -> float:
    """Tie the camera to its recorded poses."""
    turn = (path.rotation * camera.rotation.inv()).as_rotvec()
    error = np.concatenate((turn, path.translation - camera.translation), -1)
    weight = np.repeat([priors.path_rotation**-2.0, priors.path_position**-2.0], 3)
    blocks[:, 0] += np.diag(weight)
    pull += weight * error
    return float((weight * error**2).sum()) / 2


def _cross(vectors: Array) -> Array:
    """(T, 3, 3) matrices of cross products with vectors (T, 3)."""
    x, y, z = vectors.T
    o = np.zeros_like(x)
    return np.stack((o, -z, y, z, o, -x, -y, x, o), -1).reshape(-1, 3, 3)
