"""Ego-Exo4D, HD-EPIC and Nymeria as they are published, small: for the tests of their readers.

The wearer walks along the world's x axis at `SPEED`, without turning, so a camera position tells
the time on the device's clock that it was taken for.
"""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np

SPEED = 0.5
"""Metres a second."""
CAMERA_AT = (0.1, 0.02, -0.03)
"""The RGB camera's position in the device's frame."""
FISHEYE = [609.4, 706.3, 704.2, 0.4, -0.46, 0.02, 1.37, -2.2, 0.83] + [0.0] * 6

TRAJECTORY = [
    "graph_uid",
    "tracking_timestamp_us",
    "utc_timestamp_ns",
    *(f"t{axis}_world_device" for axis in "xyz"),
    *(f"q{axis}_world_device" for axis in "xyzw"),
    *(f"device_linear_velocity_{axis}_device" for axis in "xyz"),
    *(f"angular_velocity_{axis}_device" for axis in "xyz"),
    *(f"gravity_{axis}_world" for axis in "xyz"),
    "quality_score",
    "geo_available",
    *(f"t{axis}_ecef_device" for axis in "xyz"),
    *(f"q{axis}_ecef_device" for axis in "xyzw"),
]


def write_slam(folder: Path, start_s: float, end_s: float, rate: float = 50.0) -> None:
    """MPS's SLAM files, from `start_s` to `end_s` on the device's clock."""
    folder.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(start_s * rate), round(end_s * rate) + 1) / rate
    rows = [
        ["1f2e", round(t * 1e6), -1, f"{SPEED * t:.6f}", 0, 1.6, 0, 0, 0, 1, SPEED, 0, 0]
        + [0, 0, 0, 0, 0, -9.81, 1.0, 0, 0, 0, 0, 0, 0, 0, 1]
        for t in times
    ]
    _table(folder / "closed_loop_trajectory.csv", [TRAJECTORY, *rows])
    with open(folder / "online_calibration.jsonl", "w", encoding="utf-8") as file:
        for t in np.arange(start_s, end_s, 1.0):
            file.write(json.dumps(_calibration(t)) + "\n")
    points = "uid,graph_uid,px_world,py_world,pz_world,inv_dist_std,dist_std\n"
    points += "".join(f"{i},1f2e,{i / 10},1.0,2.0,0.001,0.005\n" for i in range(20))
    (folder / "semidense_points.csv.gz").write_bytes(gzip.compress(points.encode()))


def _calibration(t: float) -> dict[str, object]:
    camera = {
        "Calibrated": True,
        "Label": "camera-rgb",
        "SerialNumber": "0450577b730411064461100000000000",
        "Projection": {"Name": "FisheyeRadTanThinPrism", "Params": FISHEYE},
        "T_Device_Camera": {"Translation": CAMERA_AT, "UnitQuaternion": [1.0, [0.0, 0.0, 0.0]]},
    }
    return {
        "utc_timestamp_ns": -1,
        "tracking_timestamp_us": round(t * 1e6),
        "ImuCalibrations": [],
        "CameraCalibrations": [camera],
    }


def _table(path: Path, rows: list[list[object]], **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, **options).writerows(rows)  # type: ignore[arg-type]


