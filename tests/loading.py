"""Sources, and what makes batches of them, for tests of the loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests import shard_files
from training import tokeniser
from training.batch import Batch
from training.config import SourceConfig
from training.data.loader import Loader
from training.data.mixture import Mixer
from training.data.moments import Histogram, Moments
from training.data.norm import NormStats, Statistics
from training.data.order import Order
from training.data.sample import Source, Unit, Window
from training.data.shard_source import ShardSource
from training.pi0.config import SIZES

MODEL = replace(
    SIZES["tiny"], vision=SIZES["pi0"].vision, horizon=6, text_tokens=24, vocabulary=300
)


class Robot:
    """A source of one unit with a base and a wrist camera and 4 numbers: what lies behind the
    mixture is known number by number."""

    name, digest = "robot", "0"
    state_size, action_size = 4, 3
    cameras = ("base_0_rgb", "left_wrist_0_rgb")

    def windows(self) -> np.ndarray:
        return np.array([10])

    def load(self, unit: int, pictures: bool = True) -> Unit:
        return self  # type: ignore[return-value]

    def window(self, number: int) -> Window:
        images = {
            "left_wrist_0_rgb": np.full((224, 224, 3), 100 + number, np.uint8),
            "base_0_rgb": np.full((112, 224, 3), 10 + number, np.uint8),
        }
        actions = np.arange(18, dtype=np.float32).reshape(6, 3) + number
        valid = np.arange(6) < 4
        return Window(images, "go", np.full(4, number, np.float32), actions, valid)

    def states(self) -> np.ndarray:
        return np.stack([self.window(n).state for n in range(10)])

    def steps(self) -> np.ndarray:
        return np.stack([self.window(n).actions[0] for n in range(10)])


def measured(values: np.ndarray) -> Statistics:
    return Histogram.of(values, Moments.of(values)).statistics()


def norm_stats(source: Source) -> NormStats:
    units = [source.load(number, pictures=False) for number in range(len(source.windows()))]
    return NormStats(
        measured(np.concatenate([unit.states() for unit in units])),
        measured(np.concatenate([unit.steps() for unit in units])),
    )


def mixer(sources: Sequence[Source], augmented: bool = False, seed: int = 3) -> Mixer:
    kinds = ["mean_std", "quantile"][: len(sources)]
    stats = [norm_stats(source) for source in sources]
    return Mixer(sources, stats, kinds, tokeniser.load("bytes"), MODEL, seed, augmented)


def shards(folder: Path, **sizes: int) -> ShardSource:
    shard_files.simple(str(folder), **sizes)
    return ShardSource(SourceConfig(str(folder)), MODEL.horizon)


def ordered(sources: Sequence[Source], pool: int = 32, seed: int = 3) -> Order:
    return Order([source.windows() for source in sources], [1.0] * len(sources), seed, pool)


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    both = {**vars(batch), **vars(batch.observation)}
    return {name: value for name, value in both.items() if isinstance(value, torch.Tensor)}


def take(loader: Loader, count: int) -> list[Batch]:
    with loader:
        return [next(loader) for _ in range(count)]
