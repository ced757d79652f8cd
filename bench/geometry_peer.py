"""Simpler ways to an object's motion, to compare with.

`published` is the projection step of EgoScaler (Yoshida et al., arXiv 2506.03605 and 2509.21986),
written from the papers' description on Open3D: the background's point clouds of neighbouring
frames are registered, by FPFH features and RANSAC and then by coloured ICP, the motions are
chained back to the first frame, and the object's tracked points, lifted by depth and brought into
the first camera's frame, give its motion by singular value decomposition. Parameters are those
that the authors publish: voxels of 0.1 m, 1.5 voxels for RANSAC (100,000 trials) and 0.4 for ICP
(30 steps), depth up to 5 m, at least five points. It is given the true masks.

`pnp` lifts the first frame's points by its depth and solves each further frame by itself.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.geometry_tracks import STILL, Film
from ego_ops.geometry import metrics
from ego_ops.geometry.observed import Observed, TrackedPoints

Floats = NDArray[np.float64]
VOXEL = 0.1
"""Metres."""
FURTHEST = 5.0
"""Metres."""
FEWEST = 5
"""Points that a pose needs."""
PNP_ERROR = 3.0
"""Pixels by which a track may be off to count as an inlier of PnP's RANSAC."""


@dataclass(frozen=True)
class Motion:
    """An object's motion as found by some method."""

    object: RigidTransform
    """T poses T_first_object."""
    places: Floats
    """(N, 3) the object's points at the start, in the first camera frame; NaN where unknown."""


def published(observed: Observed, film: Film, depth: NDArray[np.float32]) -> Motion:
    """EgoScaler's projection step; recorded camera poses, where there are any, replace the
    registration.

    Args:
        film: gives the pictures and what each pixel shows.
        depth: (T, H, W) metres, as measured.

    Raises:
        ImportError: Open3D is not installed (`bench/requirements.txt`).
    """
    if observed.path is not None:
        return _lifted(observed, observed.path[0].inv() * observed.path)
    import open3d  # type: ignore[import-not-found]

    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    open3d.utility.random.seed(0)
    poses, previous = [np.eye(4)], _cloud(open3d, observed, film, depth, 0)
    for t in range(1, len(depth)):
        current = _cloud(open3d, observed, film, depth, t)
        poses.append(poses[-1] @ _registered(open3d, current, previous))
        previous = current
    return _lifted(observed, RigidTransform.from_matrix(np.stack(poses)))


def unregistered(observed: Observed) -> Motion:
    """The same for a camera that is taken to stand still."""
    return _lifted(observed, RigidTransform.identity(len(observed.times)))


def pnp(observed: Observed) -> Motion:
    """Perspective-n-point in each frame by itself, from the first frame's depth and 2D tracks:
    of the background, unless camera poses were recorded, and of the object."""
    if observed.path is not None:
        path = observed.path[0].inv() * observed.path
    else:
        path = _solved(observed, observed.background)[0].inv()
    to_camera, points = _solved(observed, observed.object)
    middle = RigidTransform.from_translation(np.nanmedian(points, axis=0))
    return Motion(path * to_camera * middle, points)


def _lift(observed: Observed, tracks: TrackedPoints) -> Floats:
    """(T, n, 3) points in each camera frame; NaN where not seen."""
    depth = np.where(tracks.visible, tracks.depth, np.nan)
    return observed.camera.rays(tracks.xy) * depth[..., None]


def _lifted(observed: Observed, path: RigidTransform) -> Motion:
    """Each frame's motion since the first by SVD of the points that both show."""
    local = _lift(observed, observed.object)
    world = np.stack([pose.apply(points) for pose, points in zip(path, local, strict=True)])
    known = np.isfinite(world).all(-1)
    moved = [RigidTransform.identity()]
    for t in range(1, len(world)):
        both = known[0] & known[t]
        if both.sum() < FEWEST:
            moved.append(moved[-1])
            continue
        fit = metrics.umeyama(world[0, both], world[t, both], scale=False)
        moved.append(RigidTransform.from_components(fit.translation, fit.rotation))
    middle = RigidTransform.from_translation(np.nanmean(world[0], axis=0))
    return Motion(RigidTransform.concatenate(moved) * middle, world[0])


def _solved(observed: Observed, tracks: TrackedPoints) -> tuple[RigidTransform, Floats]:
    """T motions from the first camera frame to each, of points lifted in the first frame."""
    points = _lift(observed, tracks)[0]
    known, matrix = np.isfinite(points).all(-1), observed.camera.matrix
    poses = [RigidTransform.identity()]
    for xy, visible in zip(tracks.xy[1:], tracks.visible[1:], strict=True):
        both = known & visible
        found = both.sum() >= FEWEST
        if found:
            found, turn, shift, _ = cv2.solvePnPRansac(
                points[both], xy[both], matrix, None, reprojectionError=PNP_ERROR,
                iterationsCount=200,
            )  # fmt: skip
        if found:
            turned = Rotation.from_rotvec(turn[:, 0])
            poses.append(RigidTransform.from_components(shift[:, 0], turned))
        else:
            poses.append(poses[-1])
    return RigidTransform.concatenate(poses), points


def _cloud(
    open3d: Any, observed: Observed, film: Film, depth: NDArray[np.float32], frame: int
) -> tuple[Any, Any]:
    """A frame's background: its cloud thinned out, with normals, and its FPFH."""
    rows, columns = np.nonzero((film.groups[frame] == STILL) & (depth[frame] < FURTHEST))
    rays = observed.camera.rays(np.stack([columns, rows], -1))
    full = open3d.geometry.PointCloud()
    full.points = open3d.utility.Vector3dVector(rays * depth[frame, rows, columns][:, None])
    full.colors = open3d.utility.Vector3dVector(film.images[frame, rows, columns] / 255.0)
    thin = full.voxel_down_sample(VOXEL)
    near = open3d.geometry.KDTreeSearchParamHybrid
    thin.estimate_normals(near(radius=2 * VOXEL, max_nn=30))
    thin.orient_normals_towards_camera_location()
    features = open3d.pipelines.registration.compute_fpfh_feature(
        thin, near(radius=5 * VOXEL, max_nn=100)
    )
    return thin, features


def _registered(open3d: Any, source: tuple[Any, Any], target: tuple[Any, Any]) -> Floats:
    """(4, 4) motion of the points of `source` onto those of `target`."""
    registration = open3d.pipelines.registration
    start = registration.registration_ransac_based_on_feature_matching(
        source[0], target[0], source[1], target[1], False, 1.5 * VOXEL,
        registration.TransformationEstimationPointToPoint(False), 3,
        [
            registration.CorrespondenceCheckerBasedOnEdgeLength(0.9),
            registration.CorrespondenceCheckerBasedOnDistance(1.5 * VOXEL),
        ],
        registration.RANSACConvergenceCriteria(100_000, 0.999),
    ).transformation  # fmt: skip
    try:
        result = registration.registration_colored_icp(
            source[0], target[0], 0.4 * VOXEL, start,
            registration.TransformationEstimationForColoredICP(),
            registration.ICPConvergenceCriteria(max_iteration=30),
        )  # fmt: skip
    except RuntimeError:  # Open3D's word for no correspondence within that distance.
        return np.asarray(start)
    return np.asarray(result.transformation)
