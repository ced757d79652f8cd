"""What Aria's Machine Perception Services (MPS) made of a recording, as one clip needs it.

A folder holds `closed_loop_trajectory.csv` (T_world_device at 1 kHz, quaternions scalar-last),
`online_calibration.jsonl` (cameras, quaternions scalar-first) and `semidense_points.csv.gz`, all
on the device's clock; hand tracking lies there or in a folder beside it. Of files that are sorted
by time only the clip's part is read, so an hour's recording costs what a minute's does. Folders
may be fsspec URLs.
"""

from __future__ import annotations

import os

import numpy as np

from ego_ops.camera import PosePath
from ego_ops.corpora.mps_hands import hands, hands_along
from ego_ops.corpora.mps_points import landmarks
from ego_ops.corpora.mps_slam import Clock, calibration, track, trajectory
from ego_ops.lens import T_SENSOR_UPRIGHT, AriaLens, upright_pinhole
from ego_ops.recording import Recording

__all__ = ["Clock", "calibration", "hands", "landmarks", "recording", "trajectory"]

MARGIN_NS = 500_000_000
"""How far the path goes on at both ends of a clip, since clocks differ a little."""
SPACING_NS = 5_000_000
"""Between poses that are kept; a head moves evenly over as short a time."""


def recording(
    folder: str,
    clock: Clock,
    t_start: float,
    t_end: float,
    *,
    turns: int,
    size: tuple[int, int] = (1408, 1408),
    hands_folder: str | None = None,
) -> Recording:
    """Lens, path, hands and landmarks of the RGB camera from `t_start` to `t_end` of the video.

    Args:
        folder: the MPS folder with the trajectory; local, or an fsspec URL.
        turns: clockwise quarter turns from the sensor's picture to the stored one: 0 for a VRS
            file, 1 for an MP4 that was turned upright.
        size: (width, height) of the sensor's picture before it was scaled for the video.
        hands_folder: where hand tracking lies; None looks into `folder` and into
            `hand_tracking` beside it.

    Raises:
        MissingFileError, StorageError: trajectory or calibration cannot be read.
        AnnotationError: a file is unusable, the trajectory does not cover the clip, or tracking
            was lost within it.
    """
    t0, t1 = (int(ns) for ns in clock.to_device_ns([t_start, t_end]))
    found = track(folder, t0, t1, MARGIN_NS)
    fisheye, device_camera = calibration(folder, (t0 + t1) // 2, size=size)
    lens = AriaLens(fisheye, turns)
    kept = np.unique((found.ns - found.ns[0]) // SPACING_NS, return_index=True)[1]
    kept = np.union1d(kept, [len(found.ns) - 1])
    poses = found.poses[kept] * device_camera * T_SENSOR_UPRIGHT
    beside = os.path.join(os.path.dirname(folder.rstrip("/")), "hand_tracking")
    tracked = next(
        filter(
            None,
            (
                hands_along(place, found.ns, found.poses, clock)
                for place in ([hands_folder] if hands_folder else [folder, beside])
            ),
        ),
        (),
    )
    return Recording(
        camera=upright_pinhole(lens),
        path=PosePath(clock.to_video_s(found.ns[kept]), poses),
        hands=tracked,
        lens=lens,
        landmarks=landmarks(folder, found.graph_uid),
    )
