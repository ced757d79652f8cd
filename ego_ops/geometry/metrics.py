"""How far one trajectory is from another: pure functions on arrays.

Positions are (T, 3) metres, rotations (T, 4) scalar-last quaternions, and both trajectories are
given at the same T steps and in the same frame. Each error of positions is also worth taking
after `aligned`, which removes a wrong metric scale, or the choice of frame as well;
`ego_ops.geometry.comparison` takes all of them. What does not match in length, or is not finite,
is a ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation, Slerp

Floats = NDArray[np.float64]
Alignment = Literal["none", "scale", "rigid", "similarity"]


@dataclass(frozen=True)
class Summary:
    """What a run of errors comes to, in the errors' own unit."""

    mean: float
    median: float
    rmse: float
    max: float
    last: float


def summary(errors: ArrayLike) -> Summary:
    """Of (T,) errors: of displacements, `mean` is the ADE and `last` the FDE.

    Raises:
        ValueError: there are none.
    """
    e = np.asarray(errors, float)
    if e.size == 0:
        raise ValueError("no errors to sum up")
    return Summary(
        float(e.mean()), float(np.median(e)), rms(e), float(e.max()), float(e[-1])
    )  # fmt: skip


def displacement(estimate: ArrayLike, truth: ArrayLike) -> Floats:
    """(T,) distances between positions (T, 3)."""
    a, b = _pair(estimate, truth)
    return np.linalg.norm(a - b, axis=-1)


def geodesic(estimate: ArrayLike, truth: ArrayLike) -> Floats:
    """(T,) angles in radians, 0 to pi, between rotations given as quaternions (T, 4).

    q and -q are the same rotation. The angle is 2 acos|q·q'|.

    Raises:
        ValueError: the shapes differ, or a quaternion is zero or not finite.
    """
    a, b = _pair(estimate, truth)
    if not ((a * a).sum(-1).all() and (b * b).sum(-1).all()):
        raise ValueError("a quaternion of norm 0 is no rotation")
    # |a + b| and |a - b| are twice the cosine and the sine of a quarter of the angle. An arc
    # cosine would lose all angles below 1e-8.
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    near, far = np.linalg.norm(a + b, axis=-1), np.linalg.norm(a - b, axis=-1)
    return 4 * np.arctan2(np.minimum(near, far), np.maximum(near, far))


def absolute_error(estimate: ArrayLike, truth: ArrayLike, align: Alignment = "rigid") -> float:
    """ATE: root mean square distance in metres between positions (T, 3).

    Args:
        align: what may first be fitted to the truth: nothing, a scale about the origin, a rigid
            motion, or both.
    """
    return rms(displacement(aligned(estimate, truth, align), truth))


def relative_error(
    estimate: RigidTransform, truth: RigidTransform, step: int = 1
) -> tuple[Floats, Floats]:
    """RPE: how far the motion over `step` steps is off, wherever it begins.

    Args:
        estimate, truth: T poses.

    Returns:
        (T - step,) metres and (T - step,) radians.

    Raises:
        ValueError: the lengths differ, or there are not more than `step` poses.
    """
    matching(estimate, truth)
    if not 0 < step < len(truth):
        raise ValueError(f"{len(truth)} poses have no motions over {step}")
    moved = estimate[:-step].inv() * estimate[step:]
    should = truth[:-step].inv() * truth[step:]
    off = should.inv() * moved
    return np.linalg.norm(off.translation, axis=-1), off.rotation.magnitude()


@dataclass(frozen=True)
class Similarity:
    """x to scale * rotation x + translation."""

    scale: float
    rotation: Rotation
    translation: Floats

    def apply(self, points: ArrayLike) -> Floats:
        """Map points (T, 3)."""
        return self.scale * self.rotation.apply(points) + self.translation


