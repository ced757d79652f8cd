"""The files of Aria's machine perception services (MPS), as published, from the true motion."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.synthetic.aria_device import Glasses
from ego_ops.synthetic.lens_camera import LensCamera
from ego_ops.synthetic.take import Take

Floats = NDArray[np.float64]
RATE = 1000.0
"""Poses a second."""
SPARE = 2.0
"""Seconds that the path begins before the video and ends after it."""
GRAPH = "5f2a6b1c-0d9e-4c58-9a43-7e1f0b2c3d4e"
_TRAJECTORY = (
    "graph_uid", "tracking_timestamp_us", "utc_timestamp_ns",
    *(f"t{axis}_world_device" for axis in "xyz"), *(f"q{axis}_world_device" for axis in "xyzw"),
    *(f"device_linear_velocity_{axis}_device" for axis in "xyz"),
    *(f"angular_velocity_{axis}_device" for axis in "xyz"),
    *(f"gravity_{axis}_world" for axis in "xyz"), "quality_score", "geo_available",
    *(f"t{axis}_ecef_device" for axis in "xyz"), *(f"q{axis}_ecef_device" for axis in "xyzw"),
)  # fmt: skip
_POINTS = (
    "uid", "graph_uid", "px_world", "py_world", "pz_world", "inv_dist_std", "dist_std",
)  # fmt: skip
UTC_NS = 1_708_609_832_566_432_024
"""Wall clock minus device clock, nanoseconds."""


def write_trajectory(path: Path, take: Take, worn: Glasses) -> None:
    """`closed_loop_trajectory.csv`: T_world_device on the device's clock, scalar-last."""
    count = int((take.duration + 2 * SPARE) * RATE)
    # Samples of the inertial sensor: their times have nothing to do with those of the frames.
    device = take.clock - SPARE + 0.000417 + np.arange(count) / RATE
    microseconds = np.rint(device * 1e6).astype(np.int64)
    scene_times = take.at_device(microseconds / 1e6)
    poses = worn.device(take.camera(scene_times))
    linear, angular = _velocities(take, worn, scene_times, poses)
    place, turn = poses.translation, poses.rotation.as_quat()
    rows = (
        [
            GRAPH, us, us * 1000 + UTC_NS, *_text(place[k]), *_text(turn[k]), *_text(linear[k]),
            *_text(angular[k]), "-0.0", "-0.0", "-9.81", "1.0", 0, *"0000000",
        ]
        for k, us in enumerate(microseconds.tolist())
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_table(_TRAJECTORY, rows))


def write_calibration(path: Path, take: Take, worn: Glasses) -> None:
    """`online_calibration.jsonl`: a line a frame, the RGB camera after those of the tracker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cameras = [*slam_cameras(), worn.calibration()]
    with path.open("w") as file:
        for stamp in take.device_ns(take.times).tolist():
            line = {
                "utc_timestamp_ns": -1,
                "tracking_timestamp_us": stamp // 1000,
                "ImuCalibrations": [],
                "CameraCalibrations": cameras,
            }
            file.write(json.dumps(line) + "\n")


def slam_cameras() -> list[dict[str, object]]:
    """Entries of the two tracking cameras; the left one is the origin of the device's frame."""
    places = {
        "camera-slam-left": ([0.0, 0.0, 0.0], [1.0, [0.0, 0.0, 0.0]]),
        "camera-slam-right": ([0.0037, -0.1083, -0.0844], [0.7878, [0.6154, 0.0027, 0.0264]]),
    }
    return [
        {
            "Calibrated": True,
            "Label": label,
            "SerialNumber": f"0072510f1b210005030000180{k}",
            "Projection": {
                "Name": "FisheyeRadTanThinPrism",
                "Description": "see FisheyeRadTanThinPrism.h",
                "Params": [
                    242.1, 319.8 + k, 240.9, -0.0269, 0.102, -0.0718, 0.0125, 0.0012, -0.0004,
                    0.0005, 0.0006, -0.0012, -0.0004, -0.0006, 1e-5,
                ],
            },
            "T_Device_Camera": {"Translation": place, "UnitQuaternion": turn},
        }
        for k, (label, (place, turn)) in enumerate(places.items())
    ]  # fmt: skip