def dump(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def touch(path: Path) -> None:
    """A video: the readers of annotations look only whether it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"video")


def device_time(recording: object, t: float) -> float:
    """The device's clock, in seconds, at `t` seconds of the video: what the camera's path says."""
    where = recording.path.at(np.array([t])).translation[0]  # type: ignore[attr-defined]
    return float((where[0] - CAMERA_AT[0]) / SPEED)


def description(text: str, timestamp: object, **more: object) -> dict[str, object]:
    """One of Ego-Exo4D's atomic descriptions, in the spelling of its documentation."""
    best = {"raw_cam_id": "1", "cam_id": "cam01"}
    fields = {"subject": "C", "ego_visible": True, "best_exo": best, "unsure": False}
    return {"text": text, "timestamp": timestamp} | fields | more


def annotator(uid: str, *descriptions: object, **more: object) -> dict[str, object]:
    fields = {"annotation_uid": uid, "annotator_id": f"of {uid}", "rejected": False}
    return fields | {"reject_reason": None, "descriptions": list(descriptions)} | more


def take(name: str, uid: str, camera: str = "aria01", **more: object) -> dict[str, object]:
    """An entry of Ego-Exo4D's takes.json."""
    video = f"frame_aligned_videos/{camera}_214-1.mp4"
    exo = {"cam_id": "cam01", "stream_id": "0", "relative_path": "frame_aligned_videos/cam01.mp4"}
    slam = {"cam_id": camera, "stream_id": "1201-1", "relative_path": video.replace("214", "1201")}
    rgb = {"cam_id": camera, "stream_id": "214-1", "relative_path": video}
    cameras = [{"cam_id": "cam01", "is_ego": False}, {"cam_id": camera, "is_ego": True}]
    return {
        "root_dir": f"takes/{name}",
        "take_name": name,
        "take_uid": uid,
        "duration_sec": 20.0,
        "timesync_start_idx": 100,
        "timesync_end_idx": 700,
        "capture": {"capture_name": name.rpartition("_")[0], "cameras": cameras},
        "frame_aligned_videos": {"cam01": {"0": exo}, camera: {"slam-left": slam, "rgb": rgb}},
    } | more


def write_take(root: Path, name: str, camera: str = "aria01", start_s: float = 50.0) -> None:
    """The files of a take of 20 s, whose first frame was captured at `start_s`."""
    folder = root / "takes" / name
    touch(folder / "frame_aligned_videos" / f"{camera}_214-1.mp4")
    write_slam(folder / "trajectory", start_s - 2, start_s + 22)
    stream = f"{camera}_214-1"
    rows: list[list[object]] = [
        ["", "cam01_global_time", "cam01_pts", "cam01_frame_number"]
        + [f"{stream}_pts", f"{stream}_frame_number", f"{stream}_capture_timestamp_ns"]
    ]
    for i in range(900):
        ns = round((start_s + (i - 101) / 30) * 1e9)  # row timesync_start_idx + 1: the first frame
        empty = i < 90 or i % 7 == 0
        rows.append([i, 0.0, i, i] + (["", "", ""] if empty else [i * 512, i, ns]))
    _table(root / "captures" / name.rpartition("_")[0] / "timesync.csv", rows)


def write_mp4_clock(path: Path, start_s: float, seconds: float, fps: float = 30.0) -> None:
    """What `vrs_to_mp4` logs of a video whose first frame was captured at `start_s`."""
    rows: list[list[object]] = [
        ["mp4_time_ns", "relative_vrs_device_time_ns", "vrs_device_time_ns"]
    ]
    for i in range(round(seconds * fps)):
        late = (i - (i % 50 == 9)) / fps  # now and then the last picture is shown again
        rows.append([i * 1e9 / fps, round(late * 1e9), round((start_s + late) * 1e9)])
    _table(path, rows)


def write_kitchen(root: Path, video: str, session: str = "3", start_s: float = 500.0) -> None:
    """The files of an HD-EPIC video of 60 s, in the downloader's layout, unpacked."""
    person = video[:3]
    touch(root / "Videos" / person / f"{video}.mp4")
    write_mp4_clock(root / "Videos" / person / f"{video}_mp4_to_vrs_time_ns.csv", start_s, 60.0)
    multi = root / "SLAM-and-Gaze" / person / "SLAM" / "multi"
    dump(multi / "vrs_to_multi_slam.json", {f"{person}/{video}.vrs": int(session)})
    write_slam(multi / session / "slam", start_s - 2, start_s + 62)


ATOMIC = ["request_id", "gaia_id", "start_time", "end_time", "annotator", "creation_time"]
ATOMIC += ["Describe my atomic actions"]


def write_sequence(
    root: Path, name: str, rows: list[tuple[float, float, str]], start_s: float = 5830.0
) -> Path:
    """A Nymeria sequence of 60 s with an MP4 made of its `data.vrs`, which begins at `start_s`."""
    folder = root / name
    table: list[list[object]] = [ATOMIC, []]
    table += [[f"r{i}", 7, a, b, "A1", "2023-08-01", text] for i, (a, b, text) in enumerate(rows)]
    path = folder / "narration" / "atomic_action.csv"
    _table(path, table, quoting=csv.QUOTE_MINIMAL)
    path.write_text("\ufeff" + path.read_text("utf-8"), "utf-8", newline="")
    touch(folder / "recording_head" / "data" / "data.mp4")
    sheet = folder / "recording_head" / "data" / "data_mp4_to_vrs_time_ns.csv"
    write_mp4_clock(sheet, start_s, 60.0, fps=15.0)
    write_slam(folder / "recording_head" / "mps" / "slam", start_s - 1, start_s + 61)
    return folder
