"""Ego4D's `imu/{video_uid}.csv`: gyroscope and accelerometer of the camera.

Columns component_idx, component_timestamp_ms, canonical_timestamp_ms (from the start of the video;
empty where the video was cut), gyro_x, gyro_y, gyro_z in rad/s and accl_x, accl_y, accl_z in m/s^2,
the units of GoPro's GPMF telemetry, which nearly all these files come from. The documentation
(ego4d-data.org/docs/data/imu) warns of readings that are missing, out of order and at impossible
times, and that nothing was calibrated.
"""

from __future__ import annotations

import numpy as np

from ego_ops.corpora.csv_window import window
from ego_ops.errors import AnnotationError, MissingFileError
from ego_ops.recording import Imu

TIME = "canonical_timestamp_ms"
NAMES = [f"{kind}_{axis}" for kind in ("gyro", "accl") for axis in "xyz"]
GRAVITY = (7.4, 12.3)
"""m/s^2: a median acceleration outside this, a quarter off, is no reading that can be used."""


def read(path: str, start: float, end: float) -> Imu | None:
    """Readings from `start` to `end`, seconds from the start of the video.

    None where the file does not exist, or has fewer than two complete readings there, or its
    accelerometer does not feel gravity.

    Raises:
        AnnotationError: a column is missing.
    """
    try:
        rows = window(path, TIME, start * 1e3, end * 1e3)
    except MissingFileError:
        return None
    if not all(name in rows for name in NAMES):
        raise AnnotationError(f"{path}: lacks one of the columns {', '.join(NAMES)}")
    table = np.stack([rows[TIME] / 1e3, *(rows[name] for name in NAMES)], -1)
    table = table[np.isfinite(table).all(axis=1)]
    _, first = np.unique(table[:, 0], return_index=True)  # sorts as well
    table = table[first]
    if len(table) < 2:
        return None
    pull = float(np.median(np.linalg.norm(table[:, 4:], axis=1)))
    if not GRAVITY[0] < pull < GRAVITY[1]:
        return None
    return Imu(table[:, 0], table[:, 1:4], table[:, 4:])
