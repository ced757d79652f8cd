"""A camera's path in a file: TUM's format, or CSV with a header.

TUM: lines of `time tx ty tz qx qy qz qw`, `#` for comments; what most SLAM systems write. CSV: the
same columns by name in any order (`timestamp` for `time`, `x` for `tx`, ...). T_world_camera in
metres, quaternions scalar-last, times in seconds from the start of the video.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import PosePath
from ego_ops.corpora.number_table import numbers
from ego_ops.errors import AnnotationError

_NAMES = {
    "time": ("time", "timestamp", "t", "time_s"),
    **{f"t{a}": (f"t{a}", a, f"p{a}", f"t{a}_world_camera") for a in "xyz"},
    **{f"q{a}": (f"q{a}", f"q{a}_world_camera") for a in "xyzw"},
}
AXES = {
    "opencv": Rotation.identity(),
    # x right, y up, z backward: ARKit, ARCore, OpenGL, Blender.
    "opengl": Rotation.from_matrix(np.diag([1.0, -1.0, -1.0])),
}
"""Axes that a camera's poses may be in: R_stored_opencv."""


@functools.lru_cache(maxsize=8)
def read(path: str, axes: str = "opencv") -> PosePath:
    """The path T_world_camera, OpenCV axes.

    Args:
        axes: those of the file's poses, a key of `AXES`.

    Raises:
        MissingFileError: there is no such file.
        AnnotationError: it does not hold such a path.
    """
    table = numbers(path, _NAMES)
    times, position, quaternion = table[:, 0], table[:, 1:4], table[:, 4:8]
    norms = np.linalg.norm(quaternion, axis=1)
    if len(times) < 2 or not np.isfinite(table).all() or np.abs(norms - 1).max() > 0.01:
        raise AnnotationError(
            f"{path}: needs two poses or more, all finite, with unit quaternions (qx qy qz qw)"
        )
    if not (np.diff(times) > 0).all():
        raise AnnotationError(f"{path}: the times do not increase")
    rotation = Rotation.from_quat(quaternion) * AXES[axes]
    return PosePath(times, RigidTransform.from_components(position, rotation))