def write_points(path: Path, take: Take, camera: LensCamera) -> None:
    """`semidense_points.csv.gz`: corners of still surfaces, with noise, a twentieth misplaced."""
    rng = np.random.default_rng([*take.scene.seed, 5])
    instants = np.linspace(0, take.duration, 3)
    poses = take.camera(take.scene_times(instants))
    points = np.concatenate(
        [
            pose.apply(_corners(depth, image, camera.focal, rng))
            for pose, (depth, image) in zip(poses, camera.still(instants), strict=True)
        ]
    )
    eyes = poses.translation[0]
    away = points - eyes
    distance = np.linalg.norm(away, axis=1)
    spread = 0.0006 * distance**2 * rng.lognormal(0, 0.6, len(points))
    moved = rng.normal(0, spread)
    wrong = rng.random(len(points)) < 0.05
    moved[wrong] = distance[wrong] * rng.uniform(0.2, 1.0, wrong.sum())
    # Most that are wrong are known to be uncertain, as when little parallax saw them.
    spread[wrong] *= rng.choice([1.0, 60.0], wrong.sum(), p=[0.2, 0.8])
    points = eyes + away * (1 + moved / distance)[:, None]
    rows = (
        [100000 + k, GRAPH, *_text(points[k]), *_text([spread[k] / distance[k] ** 2, spread[k]])]
        for k in range(len(points))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a time in its head the same points give the same file.
    path.write_bytes(gzip.compress(_table(_POINTS, rows).encode(), mtime=0))


def write_hands(path: Path, take: Take, worn: Glasses) -> None:
    """`wrist_and_palm_poses.csv`: both hands in the device's frame, a row a frame.

    A hand that the tracking cameras do not see has confidence -1 and zeros.
    """
    scene_times = take.scene_times(take.times)
    to_device = worn.device(take.camera(scene_times)).inv()
    header, columns = ["tracking_timestamp_us"], []
    for side in ("left", "right"):
        joints = take.scene.joints(scene_times, side)
        wrist = take.world.apply(joints["Hand"].translation)
        knuckle = take.world.apply(joints["MiddleFinger0"].translation)
        header.append(f"{side}_tracking_confidence")
        found = []
        for name, point in (("wrist", wrist), ("palm", (wrist + knuckle) / 2)):
            header += [f"t{axis}_{side}_{name}_device" for axis in "xyz"]
            found.append(to_device.apply(point))
        seen = (worn.device(take.camera(scene_times)) * worn.T_device_camera).inv().apply(wrist)
        out = (seen[:, 2] < 0.1) | (np.linalg.norm(seen[:, :2], axis=1) > 1.6 * seen[:, 2])
        block = np.column_stack([np.ones(len(out)), *found])
        block[out] = [-1.0] + 6 * [0.0]
        columns.append(block)
    stamps = take.device_ns(take.times) // 1000
    rows = ([us, *_text(row)] for us, row in zip(stamps.tolist(), np.hstack(columns), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_table(header, rows))


def _velocities(
    take: Take, worn: Glasses, times: Floats, poses: RigidTransform
) -> tuple[Floats, Floats]:
    """Linear and angular velocity (N, 3) in the device's frame, by central differences."""
    half = 0.5 / RATE
    before, after = (worn.device(take.camera(times + step)) for step in (-half, half))
    linear = poses.rotation.inv().apply((after.translation - before.translation) * RATE)
    return linear, (before.rotation.inv() * after.rotation).as_rotvec() * RATE


def _corners(
    depth: Floats, image: NDArray[np.uint8], focal: float, rng: np.random.Generator
) -> Floats:
    """(N, 3) points in the camera's frame where the picture has texture and depth is known."""
    grey = image.astype(float).mean(axis=2)
    strength = np.hypot(*np.gradient(grey)) * np.isfinite(depth)
    chance = (strength / strength.sum()).ravel()
    picked = rng.choice(chance.size, 1500, replace=False, p=chance)
    rows, columns = np.unravel_index(picked, depth.shape)
    z = depth[rows, columns]
    x, y = (columns - (depth.shape[1] - 1) / 2) / focal, (rows - (depth.shape[0] - 1) / 2) / focal
    return np.stack((x * z, y * z, z), -1)


def _text(values: Sequence[float] | Floats) -> list[str]:
    return [f"{v:.9f}" for v in values]


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
