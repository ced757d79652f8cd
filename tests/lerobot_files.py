"""Shards and LeRobot datasets whose every frame says which it is, and LeRobot itself to read them.

LeRobot is no dependency: it lies, where it lies at all, in a folder of its own beside the virtual
environment, and runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ego_ops import rows, shards
from ego_ops.clip import Clip, clip_id
from ego_ops.pipeline import Extraction
from ego_ops.storage import store
from tests.lerobot_oracle import picture

FPS = 10
LEROBOT = Path(sys.prefix, "lerobot")


def commit_shards(
    folder: Path, lengths: Sequence[int], fps: float = FPS, first: int = 0, part: int = 3
) -> str:
    """Commit clips with as many steps as `lengths` say, `part` of them in each part."""
    where = store(str(folder))
    made = [_row(first + n, steps, fps) for n, steps in enumerate(lengths)]
    for begin in range(0, len(made), part):
        some = made[begin : begin + part]
        data = rows.parquet(rows.table(some, "config", "code"))
        ends = [shards.Outcome(row.clip.clip_id, "ok", "", 1, False) for row in some]
        shards.commit(where, first + begin, data, {"ego4d": ends}, "run")
    return str(folder)


def _row(number: int, steps: int, fps: float) -> rows.Row:
    clip = Clip(
        clip_id=clip_id("ego4d", "v2", f"video-{number // 4}", number, number + 1, str(number)),
        corpus="ego4d",
        corpus_version="v2",
        video_uid=f"video-{number // 4}",
        root="/nowhere",
        video_path=f"video-{number // 4}.mp4",
        annotation_path="",
        t_start=float(number),
        t_end=number + 1.0,
        narration=f"moves thing {number % 5}",
    )
    random = np.random.default_rng(number)
    path = np.cumsum(random.normal(scale=0.01, size=(2, steps, 3)), axis=1)
    turns = [Rotation.from_rotvec(np.cumsum(t, axis=0)) for t in
             random.normal(scale=0.05, size=(2, steps, 3))]  # fmt: skip
    bgr = [picture(number, t)[:, :, ::-1] for t in range(steps)]
    found = Extraction(
        fps=fps,
        timestamps=number + np.arange(steps) / fps,
        position=path[0] + [0, 0, 1],
        rotation=turns[0].as_quat(),
        camera_position=path[1],
        camera_rotation=turns[1].as_quat(),
        visible=np.ones(steps, bool),
        intrinsics=np.array([500.0, 500, 320, 240]),
        image_size=(640, 480),
        frames=[cv2.imencode(".jpg", image)[1].tobytes() for image in bgr],
        quality={"travel_m": 0.1 * number},
    )
    return rows.Row(clip, 1, found, "host/1", 1.0, 1.0)


def write_v2(folder: Path, version: str, lengths: Sequence[int]) -> str:
    """A dataset as LeRobot before 0.4 wrote it: files of its own for each episode."""
    key = "observation.images.top"
    info = {
        "codebase_version": version,
        "robot_type": "arm",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": 2,
        "total_videos": len(lengths),
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
        "features": _features(key),
    }
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    episodes, stats, first = [], [], 0
    for n, length in enumerate(lengths):
        table = _episode(n, length, first)
        first += length
        path = folder / info["data_path"].format(episode_chunk=0, episode_index=n)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        film = folder / info["video_path"].format(episode_chunk=0, episode_index=n, video_key=key)
        film.parent.mkdir(parents=True, exist_ok=True)
        write_video(film, [picture(n, t, 64) for t in range(length)])
        episodes.append({"episode_index": n, "tasks": [f"task {n % 2}"], "length": length})
        stats.append({"episode_index": n, "stats": _stats(table, key, length)})
    _lines(folder / "meta/episodes.jsonl", episodes)
    _lines(folder / "meta/tasks.jsonl", [{"task_index": t, "task": f"task {t}"} for t in (1, 0)])
    if version == "v2.1":
        _lines(folder / "meta/episodes_stats.jsonl", stats)
    return str(folder)


def _features(key: str) -> dict:
    scalars = {"timestamp": "float32"} | dict.fromkeys(
        ("frame_index", "episode_index", "index", "task_index"), "int64"
    )
    return {
        "action": {"dtype": "float32", "shape": [3], "names": None},
        "observation.state": {"dtype": "float32", "shape": [2], "names": None},
        key: {"dtype": "video", "shape": [64, 64, 3], "names": ["height", "width", "channels"],
              "info": {"video.fps": FPS}},
        **{name: {"dtype": of, "shape": [1], "names": None} for name, of in scalars.items()},
    }  # fmt: skip


def _episode(number: int, length: int, first: int) -> pa.Table:
    step = np.arange(length)
    action = np.stack([step, step * 0 + number, step / 7], 1).astype(np.float32)
    state = np.stack([100 + step, step * 0 + number], 1).astype(np.float32)
    return pa.table(
        {
            "action": pa.array(list(action), pa.list_(pa.float32())),
            "observation.state": pa.array(list(state), pa.list_(pa.float32())),
            "timestamp": (step / FPS).astype(np.float32),
            "frame_index": step,
            "episode_index": np.full(length, number),
            "index": first + step,
            "task_index": np.full(length, number % 2),
        }
    )


def _stats(table: pa.Table, key: str, length: int) -> dict:
    names = ("min", "max", "mean", "std")
    found: dict = {key: {name: [[[0.5]]] * 3 for name in names} | {"count": [length]}}
    for name in table.column_names:
        values = np.array(table[name].to_pylist(), float).reshape(length, -1)
        found[name] = {what: getattr(values, what)(0).tolist() for what in names}
        found[name]["count"] = [length]
    return found


def write_video(path: Path, images: Sequence[NDArray[np.uint8]], fps: int = FPS) -> None:
    """Frames as a video of that rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "bf": "0"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))


def _lines(path: Path, objects: Sequence[dict]) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in objects))


def lerobot(*arguments: object) -> None:
    """Run `tests/lerobot_oracle.py` in a process of its own that has LeRobot."""
    if not (LEROBOT / "lerobot").is_dir():
        pytest.skip(f"LeRobot is not installed in {LEROBOT}")
    script = Path(__file__).with_name("lerobot_oracle.py")
    ended = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(LEROBOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
