"""LeRobotDataset v3.0 as this project writes it: names, features and places of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ego_ops.lerobot_names import ACTION, FILLER, STATE, VERSION

CAMERA = "observation.images.base_0_rgb"
SIDE = 224
"""Pixels of a picture's sides."""
CHUNK = 1000
"""Files in a folder."""
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
DATA_MB, VIDEO_MB = 100, 200
"""What files are kept below."""
ORIGIN = "meta/egoscaler.json"
"""What a dataset was exported from: a digest, no paths, since datasets are published."""

POSE = ["x", "y", "z", *(f"r{row}{column}" for column in (1, 2) for row in (1, 2, 3))]
"""Names of a pose's numbers: metres, and the first two columns of the rotation's matrix."""
_SCALARS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
COLUMNS = (STATE, ACTION, *_SCALARS)
"""Of the data files, in order."""


def place(number: int) -> dict[str, int]:
    """Where the file of that number lies, for the templates."""
    return {"chunk_index": number // CHUNK, "file_index": number % CHUNK}


@dataclass(frozen=True)
class Form:
    """What every frame of a dataset holds."""

    robot: str
    """What moves, for people."""
    fps: int
    cameras: Mapping[str, tuple[int, int]]
    """Height and width of a camera's pictures, by feature (`observation.images.NAME`)."""
    state: Sequence[str]
    """Names of the numbers of `observation.state`."""
    action: Sequence[str]
    """Names of the numbers of `action`."""
    filler: bool = False
    """See `ego_ops.lerobot_names.FILLER`."""


def hand_held(fps: int) -> Form:
    """Of trajectories from video: an object's poses and steps."""
    steps = [f"d{name}" for name in POSE]
    return Form("hand-held object", fps, {CAMERA: (SIDE, SIDE)}, POSE, steps, filler=True)


def features(form: Form, codec: str) -> dict[str, Any]:
    """What `meta/info.json` says of every feature."""
    said: dict[str, Any] = {
        name: {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": codec,
                "video.pix_fmt": "yuv420p",
                "video.fps": form.fps,
                "video.channels": 3,
                "has_audio": False,
                "is_depth_map": False,
            },
        }
        for name, (height, width) in form.cameras.items()
    }
    for name, names in ((STATE, form.state), (ACTION, form.action)):
        said[name] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    if form.filler:
        said[ACTION]["info"] = {FILLER: True}
    scalars = {name: {"dtype": t, "shape": [1], "names": None} for name, t in _SCALARS.items()}
    return said | scalars


def info(form: Form, codec: str, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    """`meta/info.json`."""
    return {
        "codebase_version": VERSION,
        "robot_type": form.robot,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": form.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": VIDEO,
        "features": features(form, codec),
    }


def as_array(column: pa.ChunkedArray) -> NDArray:
    """(n, D) of a column of numbers (D is 1) or of lists.

    Raises:
        ValueError: the lists are not of one length, or hold no numbers.
    """
    flat = column.combine_chunks()
    width = 1
    if pa.types.is_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
        rows, flat = len(flat), flat.flatten()
        width = len(flat) // max(rows, 1)
    values = flat.to_numpy(zero_copy_only=False).reshape(len(column), width)
    if not np.issubdtype(values.dtype, np.number) and values.dtype != bool:
        raise ValueError(f"holds {column.type}, no numbers")
    return values
