"""A training run of seconds: shards of a few clips, and a π0 of some thousand weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from tests import shard_files
from training import tokeniser
from training.config import OptimiserConfig, SourceConfig, TrainConfig
from training.data.norm import NormStats, Statistics
from training.data.sample import Source
from training.data.sources import open_sources
from training.pi0.config import GemmaSize, Pi0Config, SiglipSize
from training.saved_files import completed
from training.trainer import Trainer

MODEL = Pi0Config(
    vision=SiglipSize(width=16, depth=1, mlp=32, heads=2, patch=14, image=28),
    language=GemmaSize(width=32, mlp=64),
    expert=GemmaSize(width=16, mlp=32),
    depth=2,
    heads=2,
    head_size=16,
    vocabulary=300,
    text_tokens=24,
    horizon=6,
)


def config(folder: Path) -> TrainConfig:
    """Twelve steps over shards in `folder`, which are written if they are not there."""
    shards = folder / "shards"
    if not shards.exists():
        shard_files.simple(str(shards))
    return TrainConfig(
        name="minute",
        model=MODEL,
        sources=(SourceConfig(str(shards)),),
        tokeniser="bytes",
        steps=12,
        batch=8,
        # The biases of keys have no effect: their gradients are rounding errors, and AdamW would
        # make full steps of them, were epsilon smaller.
        optimiser=OptimiserConfig(1e-3, 1e-4, warmup=3, decay=12, epsilon=1e-5, ema=0.9),
        held_out=0.2,
        precision="fp32",
        parallel="ddp",
        log_every=1,
        save_every=4,
        validate_every=6,
        validate_samples=8,
    )


def options(folder: Path) -> list[str]:
    """What makes `egoscaler train --config pi0_tiny` a run of the same kind."""
    shards = folder / "shards"
    if not shards.exists():
        shard_files.simple(str(shards))
    sizes = []
    for name, value in dataclasses.asdict(MODEL).items():
        inside = value.items() if isinstance(value, dict) else [(None, value)]
        for part, number in inside:
            field = f"model.{name}" + (f".{part}" if part else "")
            sizes.append(f"{field}={json.dumps(number)}")
    return [
        *("--config", "pi0_tiny", "--data", str(shards), "--batch", "8", "--cpus-per-worker", "1"),
        *("--option", "log_every=5", "optimiser.warmup=5", "validate_every=100000", *sizes),
    ]


def trainer(config: TrainConfig, folder: Path, rank: int = 0, world: int = 1) -> Trainer:
    """One worker on CPU."""
    sources = open_sources(config.sources, config.model.horizon, "train", config.held_out)
    held_out: list[Source] = []
    if config.held_out:
        held_out = open_sources(config.sources, config.model.horizon, "held_out", config.held_out)
    words = tokeniser.load(config.tokeniser)
    stats = [statistics(source) for source in sources]
    device = torch.device("cpu")
    return Trainer(config, sources, held_out, stats, words, folder, device, rank, world)


def statistics(source: Source) -> NormStats:
    """Of all that a source has."""
    units = [source.load(number, pictures=False) for number in range(len(source.windows()))]
    return NormStats(
        _statistics([unit.states() for unit in units]),
        _statistics([unit.steps() for unit in units]),
    )


def _statistics(parts: Sequence[np.ndarray]) -> Statistics:
    values = np.concatenate(parts).astype(np.float64)
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    return Statistics(values.mean(0), values.std(0), low, high)


def saved(run: Path, step: int | None = None) -> dict[str, Tensor]:
    """All tensors of a run's newest checkpoint, or of that of a step."""
    path = next(one.path for one in completed(run) if step in (None, one.step))
    known = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    state = {name: torch.zeros(one.size, dtype=one.properties.dtype) for name, one in known.items()}
    dcp.load(state, storage_reader=dcp.FileSystemReader(path))
    return state


def equal(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0.0) -> None:
    """Assert that two states are the same."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if tolerance:
            torch.testing.assert_close(value, other[name], rtol=tolerance, atol=tolerance)
        else:
            assert torch.equal(value, other[name]), name


def losses(run: Path) -> dict[int, float]:
    """By step, as logged; no step is there twice."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [(one["step"], one["loss"]) for one in records if "loss" in one]
    assert len(dict(found)) == len(found)
    return dict(found)
