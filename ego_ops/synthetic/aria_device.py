"""Project Aria glasses: their RGB camera's lens, where it sits, and filming through it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.fisheye import Fisheye624
from ego_ops.synthetic.lens_camera import PIXELS, LensCamera
from ego_ops.synthetic.take import Take

SIZE = 1408
"""Side of the stored picture, pixels."""
VALID = 0.5025
"""Radius of the circle that the lens lights, in sides of the picture."""
T_UPRIGHT_SENSOR = RigidTransform.from_rotation(
    Rotation.from_matrix([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
)
"""The sensor is mounted on its side: its picture turned 90 degrees clockwise is upright, so its x
axis points down and its y axis to the left."""


@dataclass(frozen=True)
class Glasses:
    """One device. All numbers are near those of a real one's calibration."""

    params: tuple[float, ...]
    """15 of FISHEYE624 for the sensor's picture of `SIZE`: f, cu, cv, k0-k5, p0, p1, s0-s3."""
    translation: tuple[float, float, float]
    """T_device_camera of the RGB camera as it is on the sensor, metres."""
    quaternion: tuple[float, float, float, float]
    """Its rotation, scalar first, as calibration files have it."""
    size: int = SIZE

    @property
    def T_device_camera(self) -> RigidTransform:
        """Pose of the RGB camera, as on the sensor, in the device's frame."""
        turn = Rotation.from_quat(self.quaternion, scalar_first=True)
        return RigidTransform.from_components(self.translation, turn)

    @cached_property
    def fisheye(self) -> Fisheye624:
        """The lens, for the sensor's picture of `size`."""
        lens = Fisheye624.from_params(self.params, SIZE, SIZE, VALID * SIZE)
        return lens if self.size == SIZE else lens.scaled(self.size, self.size)

    def device(self, upright: RigidTransform) -> RigidTransform:
        """T_world_device of glasses whose upright camera is at `upright` (T_world_camera)."""
        return upright * T_UPRIGHT_SENSOR * self.T_device_camera.inv()

    def calibration(self) -> dict[str, Any]:
        """The RGB camera's entry of a line of `online_calibration.jsonl`: for the picture of
        `SIZE`, which smaller ones are scaled from."""
        w, x, y, z = self.quaternion
        return {
            "Calibrated": True,
            "Label": "camera-rgb",
            "SerialNumber": "0450577b730000000000000000000000",
            "Projection": {
                "Name": "FisheyeRadTanThinPrism",
                "Description": "see FisheyeRadTanThinPrism.h",
                "Params": list(self.params),
            },
            "T_Device_Camera": {
                "Translation": list(self.translation),
                "UnitQuaternion": [w, [x, y, z]],
            },
        }


def glasses(seed: int, size: int = SIZE) -> Glasses:
    """A pair of glasses; each one's optics differ a little.

    Args:
        size: side of the picture that they store, pixels.
    """
    rng = np.random.default_rng([seed, 4])
    focal, cu, cv = np.array([609.4, 706.3, 704.2]) + rng.normal(0, [1.5, 4.0, 2.5])
    radial = np.array([0.3842, -0.3806, -0.1221, 1.5555, -1.9892, 0.7252])
    radial[0] += rng.normal(0, 0.003)
    shifts = rng.normal(0, [4e-4, 4e-4, 8e-4, 2e-4, 8e-4, 2e-4])
    turn = Rotation.from_quat([0.3287, 0.0377, 0.0311, 0.9432])
    turn = turn * Rotation.from_rotvec(rng.normal(0, 0.01, 3))
    place = np.array([-0.0038, -0.0127, -0.0031]) + rng.normal(0, 3e-4, 3)
    return Glasses(
        tuple(float(v) for v in (focal, cu, cv, *radial, *shifts)),
        (float(place[0]), float(place[1]), float(place[2])),
        tuple(turn.as_quat(canonical=True, scalar_first=True).tolist()),
        size,
    )


def aria_camera(take: Take, worn: Glasses, upright: bool) -> LensCamera:
    """Films a take through a pair of glasses.

    Args:
        upright: whether pictures come turned upright, as in the MP4s of Ego-Exo4D and HD-EPIC,
            or as they are on the sensor, as in a VRS file.

    Raises:
        UserError: there is nothing to render with.
    """
    columns, rows = np.meshgrid(np.arange(worn.size), np.arange(worn.size))
    rays = worn.fisheye.unproject(np.stack((columns, rows), -1).astype(float))
    rays = rays @ T_UPRIGHT_SENSOR.rotation.as_matrix().T
    scale = (worn.size / SIZE) ** 2
    return LensCamera(take, np.rot90(rays, -1) if upright else rays, PIXELS * scale)
