"""Aria's hand tracking, in both forms in which MPS publishes it."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import PosePath
from ego_ops.corpora.mps_lines import TIME, floats, table
from ego_ops.corpora.mps_slam import Clock, track
from ego_ops.errors import AnnotationError, MissingFileError
from ego_ops.recording import Hand

LANDMARKS = 21
TIPS = (0, 1, 2, 3, 4)
"""Landmarks 0 to 4 are the tips of thumb, index, middle, ring and little finger; 5 is the wrist
and 20 the palm's centre."""
PALM = (1,)
"""Of wrist and palm, the palm is what comes nearest to a held thing."""
SIDES = ("left", "right")


def hands(
    folder: str, t0_ns: int, t1_ns: int, clock: Clock, slam: str | None = None
) -> tuple[Hand, ...]:
    """The hands tracked from `t0_ns` to `t1_ns` on the device's clock, in the world.

    Args:
        folder: holds `hand_tracking_results.csv` (21 landmarks; the five tips are tips) or
            `wrist_and_palm_poses.csv` (the palm is the only tip).
        slam: folder of the trajectory, where it is another.

    Returns:
        One or two hands, on the video's clock; none where there is neither file, or no hand.

    Raises:
        MissingFileError, StorageError: a file that is there, or the trajectory, cannot be read.
        AnnotationError: a file is unusable, or the trajectory does not cover the window.
    """
    found = track(slam or folder, t0_ns, t1_ns)
    return hands_along(folder, found.ns, found.poses, clock)


def hands_along(
    folder: str, ns: NDArray[np.int64], poses: RigidTransform, clock: Clock
) -> tuple[Hand, ...]:
    """As `hands`, for a trajectory T_world_device that is already read."""
    for name, joints, tips in (
        ("hand_tracking_results.csv", _landmark_columns, TIPS),
        ("wrist_and_palm_poses.csv", _palm_columns, PALM),
    ):
        try:
            return _read(os.path.join(folder, name), joints, tips, ns, poses, clock)
        except MissingFileError:
            continue
    return ()


def _landmark_columns(side: str) -> list[str]:
    return [f"t{axis}_{side}_landmark_{i}_device" for i in range(LANDMARKS) for axis in "xyz"]


def _palm_columns(side: str) -> list[str]:
    return [f"t{axis}_{side}_{joint}_device" for joint in ("wrist", "palm") for axis in "xyz"]


def _read(
    path: str,
    columns: Callable[[str], list[str]],
    tips: tuple[int, ...],
    ns: NDArray[np.int64],
    poses: RigidTransform,
    clock: Clock,
) -> tuple[Hand, ...]:
    names = {side: [f"{side}_tracking_confidence", *columns(side)] for side in SIDES}
    rows = table(path, [*names["left"], *names["right"]], ns[0] / 1e3, ns[-1] / 1e3)
    stamps = rows[TIME] * 1000
    inside = (stamps >= ns[0]) & (stamps <= ns[-1])
    stamps = stamps[inside]
    if len(stamps) < 2:
        return ()
    if not (np.diff(stamps) > 0).all():
        raise AnnotationError(f"{path}: its times do not increase")
    # Counted from the first pose, since nanoseconds since boot fill a float's digits.
    device = PosePath((ns - ns[0]) / 1e9, poses).held((stamps - ns[0]) / 1e9)
    found = []
    for side in SIDES:
        confidence, *cells = (floats(path, rows, [name])[inside, 0] for name in names[side])
        joints = np.stack(cells, -1).reshape(len(stamps), -1, 3)
        joints[~(confidence >= 0)] = np.nan  # -1 stands for a hand that was not seen
        if np.isfinite(joints).all(axis=(1, 2)).any():
            world = [device.apply(joints[:, j]) for j in range(joints.shape[1])]
            found.append(Hand(side, clock.to_video_s(stamps), np.stack(world, 1), tips))
    return tuple(found)
