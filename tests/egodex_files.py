"""Hand-made EgoDex recordings: the published layout, small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np

JOINTS = ("Hand", "ThumbTip", "IndexFingerTip", "MiddleFingerTip", "IndexFingerKnuckle")
ATTRIBUTES: dict[str, Any] = {
    "llm_description": "Pick up the red cup from the table.",
    "llm_description2": "None",
    "llm_objects": np.array(["cup"], dtype=object),
    "llm_verbs": np.array(["pick", "place"], dtype=object),
    "llm_type": "reset",
    "task": "pick_cup",
}


def recording(
    root: Path,
    name: str = "pick_cup/0",
    *,
    frames: int = 30,
    size: tuple[int, int] = (192, 108),
    attributes: dict[str, Any] | None = None,
    video: bool = True,
) -> Path:
    """Write `{root}/{name}.hdf5` and `.mp4`; returns the HDF5 file's path."""
    path = root / f"{name}.hdf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    with h5py.File(path, "w") as file:
        for key, value in (ATTRIBUTES if attributes is None else attributes).items():
            file.attrs[key] = value
        file["camera/intrinsic"] = np.array(
            [[70, 0, width / 2], [0, 70, height / 2], [0, 0, 1]], np.float32
        )
        poses = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
        poses[:, 0, 3] = np.linspace(0, 0.1, frames)
        file["transforms/camera"] = poses
        for side in ("left", "right"):
            for i, joint in enumerate(JOINTS):
                poses[:, :3, 3] = (0.01 * i, 0.1, 0.5)
                file[f"transforms/{side}{joint}"] = poses
                file[f"confidences/{side}{joint}"] = np.ones(frames, np.float32)
    if video:
        write_video(path.with_suffix(".mp4"), frames, size)
    return path


def write_video(path: Path, frames: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(image, i, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
