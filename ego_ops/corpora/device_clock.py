"""Aria's device clock, given as the capture times of a video's frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ego_ops.corpora.csv_window import window
from ego_ops.corpora.mps import Clock
from ego_ops.errors import AnnotationError

AROUND = 2.0
"""Seconds before and after a clip whose frames its clock is made of."""


def paired(video_s: ArrayLike, device_ns: ArrayLike, where: str) -> Clock:
    """The clock that shows `device_ns` at `video_s`, both (N,).

    Frames without a capture time are left out, and so are those that repeat or precede the one
    before: a converter fills gaps with the last picture.

    Raises:
        AnnotationError: no frame has a capture time.
    """
    video, device = np.asarray(video_s, float), np.asarray(device_ns, float)
    known = np.isfinite(video) & np.isfinite(device)
    video, device = video[known], device[known]
    if not len(video):
        raise AnnotationError(f"{where}: no frame around the clip has a capture time")
    before = np.maximum.accumulate(np.concatenate(([-np.inf], device[:-1])))
    rises = device > before
    return Clock(video[rises], device[rises])


def of_mp4(path: str, t_start: float, t_end: float) -> Clock:
    """The clock of an MP4 that projectaria-tools' `vrs_to_mp4` made, around `t_start` to `t_end`.

    Args:
        path: the `mp4_to_vrs_time_ns.csv` that it wrote, with the columns `mp4_time_ns`,
            `relative_vrs_device_time_ns`, `vrs_device_time_ns`; a local path or fsspec URL.

    Raises:
        MissingFileError: the file is not there.
        AnnotationError: it lacks a column, or has no frame around the clip.
    """
    low, high = (t_start - AROUND) * 1e9, (t_end + AROUND) * 1e9
    rows = window(path, "mp4_time_ns", low, high)
    if "vrs_device_time_ns" not in rows:
        raise AnnotationError(f"{path}: has no column vrs_device_time_ns")
    return paired(rows["mp4_time_ns"] / 1e9, rows["vrs_device_time_ns"], path)
