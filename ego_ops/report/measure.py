"""How far a committed trajectory is from the truth of a clip whose truth is known.

Truth lies in `{truth_root}/{video_uid}.npz`, or for several corpora in
`{truth_root}/{corpus}/truth/{video_uid}.npz`, as the demo has it: `times` (N,) seconds,
`T_world_camera` and `T_world_object` (N, 4, 4), `object_points` (M, 3) on the object's surface in
its own frame, `contact_time` and `release_time` in seconds.

The object's frame in a trajectory is one of many that would do: its origin is the middle of the
tracked points and its axes are those of the first camera. So what is compared is displacement:
the motion, in the first camera's frame, from where the object was at the first step.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import PosePath, rigid
from ego_ops.errors import UserError
from ego_ops.geometry import metrics
from ego_ops.geometry.trajectory import quaternions
from ego_ops.pipeline import Extraction
from ego_ops.storage import Store

Floats = NDArray[np.float64]

FIGURES = {
    "position_median_m": "median distance of the object from where it truly was, metres",
    "position_mean_m": "the same, mean over steps (ADE), metres",
    "position_rmse_m": "the same, root mean square, metres",
    "position_max_m": "the same, largest, metres",
    "position_last_m": "the same at the last step (FDE), metres",
    "rotation_median_rad": "median angle between the rotation since the first step and the true "
    "one, radians",
    "rotation_mean_rad": "the same, mean over steps, radians",
    "rotation_max_rad": "the same, largest, radians",
    "placement_m": "distance of the object's origin from the nearest point of the true surface at "
    "the first step, metres",
    "centre_m": "its distance from the middle of the true surface points, metres",
    "motion_scale": "factor that would take the displacements nearest to the true ones",
    "position_scaled_m": "mean position error after that factor, metres",
    "position_aligned_m": "root mean square position error after the best similarity (ATE), metres",
    "camera_ate_m": "camera path: root mean square error, same frame, no alignment, metres",
    "camera_step_m": "camera path: median error of the motion from one step to the next, metres",
    "camera_rotation_rad": "camera path: median rotation error, radians",
    "onset_s": "seconds by which motion was seen to begin after the true contact",
    "static_m": "mean position error of assuming that nothing moves, metres",
    "line_m": "mean position error of a straight line between the true ends, metres",
}
"""Figures of a `Comparison` by name, with their meaning. Errors of the object are over the steps
from the true contact on: before, it lies still, and any method is right."""


@dataclass(frozen=True)
class Truth:
    """What a demo clip truly shows."""

    object: PosePath
    """T_world_object."""
    camera: PosePath
    """T_world_camera."""
    points: Floats
    """(M, 3) on the object's surface, in its own frame."""
    contact: float
    """Seconds: the object is still before."""
    release: float
    """Seconds: the object is still after."""


@dataclass(frozen=True)
class Comparison:
    """A trajectory of T steps beside the truth."""

    truth: Truth
    poses: RigidTransform
    """T poses T_first_object that our object frame would have had."""
    position_error: Floats
    """(T,) metres."""
    rotation_error: Floats
    """(T,) radians."""
    figures: dict[str, float]
    """By the names of `FIGURES`; one that cannot be had is absent."""


def read_truth(where: Store, video_uid: str, corpus: str = "") -> Truth | None:
    """The truth of one video below the store, None where there is none.

    Args:
        corpus: that the video is of; truth of several lies in `{corpus}/truth`.

    Raises:
        UserError: the file is not what it should be.
    """
    for path in (f"{video_uid}.npz", f"{corpus}/truth/{video_uid}.npz"):
        try:
            return _truth(where.read(path), f"{where.url}/{path}")
        except FileNotFoundError:
            continue
    return None


