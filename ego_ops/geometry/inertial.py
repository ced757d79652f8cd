"""The metric scale of a camera's path, from an accelerometer and a gyroscope on the same head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.errors import Rejection
from ego_ops.geometry.imu import Constants, Readings, SensorModel
from ego_ops.geometry.inertial_fit import InertialFit
from ego_ops.geometry.inertial_start import first_constants
from ego_ops.geometry.relative_path import RelativePath
from ego_ops.geometry.view import Array
from ego_ops.recording import Imu

WORST = 0.08
"""Standard deviation of the scale, as a share, up to which it is believed."""
SENSOR = SensorModel()


@dataclass(frozen=True)
class MetricPath:
    """A camera's path in metres, and what was found of the sensor on the way."""

    path: RigidTransform
    """T poses T_first_camera."""
    scale_sd: float
    """Standard deviation of the scale, as a share of it."""
    constants: Constants
    """Its scale is in metres per unit of the relative path; gravity is in the first camera's
    frame."""


def metric_path(
    relative: RelativePath, times: Array, imu: Imu, model: SensorModel = SENSOR
) -> MetricPath:
    """Scale a path by what the accelerometer felt along it.

    What the sensor measured from frame to frame, and what the tracks say of the poses, are fitted
    together with everything unknown: scale, gravity, biases, the sensor's axes, place and clock.
    Its axes and its clock need the camera to turn, and its scale needs the camera to speed up and
    slow down: an even motion feels the same at every scale.

    Args:
        relative: path up to scale.
        times: (T,) seconds of its poses on the video's clock.

    Raises:
        Rejection: the readings do not give the scale to 8 % (`no_metric_scale`).
        AnnotationError: the accelerometer does not read about 9.81 m/s2.
    """
    readings = Readings(imu, times)
    start = first_constants(relative.path, times, readings, model)
    fitted = InertialFit(relative, readings, model).solve(start, times)
    scale = fitted.constants.scale
    path = fitted.path[0].inv() * fitted.path
    path = RigidTransform.from_components(scale * path.translation, path.rotation)
    if not fitted.scale_sd < WORST:
        sway = 100 * float(np.ptp(path.translation, axis=0).max())
        raise Rejection(
            "no_metric_scale",
            f"the IMU gives the scale to {min(fitted.scale_sd, 9.99):.0%} only, {WORST:.0%} are "
            f"needed: the head moved by about {sway:.0f} cm in {np.ptp(times):.1f} s",
        )
    return MetricPath(path, fitted.scale_sd, fitted.constants)
