"""Intrinsics of Ego4D's cameras, none of which the dataset comes with.

What is known of a device stands in `camera`, each figure with its source. Better figures for
single videos or devices go into `{root}/intrinsics.json`, by video uid or by device name:

    {"0ce20f1b-104c-48aa-a957-75f772238639": {"width": 1920, "height": 1080, "fx": 1227.4,
         "fy": 1227.4, "cx": 959.5, "cy": 539.5, "model": "unified", "xi": 0.335},
     "GoPro Hero 4": {...}}

in pixels, pixel centres at whole numbers. `model` is one of `camera_file` (`pinhole`, `opencv`,
`opencv_fisheye`), or `unified` with `xi`: the omnidirectional model that DroidCalib estimates and
VITRA-1M publishes for some 2,400 videos (`intrinsics/ego4d/{video_uid}.npy`: K, xi). The figures
may be for another resolution than the video's, if its aspect ratio is the same.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from ego_ops.camera import Camera
from ego_ops.corpora import camera_file
from ego_ops.errors import AnnotationError
from ego_ops.lens import Lens
from ego_ops.lens_opencv import OpenCVLens

Array = NDArray[np.float64]

GOPRO_WIDE = {"16:9": 118.2, "4:3": 122.6}
"""Horizontal field of view, degrees, that GoPro states for its HERO cameras set to `Wide`, by the
picture's shape (GoPro support pages, HERO4 to HERO7 Black). The lens is equidistant: R. Cunniff,
"GoPro Hero3 Black Field of View" (2012), measured 121 by 93 degrees at 4:3 and found the distance
from the middle of the picture in proportion to the angle."""

PUPIL_INVISIBLE = {
    "width": 1088,
    "height": 1080,
    "fx": 766.2927454396544,
    "fy": 766.3976103393867,
    "cx": 543.6272327745995,
    "cy": 566.0580149497666,
    "model": "opencv",
    "distortion": [
        -0.12390715699556255,
        0.09983010007937897,
        0.0013846287331131738,
        -0.00036539454816030264,
        0.020072404577046853,
        0.2052173022520547,
        0.009921380887245364,
        0.06631870205961587,
    ],
}
"""Scene camera of Pupil Invisible: the default intrinsics of Pupil Labs' own Pupil Player
(`camera_models.py`, "PI world v1")."""

ASSUMED_FOV = 70.0
"""Horizontal field of view, degrees, of camera glasses and head cameras whose makers state none
that could be checked (Vuzix Blade, ZShades, ORDRO EP6, iVUE Rincon, WeeView): an assumption."""


@dataclass(frozen=True)
class UnifiedLens:
    """The unified omnidirectional model (Mei and Rives, ICRA 2007) without further distortion:
    a ray of length 1 is seen from a point `xi` behind the centre of its sphere."""

    camera: Camera
    """Focal lengths, principal point and size of the stored picture."""
    xi: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the stored picture."""
        return self.camera.width, self.camera.height

    def stored(self, rays: Array) -> Array:
        """Pixels (..., 2) for points (..., 3); NaN where the lens does not see."""
        rays = np.asarray(rays, dtype=float)
        length = np.linalg.norm(rays, axis=-1)
        depth = rays[..., 2] + self.xi * length
        # Further out, two rays would share a pixel.
        limit = -1 / self.xi if self.xi > 1 else -self.xi
        seen = (rays[..., 2] > limit * length) & (depth > 1e-9)
        depth = np.where(seen, depth, np.nan)
        x = self.camera.fx * rays[..., 0] / depth + self.camera.cx
        return np.stack((x, self.camera.fy * rays[..., 1] / depth + self.camera.cy), -1)


def camera(
    root: str, video_uid: str, device: str, width: int, height: int
) -> tuple[Camera, Lens | None]:
    """The pinhole of a video of `width` x `height`, and its lens where it is none.

    The pinhole of a lens has its focal length in the middle of the picture.

    Raises:
        AnnotationError: `{root}/intrinsics.json` is no such file, or its figures are for a
            picture of another shape.
    """
    table = _overrides(f"{root}/intrinsics.json")
    for key in (video_uid, device):
        if key in table:
            try:
                return _resized(*_parsed(table[key]), width, height)
            except AnnotationError as error:
                raise AnnotationError(f"{root}/intrinsics.json: {key}: {error}") from None
    name, aspect = device.lower(), width / height
    if "gopro" in name and 1.2 < aspect < 1.9:
        return _equidistant(GOPRO_WIDE["16:9" if aspect > 1.55 else "4:3"], width, height)
    if "pupil" in name and abs(aspect - 1088 / 1080) < 0.02:
        return _resized(*camera_file.parse(PUPIL_INVISIBLE), width, height)
    focal = width / 2 / math.tan(math.radians(ASSUMED_FOV) / 2)
    return Camera(focal, focal, width / 2 - 0.5, height / 2 - 0.5, width, height), None


def _equidistant(degrees: float, width: int, height: int) -> tuple[Camera, Lens]:
    """A fisheye whose pixels are `degrees` / `width` apart everywhere along its middle row."""
    focal = width / math.radians(degrees)
    pinhole = Camera(focal, focal, width / 2 - 0.5, height / 2 - 0.5, width, height)
    return pinhole, OpenCVLens.of("opencv_fisheye", pinhole, (0.0, 0.0, 0.0, 0.0))


@lru_cache(maxsize=8)
def _overrides(path: str) -> dict[str, Any]:
    try:
        with fsspec.open(path, "rb") as file:
            table = json.loads(file.read())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(table, dict):
        raise AnnotationError(f"{path}: not a JSON object of cameras by video uid or device")
    return table


def _parsed(content: Any) -> tuple[Camera, Lens | None]:
    if not isinstance(content, dict) or content.get("model") != "unified":
        return camera_file.parse(content)
    stored, _ = camera_file.parse({**content, "model": "pinhole"})
    xi = content.get("xi")
    if not isinstance(xi, int | float) or not 0 <= xi < 10:
        raise AnnotationError(f"xi is {xi!r}, not a number from 0 to 10")
    middle = Camera(
        stored.fx / (1 + xi),
        stored.fy / (1 + xi),
        stored.cx,
        stored.cy,
        stored.width,
        stored.height,
    )
    return middle, UnifiedLens(stored, float(xi))


def _resized(
    pinhole: Camera, lens: Lens | None, width: int, height: int
) -> tuple[Camera, Lens | None]:
    """Of the picture resized to `width` x `height`, which leaves the distortion as it is."""
    if abs(pinhole.width / pinhole.height * height / width - 1) > 0.02:
        raise AnnotationError(
            f"the camera is for {pinhole.width} x {pinhole.height}, the video is "
            f"{width} x {height}: not the same aspect ratio"
        )
    if isinstance(lens, OpenCVLens | UnifiedLens):
        lens = replace(lens, camera=lens.camera.scaled(width, height))
    return pinhole.scaled(width, height), lens
