"""A recording of Aria glasses as a VRS file: the RGB stream, with the calibration in its tags."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.synthetic import vrs
from ego_ops.synthetic.aria_device import SIZE, Glasses
from ego_ops.synthetic.mps import slam_cameras
from ego_ops.synthetic.take import Take

SENSOR = 2 * SIZE + 64
"""Side of the whole sensor, pixels: a stored picture is its middle, two by two pixels in one."""
_CONFIGURATION = vrs.Layout(
    {
        "camera_id": "uint32_t", "nominal_rate": "double", "image_width": "uint32_t",
        "image_height": "uint32_t", "image_stride": "uint32_t", "image_pixel_format": "uint32_t",
        "exposure_duration.min": "double", "exposure_duration.max": "double",
        "gain.min": "double", "gain.max": "double", "gamma_factor": "double",
    },
    (
        "device_type", "device_version", "device_serial", "sensor_model", "sensor_serial",
        "factory_calibration", "online_calibration", "description",
    ),
)  # fmt: skip
_PICTURE = vrs.Layout(
    {
        "group_id": "uint64_t", "group_mask": "uint64_t", "frame_number": "uint64_t",
        "exposure_duration_s": "double", "gain": "double", "capture_timestamp_ns": "int64_t",
        "arrival_timestamp_ns": "int64_t", "temperature_deg_c": "double",
    }
)  # fmt: skip
_IDENTITY = {
    "device_type": "Aria", "device_version": "29828000000000000",
    "device_serial": "1WM000000S0000",
}  # fmt: skip
_RGB = vrs.Stream(
    214, 1, "RGB Camera Class", "device/aria",
    {
        vrs.CONFIGURATION: ("data_layout", _CONFIGURATION),
        vrs.DATA: (f"data_layout/size={_PICTURE.size}+image/jpg", _PICTURE),
    },
    {**_IDENTITY, "camera_id": "2"},
)  # fmt: skip


def write_vrs(
    path: Path, take: Take, worn: Glasses, frames: Iterable[NDArray[np.uint8]], quality: int = 92
) -> None:
    """Write the frames of a take, as they are on the sensor, as JPEGs of `quality`."""
    factory = json.dumps(_factory(worn))
    metadata = {"filename": path.name, "recording_profile": "profile9", "start_time": 1708609832}
    tags = {**_IDENTITY, "calib_json": factory, "metadata": json.dumps(metadata)}
    vrs.write(path, [_RGB], tags, _records(take, worn, factory, frames, quality))


def _records(
    take: Take, worn: Glasses, factory: str, frames: Iterable[NDArray[np.uint8]], quality: int
) -> Iterator[vrs.Record]:
    stamps = take.device_ns(take.times).tolist()
    first = stamps[0] / 1e9 - 1e-3
    settings = {
        **_IDENTITY, "camera_id": 2, "nominal_rate": round(take.fps), "image_width": worn.size,
        "image_height": worn.size, "image_stride": 0, "image_pixel_format": 0,
        "exposure_duration.min": 0.000247, "exposure_duration.max": 0.014003, "gain.min": 1.0,
        "gain.max": 22.0, "gamma_factor": math.nan, "sensor_model": "IMX577",
        "sensor_serial": worn.calibration()["SerialNumber"], "factory_calibration": factory,
        "online_calibration": "", "description": "",
    }  # fmt: skip
    yield vrs.Record(_RGB, vrs.CONFIGURATION, first, _CONFIGURATION.pack(settings))
    yield vrs.Record(_RGB, vrs.STATE, first, b"")
    for number, (stamp, image) in enumerate(zip(stamps, frames, strict=True)):
        ok, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not ok:
            raise ValueError(f"frame {number} cannot be encoded as JPEG")
        about = {
            "group_id": 0, "group_mask": 4, "frame_number": number, "exposure_duration_s": 0.004,
            "gain": 2.0, "capture_timestamp_ns": stamp, "arrival_timestamp_ns": stamp + 30_000_000,
            "temperature_deg_c": 33.0,
        }  # fmt: skip
        yield vrs.Record(_RGB, vrs.DATA, stamp / 1e9, _PICTURE.pack(about) + jpeg.tobytes())


def _factory(worn: Glasses) -> dict[str, object]:
    """Calibration as the factory writes it: of the RGB camera for its whole sensor."""
    rgb = worn.calibration()
    focal, cu, cv, *rest = worn.params
    rgb["Projection"]["Params"] = [2 * focal, _on_sensor(cu), _on_sensor(cv), *rest]
    return {
        "CalibrationSource": "Factory",
        "DeviceClassInfo": {"BuildVersion": "DVT-S", "DeviceClass": "Aria"},
        "Serial": _IDENTITY["device_serial"],
        "OriginSpecification": {"ChildLabel": "camera-slam-left", "Type": "Custom"},
        "CameraCalibrations": [*slam_cameras(), rgb],
        "ImuCalibrations": [],
        "MagCalibrations": [],
        "BaroCalibrations": [],
        "MicCalibrations": [],
    }


def _on_sensor(centre: float) -> float:
    """A coordinate of the picture on the whole sensor; pixel centres at whole numbers."""
    return 2 * (centre + 0.5) - 0.5 + (SENSOR - 2 * SIZE) / 2
