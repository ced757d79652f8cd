"""LeRobotDataset v3.0 as this project writes it: names, features and places of files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

VERSION = "v3.0"
STATE, ACTION, CAMERA = "observation.state", "action", "observation.images.base_0_rgb"
SIDE = 224
"""Pixels of a picture's sides."""
CHUNK = 1000
"""Files in a folder."""
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_MB, VIDEO_MB = 100, 200
"""What files are kept below."""
FILLER = "last_is_filler"
"""Key of the action's `info`: an episode's last action is that of standing still, and was not
recorded. It is there since every frame needs one, and since readers repeat it past the end."""
ORIGIN = "meta/egoscaler.json"
"""What a dataset was exported from: a digest, no paths, since datasets are published."""

_POSE = ["x", "y", "z", *(f"r{row}{column}" for column in (1, 2) for row in (1, 2, 3))]
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


def features(fps: int, codec: str) -> dict[str, Any]:
    """What `meta/info.json` says of every feature."""
    pose = {"dtype": "float32", "shape": [9]}
    return {
        CAMERA: {
            "dtype": "video",
            "shape": [SIDE, SIDE, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": SIDE,
                "video.width": SIDE,
                "video.codec": codec,
                "video.pix_fmt": "yuv420p",
                "video.fps": fps,
                "video.channels": 3,
                "has_audio": False,
                "is_depth_map": False,
            },
        },
        STATE: {**pose, "names": _POSE},
        ACTION: {**pose, "names": [f"d{name}" for name in _POSE], "info": {FILLER: True}},
        **{name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in _SCALARS.items()},
    }


def info(fps: int, codec: str, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    """`meta/info.json`."""
    return {
        "codebase_version": VERSION,
        "robot_type": "hand-held object",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": VIDEO,
        "features": features(fps, codec),
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
