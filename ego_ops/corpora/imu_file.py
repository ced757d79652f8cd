"""Inertial readings in a CSV file of our own form, for video that no corpus describes.

Columns by name, in any order: `time` in seconds from the start of the video, `gyro_x`, `gyro_y`,
`gyro_z` in rad/s, `accl_x`, `accl_y`, `accl_z` in m/s^2 with gravity in them (at rest some 9.81).
"""

from __future__ import annotations

import functools

import numpy as np

from ego_ops.corpora.number_table import numbers
from ego_ops.errors import AnnotationError
from ego_ops.recording import Imu

_NAMES = {
    "time": ("time", "timestamp", "t", "time_s"),
    **{f"gyro_{a}": (f"gyro_{a}", f"g{a}", f"w{a}") for a in "xyz"},
    **{f"accl_{a}": (f"accl_{a}", f"accel_{a}", f"acc_{a}", f"a{a}") for a in "xyz"},
}


@functools.lru_cache(maxsize=8)
def read(path: str) -> Imu:
    """The readings of a file.

    Raises:
        MissingFileError: there is no such file.
        AnnotationError: it does not hold such readings.
    """
    table = numbers(path, _NAMES)
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) < 2 or not (np.diff(table[:, 0]) > 0).all():
        raise AnnotationError(f"{path}: needs two readings or more at increasing times")
    return Imu(table[:, 0], table[:, 1:4], table[:, 4:7])
