"""What LeRobot itself makes of a dataset. Runs where LeRobot is installed; see `lerobot_files`.

    python lerobot_oracle.py read DATASET HORIZON OUT.npz
    python lerobot_oracle.py write DATASET video|image
    python lerobot_oracle.py convert DATASET                 # v2.1 to v3.0, in place

Runs with LeRobot 0.4.4, and with 0.6.1.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray


def picture(episode: int, step: int, side: int = 224) -> NDArray[np.uint8]:
    """(side, side, 3) RGB: red says which episode, green which step, blue that it is right side up;
    large even areas, which survive compression."""
    image = np.zeros((side, side, 3), np.uint8)
    image[:, :, 0] = 20 + episode * 23 % 200
    image[:, :, 1] = 20 + step * 17 % 200
    image[: side // 2, :, 2] = 200
    return image


class _VideoReader:
    """What LeRobot 0.4 uses of torchvision's reader, with PyAV, which that one uses too."""

    def __init__(self, path: str, stream: str):
        self.container = av.open(path)
        self._stream = self.container.streams.video[0]

    def seek(self, seconds: float, keyframes_only: bool) -> None:
        self.container.seek(int(seconds / self._stream.time_base), stream=self._stream)

    def __iter__(self) -> Iterator[dict]:
        for frame in self.container.decode(self._stream):
            image = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
            yield {"data": image, "pts": float(frame.pts * self._stream.time_base)}


class _ToTensor:
    def __call__(self, image: object) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def _without_torchvision() -> None:
    """torchvision's wheels do not run on a CPU torch; LeRobot 0.4 needs these parts of it alone."""
    module = types.ModuleType("torchvision")
    module.transforms = types.SimpleNamespace(ToTensor=_ToTensor)
    module.io = types.SimpleNamespace(VideoReader=_VideoReader)
    module.set_video_backend = lambda name: None
    sys.modules["torchvision"] = module


def read(root: str, horizon: str, out: str) -> None:
    """Every frame with its chunk of actions, as a training run would get it; and statistics."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata

    fps = LeRobotDatasetMetadata("a/b", root=root).fps
    chunk = {"action": [step / fps for step in range(int(horizon))]}
    data = LeRobotDataset(
        "a/b", root=root, delta_timestamps=chunk, tolerance_s=1e-4, video_backend="pyav"
    )
    found: dict[str, list] = {}
    for number in range(len(data)):
        for name, value in data[number].items():
            if hasattr(value, "numpy"):
                value = value.numpy()
                value = np.round(value * 255).astype(np.uint8) if "images" in name else value
            found.setdefault(name, []).append(value)
    arrays = {name: np.stack(values) for name, values in found.items()}
    for feature, stats in data.meta.stats.items():
        arrays |= {f"stats/{feature}/{name}": value for name, value in stats.items()}
    for feature, stats in _recomputed(arrays, data).items():
        arrays |= {f"again/{feature}/{name}": value for name, value in stats.items()}
    np.savez(out, **arrays)


def _recomputed(arrays: dict, data: object) -> dict:
    """Statistics of all frames, by LeRobot's own function for an episode's."""
    from lerobot.datasets.compute_stats import get_feature_stats

    found = {}
    for name, feature in data.meta.features.items():
        # As float64: what LeRobot 0.4 squares and adds up overflows in uint8, drifts in float32.
        values = (arrays[name][:, 0] if name == "action" else arrays[name]).astype(np.float64)
        if feature["dtype"] in ("video", "image"):
            stats = get_feature_stats(values, axis=(0, 2, 3), keepdims=True)
            found[name] = {
                key: value if key == "count" else np.squeeze(value / 255, axis=0)
                for key, value in stats.items()
            }
        else:
            found[name] = get_feature_stats(values, axis=0, keepdims=values.ndim == 1)
    return found


def write(root: str, dtype: str) -> None:
    """3 episodes of 6, 7 and 8 frames with two cameras; see `picture`."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    image = {"dtype": dtype, "shape": (64, 64, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.images.top": image,
        "observation.images.left_wrist_0_rgb": image,
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
        "action": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
    }
    videos = dtype == "video"
    data = LeRobotDataset.create("a/b", fps=10, features=features, root=root, use_videos=videos)
    for episode in range(3):
        for step in range(6 + episode):
            data.add_frame(
                {
                    "observation.images.top": picture(episode, step, 64),
                    "observation.images.left_wrist_0_rgb": picture(episode + 4, step, 64),
                    "observation.state": np.array([step, episode], np.float32),
                    "action": np.array([episode, step, step / 3], np.float32),
                    "task": f"task {episode % 2}",
                }
            )
        data.save_episode()
    data.finalize()


def convert(root: str) -> None:
    from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset

    place = Path(root)
    convert_dataset(place.name, root=place.parent, push_to_hub=False)


if __name__ == "__main__":
    try:
        import lerobot.datasets.lerobot_dataset  # noqa: F401
    except ImportError:
        _without_torchvision()
    {"read": read, "write": write, "convert": convert}[sys.argv[1]](*sys.argv[2:])