def umeyama(source: ArrayLike, target: ArrayLike, scale: bool = True) -> Similarity:
    """The similarity (or rigid motion) that takes `source` nearest to `target` (Umeyama 1991).

    Where the points lie in a line or in one place, so that many rotations serve, one is taken.

    Args:
        source, target: (T, 3) matching points.
        scale: whether the scale is free; 1 otherwise, and where the source is one place.
    """
    a, b = _pair(source, target)
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, spread, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a) / len(a))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = Rotation.from_matrix(u @ np.diag(signs) @ vt)
    variance = float(((a - mean_a) ** 2).sum(1).mean())
    size = float(spread @ signs) / variance if scale and variance > 0 else 1.0
    return Similarity(size, rotation, mean_b - size * rotation.apply(mean_a))


def scale(estimate: ArrayLike, truth: ArrayLike) -> float:
    """The factor about the origin that takes `estimate` nearest to `truth`, both (T, 3).

    The origin of a trajectory is its first camera, which is the point that a wrong depth scales
    about. NaN where the estimate is all zero.
    """
    a, b = _pair(estimate, truth)
    size = float((a * a).sum())
    return float((a * b).sum()) / size if size > 0 else float("nan")


def aligned(estimate: ArrayLike, truth: ArrayLike, align: Alignment) -> Floats:
    """(T, 3) positions of `estimate` after the fit that `align` names; see `absolute_error`."""
    a, b = _pair(estimate, truth)
    if align == "none":
        return a
    if align == "scale":
        factor = scale(a, b)
        return a * factor if factor > 0 else a  # no scale mirrors a path
    return umeyama(a, b, scale=align == "similarity").apply(a)


def static(truth: RigidTransform) -> RigidTransform:
    """The baseline that nothing moves: the first of T poses, T times."""
    return RigidTransform.concatenate([truth[0]] * len(truth))


def straight_line(truth: RigidTransform, times: ArrayLike) -> RigidTransform:
    """The baseline that knows both ends: even motion from the first of T poses to the last.

    Args:
        times: (T,) seconds, rising.

    Raises:
        ValueError: there are not T times, or they do not rise.
    """
    t = np.asarray(times, float)
    if t.shape != (len(truth),) or not (np.diff(t) > 0).all():
        raise ValueError(
            f"times of shape {t.shape} do not rise once for each of {len(truth)} poses"
        )
    if len(truth) == 1:
        return truth
    ends = truth.translation[[0, -1]]
    weight = ((t - t[0]) / (t[-1] - t[0]))[:, None]
    turn = Slerp(t[[0, -1]], truth[[0, -1]].rotation)(t)
    return RigidTransform.from_components(ends[0] + weight * (ends[1] - ends[0]), turn)


def no_registration(object: RigidTransform, camera: RigidTransform) -> RigidTransform:
    """The baseline that takes the moving camera for a still one: the object as each frame sees it.

    Args:
        object: T poses T_first_object.
        camera: T poses T_first_camera.

    Returns:
        T poses T_camera_object, to be read as T_first_object.
    """
    matching(object, camera)
    return camera.inv() * object


def matching(estimate: RigidTransform, truth: RigidTransform) -> None:
    """See that both have T finite poses.

    Raises:
        ValueError: the lengths differ, or a pose is not finite.
    """
    if len(estimate) != len(truth):
        raise ValueError(f"{len(estimate)} and {len(truth)} poses do not match")
    for name, poses in (("first", estimate), ("second", truth)):
        bad = np.flatnonzero(~np.isfinite(poses.as_matrix()).all((1, 2)))
        if len(bad):
            raise ValueError(f"pose {bad[0]} of the {name} {len(poses)} is not finite")


def rms(values: Floats) -> float:
    """Root mean square of (n,) values."""
    return float(np.sqrt(np.mean(values**2)))


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(a, float), np.asarray(b, float)
    if first.shape != second.shape:
        raise ValueError(f"shapes {first.shape} and {second.shape} do not match")
    for values in (first, second):
        if not np.isfinite(values).all():
            row = np.argwhere(~np.isfinite(values))[0].tolist()
            raise ValueError(f"not finite at {row} of shape {values.shape}")
    return first, second
