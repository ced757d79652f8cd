"""Project Aria glasses: their RGB camera's lens, where it sits, and pictures taken through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.fisheye import Fisheye624
from ego_ops.synthetic.render import Studio
from ego_ops.synthetic.take import Take

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]
SIZE = 1408
"""Side of the stored picture, pixels."""
RENDERED = 1200
"""Side of the pinhole picture that is rendered and bent, pixels."""
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
        """The RGB camera's entry of a line of `online_calibration.jsonl`."""
        lens = self.fisheye
        w, x, y, z = self.quaternion
        return {
            "Calibrated": True,
            "Label": "camera-rgb",
            "SerialNumber": "0450577b730000000000000000000000",
            "Projection": {
                "Name": "FisheyeRadTanThinPrism",
                "Description": "see FisheyeRadTanThinPrism.h",
                "Params": [lens.fu, lens.cu, lens.cv, *lens.k, *lens.p, *lens.s],
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


class AriaCamera:
    """Takes pictures of a scene through a pair of glasses.

    Args:
        upright: whether pictures come turned upright, as in the MP4s of Ego-Exo4D and HD-EPIC,
            or as they are on the sensor, as in a VRS file.

    Raises:
        UserError: there is nothing to render with.
    """

    def __init__(self, take: Take, worn: Glasses, upright: bool, rendered: int = RENDERED):
        self._take = take
        rays = _upright_rays(worn)
        self._map, self.focal = _bend(rays, rendered, turns=1 if upright else 0)
        self.rendered = rendered
        self.studio = Studio(take.scene, (rendered, rendered), self.focal)
        rng = np.random.default_rng([*take.scene.seed, 2])
        side = worn.size + 64
        self._grain = rng.normal(0, 1.5, (side, side, 3)).round().astype(np.int16)
        self._rng = rng

    def __enter__(self) -> AriaCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.studio.__exit__()

    def frames(self) -> Iterator[Image]:
        """(H, W, 3) RGB of every frame of the take, with sensor noise."""
        for image in self.studio.pictures(self._take.scene_times(self._take.times)):
            bent = self._bent(cv2.GaussianBlur(image, (0, 0), 0.5), cv2.INTER_LINEAR)
            y, x = self._rng.integers(0, 64, 2)
            height, width = bent.shape[:2]
            noise = self._grain[y : y + height, x : x + width]
            yield np.asarray(cv2.add(bent, noise, dtype=cv2.CV_8U), np.uint8)

    def boxes(self, times: Floats) -> list[tuple[float, float, float, float]]:
        """(x0, y0, x1, y1) around what is seen of the carried thing at video `times`, pixels."""
        found: list[tuple[float, float, float, float]] = []
        for shot in self.studio.shots(self._take.scene_times(times)):
            mask = self._bent(shot.mask.astype(np.uint8), cv2.INTER_NEAREST)
            rows, columns = np.nonzero(mask)
            if not len(rows):
                raise ValueError("the carried thing is not in the picture")
            found.append(
                (
                    float(columns.min()),
                    float(rows.min()),
                    float(columns.max() + 1),
                    float(rows.max() + 1),
                )
            )
        return found

    def still(self, times: Floats) -> Iterator[tuple[Floats, Image]]:
        """Depth and picture of the pinhole that is rendered, at video `times`.

        Depth (h, w) is in metres, NaN where a hand or the carried thing is seen.
        """
        for shot in self.studio.shots(self._take.scene_times(times), depth=True):
            moves = cv2.dilate((shot.hands | shot.mask).astype(np.uint8), np.ones((9, 9), np.uint8))
            depth = np.asarray(shot.depth, float)
            yield np.where((moves > 0) | (depth > 8), np.nan, depth), shot.image

    def _bent(self, image: Image, interpolation: int) -> Image:
        out = cv2.remap(image, *self._map, interpolation, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(out, np.uint8)


def _upright_rays(worn: Glasses) -> Floats:
    """(H, W, 3) rays of the sensor's pixels in the frame of the upright camera, NaN outside."""
    columns, rows = np.meshgrid(np.arange(worn.size), np.arange(worn.size))
    rays = worn.fisheye.unproject(np.stack((columns, rows), -1).astype(float))
    return np.asarray(rays @ T_UPRIGHT_SENSOR.rotation.as_matrix().T)


def _bend(rays: Floats, rendered: int, turns: int) -> tuple[tuple[Any, Any], float]:
    """Map from the stored picture to a square pinhole picture, and that pinhole's focal length.

    Args:
        rays: (H, W, 3) of the sensor's pixels.
        turns: clockwise quarter turns from the sensor's picture to the stored one.
    """
    flat = rays[..., :2] / rays[..., 2:]
    focal = (rendered / 2 - 1) / float(np.nanmax(np.abs(flat)))
    pixels = flat * focal + (rendered - 1) / 2
    pixels = np.rot90(np.where(np.isnan(pixels), -9.0, pixels), -turns).astype(np.float32)
    maps: tuple[Any, Any] = cv2.convertMaps(
        np.ascontiguousarray(pixels[..., 0]), np.ascontiguousarray(pixels[..., 1]), cv2.CV_16SC2
    )
    return maps, focal