def _truth(data: bytes, path: str) -> Truth:
    try:
        with np.load(io.BytesIO(data)) as file:
            times = file["times"].astype(float)
            return Truth(
                object=PosePath(times, rigid(file["T_world_object"])),
                camera=PosePath(times, rigid(file["T_world_camera"])),
                points=file["object_points"].astype(float),
                contact=float(file["contact_time"]),
                release=float(file["release_time"]),
            )
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not a truth file ({error}); write the demo corpus again"
        ) from error


def compare(found: Extraction, truth: Truth) -> Comparison:
    """Measure a trajectory against the truth, which is interpolated at the trajectory's steps."""
    times = found.timestamps
    ours = RigidTransform.from_components(found.position, Rotation.from_quat(found.rotation))
    camera = truth.camera.held(times)
    true = truth.object.held(times)
    to_first = camera[0].inv()
    moved = to_first * true * true[0].inv() * camera[0]
    should = moved * ours[0]
    position = metrics.displacement(found.position, should.translation)
    # Both began with our own first rotation, so this is the angle between displacements.
    rotation = metrics.geodesic(found.rotation, quaternions(should))
    after = times >= truth.contact
    chosen = after if after.any() else np.ones(len(times), bool)
    figures = {
        **_object_figures(position[chosen], rotation[chosen]),
        **_baselines(should, times, chosen),
        **_aligned(found.position[chosen], should.translation[chosen], found.position[0]),
        **_placement(found.position[0], (to_first * true[0]).apply(truth.points)),
        **_camera_figures(found, to_first * camera),
    }
    if "motion_start_s" in found.quality:
        figures["onset_s"] = found.quality["motion_start_s"] - truth.contact
    return Comparison(truth, should, position, rotation, figures)


def _object_figures(position: Floats, rotation: Floats) -> dict[str, float]:
    metres, radians = metrics.summary(position), metrics.summary(rotation)
    return {
        "position_median_m": metres.median,
        "position_mean_m": metres.mean,
        "position_rmse_m": metres.rmse,
        "position_max_m": metres.max,
        "position_last_m": metres.last,
        "rotation_median_rad": radians.median,
        "rotation_mean_rad": radians.mean,
        "rotation_max_rad": radians.max,
    }


def _baselines(should: RigidTransform, times: Floats, chosen: NDArray[np.bool_]) -> dict:
    """Mean errors of those who have not looked."""
    guesses = {"static_m": metrics.static(should), "line_m": metrics.straight_line(should, times)}
    return {
        name: metrics.summary(
            metrics.displacement(guess.translation, should.translation)[chosen]
        ).mean
        for name, guess in guesses.items()
    }


def _aligned(found: Floats, should: Floats, rest: Floats) -> dict[str, float]:
    """What is left once a wrong scale, or a wrong frame too, is forgiven."""
    figures = {"position_aligned_m": metrics.absolute_error(found, should, "similarity")}
    factor = metrics.scale(found - rest, should - rest)
    if np.isfinite(factor):
        left = metrics.aligned(found - rest, should - rest, "scale")
        figures["motion_scale"] = factor
        figures["position_scaled_m"] = metrics.summary(
            metrics.displacement(left, should - rest)
        ).mean
    return figures


def _placement(origin: Floats, surface: Floats) -> dict[str, float]:
    return {
        "placement_m": float(np.linalg.norm(surface - origin, axis=1).min()),
        "centre_m": float(np.linalg.norm(surface.mean(0) - origin)),
    }


def _camera_figures(found: Extraction, truth: RigidTransform) -> dict[str, float]:
    ours = RigidTransform.from_components(
        found.camera_position, Rotation.from_quat(found.camera_rotation)
    )
    figures = {
        "camera_ate_m": metrics.absolute_error(ours.translation, truth.translation, "none"),
        "camera_rotation_rad": metrics.summary(
            metrics.geodesic(found.camera_rotation, quaternions(truth))
        ).median,
    }
    if len(truth) > 1:
        figures["camera_step_m"] = metrics.summary(metrics.relative_error(ours, truth)[0]).median
    return figures
