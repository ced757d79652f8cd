"""MPS folders in their published format, from paths that are known in closed form."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

START_US = 113_585_169_151
"""Microseconds since the device was started, as real recordings have them."""
PARAMS = (
    *(609.36, 706.27, 704.18),
    *(0.38424, -0.38064, -0.12208, 1.55552, -1.98919, 0.72516),
    *(-0.000996, 0.000204, 0.002203, -0.000409, -0.001457, 0.00025),
)
T_DEVICE_CAMERA = RigidTransform.from_components(
    [-0.0038, -0.0127, -0.0031], Rotation.from_rotvec([0.66, 0.08, 0.06])
)
GEO = ",geo_available,tx_ecef_device,ty_ecef_device,tz_ecef_device,qx_ecef_device,qy_ecef_device"
HEADER = (
    "graph_uid,tracking_timestamp_us,utc_timestamp_ns,tx_world_device,ty_world_device,"
    "tz_world_device,qx_world_device,qy_world_device,qz_world_device,qw_world_device,"
    "device_linear_velocity_x_device,gravity_z_world,quality_score"
)


def device_at(us: np.ndarray) -> RigidTransform:
    """T_world_device at device times in microseconds."""
    t = (np.asarray(us, dtype=float) - START_US) / 1e6
    place = np.stack((np.sin(t), 0.5 * np.cos(2 * t), 1.6 + 0.1 * t), -1)
    turn = np.stack((0.3 * np.sin(t), 0.2 * t, 0.4 * np.cos(t)), -1)
    return RigidTransform.from_components(place, Rotation.from_rotvec(turn))


def trajectory(
    seconds: float = 4.0, *, geo: bool = True, utc: int = -1, changes: dict | None = None
) -> str:
    """A closed-loop trajectory at 1 kHz. `changes`: column name to {row: value}."""
    us = START_US + np.arange(round(seconds * 1000)) * 1000
    poses = device_at(us)
    pose = np.concatenate((poses.translation, poses.rotation.as_quat()), 1)
    rows = [
        ["db4264cb-c10f", int(t), utc, *p, 0.1, -9.81, 1.0] for t, p in zip(us, pose, strict=True)
    ]
    names = HEADER.split(",")
    for column, cells in (changes or {}).items():
        for row, value in cells.items():
            rows[row][names.index(column)] = value
    tail = ",0,nan,nan,nan,nan,nan" if geo else ""
    lines = [",".join(map(str, row)) + tail for row in rows]
    return "\n".join([HEADER + (GEO if geo else ""), *lines]) + "\n"


def calibration_line(us: int, params: tuple[float, ...] = PARAMS, **changes: object) -> str:
    x, y, z, w = map(float, T_DEVICE_CAMERA.rotation.as_quat())
    camera = {
        "Calibrated": True,
        "Projection": {"Params": list(params), "Name": "FisheyeRadTanThinPrism"},
        "T_Device_Camera": {
            "Translation": [float(v) for v in T_DEVICE_CAMERA.translation],
            "UnitQuaternion": [w, [x, y, z]],
        },
        "SerialNumber": "0450577b",
        "Label": "camera-rgb",
    }
    imu = {"Label": "imu-left", "Gyroscope": {"Bias": [0.1] * 200}}
    other = camera | {"Label": "camera-slam-left"}
    row = {
        "utc_timestamp_ns": -1,
        "tracking_timestamp_us": us,
        "ImuCalibrations": [imu, imu],
        "CameraCalibrations": [other, camera | changes],
    }
    return json.dumps(row)


def calibrations(seconds: float = 4.0) -> str:
    """Ten a second, each with a focal length that tells its number."""
    lines = (
        calibration_line(START_US + k * 100_000, (600.0 + k / 100, *PARAMS[1:]))
        for k in range(round(seconds * 10))
    )
    return "\n".join(lines) + "\n"


def points(rows: list[tuple[object, ...]]) -> bytes:
    """`rows`: (graph_uid, x, y, z, inverse distance std, distance std)."""
    lines = ["uid,graph_uid,px_world,py_world,pz_world,inv_dist_std,dist_std"]
    lines += [f"{k}," + ",".join(map(str, row)) for k, row in enumerate(rows)]
    return gzip.compress(("\n".join(lines) + "\n").encode())


def folder(path: Path, seconds: float = 4.0) -> str:
    path.mkdir(parents=True, exist_ok=True)
    (path / "closed_loop_trajectory.csv").write_text(trajectory(seconds))
    (path / "online_calibration.jsonl").write_text(calibrations(seconds))
    return str(path)
