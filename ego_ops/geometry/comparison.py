"""Every error of a trajectory in one call: metric, and with a wrong scale forgiven."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.spatial.transform import RigidTransform

from ego_ops.geometry.metrics import (
    Alignment,
    absolute_error,
    displacement,
    geodesic,
    matching,
    relative_error,
    rms,
    scale,
    summary,
)


@dataclass(frozen=True)
class Lengths:
    """Errors of T positions, metres."""

    ade: float
    """Mean distance over steps."""
    fde: float
    """Distance at the last step."""
    rmse: float
    """Root mean square distance over steps."""
    ate: float
    """The same after the best rigid motion of the whole estimate (of a metric one), or the best
    similarity (of one whose scale is forgiven)."""
    rpe: float
    """Root mean square error of the motion over `step` steps."""


@dataclass(frozen=True)
class Comparison:
    """How far T poses are from the true ones."""

    metric: Lengths
    """As they are."""
    scaled: Lengths
    """After `scale`, or as they are where it is not positive."""
    scale: float
    """The factor about the origin that takes the estimate nearest to the truth; NaN where the
    estimate is all in the origin."""
    rotation_mean: float
    """Mean angle over steps, radians."""
    rotation_final: float
    """At the last step, radians."""
    rotation_rpe: float
    """Root mean square angle of the error of the motion over `step` steps, radians."""


def compare(
    estimate: RigidTransform, truth: RigidTransform, step: int = 1, reframe: bool = False
) -> Comparison:
    """Every error of T poses in the frame of the first camera, metric and with scale forgiven.

    Args:
        estimate, truth: T poses, more than `step`.
        step: over which the relative pose error is taken.
        reframe: compare with `reframed` truth, for an object whose own frame is a convention.

    Raises:
        ValueError: the lengths differ, a pose is not finite, or there are not more than `step`.
    """
    matching(estimate, truth)
    truth = reframed(truth, estimate) if reframe else truth
    found, true = estimate.translation, truth.translation
    factor = scale(found, true)
    used = factor if factor > 0 else 1.0
    resized = RigidTransform.from_components(used * found, estimate.rotation)
    turns = geodesic(estimate.rotation.as_quat(), truth.rotation.as_quat())
    return Comparison(
        metric=_lengths(estimate, truth, step, "rigid"),
        scaled=_lengths(resized, truth, step, "similarity"),
        scale=factor,
        rotation_mean=float(turns.mean()),
        rotation_final=float(turns[-1]),
        rotation_rpe=rms(relative_error(estimate, truth, step)[1]),
    )


def _lengths(
    estimate: RigidTransform, truth: RigidTransform, step: int, align: Alignment
) -> Lengths:
    found, true = estimate.translation, truth.translation
    errors = summary(displacement(found, true))
    return Lengths(
        ade=errors.mean,
        fde=errors.last,
        rmse=errors.rmse,
        ate=absolute_error(found, true, align),
        rpe=rms(relative_error(estimate, truth, step)[0]),
    )


def reframed(truth: RigidTransform, estimate: RigidTransform) -> RigidTransform:
    """T true poses of that frame, fixed to the object, which at the first step is the estimate's.

    Which origin and axes an object's frame has is a convention; how it moves from there is not.
    """
    matching(estimate, truth)
    return truth * truth[0].inv() * estimate[0]
