"""Configurations of training, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ego_ops.errors import UserError, hint
from training.pi0.config import SIZES, Pi0Config


@dataclass(frozen=True)
class SourceConfig:
    """One source of the mixture."""

    path: str
    """Folder (or fsspec URL) of shards, or the folder of a LeRobot dataset."""
    kind: str = "shards"
    """`shards` or `lerobot`."""
    name: str = ""
    """Unique in the mixture; its statistics are kept under it. The kind by default."""
    weight: float = 1.0
    """Its share of the samples, relative to the other sources' weights."""
    selection: str | None = None
    """Of shards: a file that `egoscaler curate` wrote."""
    limits: tuple[str, ...] = ()
    """Of shards: limits on scores as `name=value` of `ego_ops.quality_policy.Policy`, applied as
    they are read, and `policy=NAME` for a preset."""
    smooth: int = 1
    """Of shards: steps of the moving mean over poses (odd; the paper has 5, 1 is none)."""
    cameras: tuple[str, ...] = ()
    """Of robot data: `feature=camera`, e.g. `observation.images.top=base_0_rgb`; those with π0's
    own names, else the first as base_0_rgb, by default."""
    normalise: str = "mean_std"
    """`mean_std` or `quantile` (1st to 99th percentile to -1..1)."""


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with a linear warm-up and a cosine decay (openpi's values)."""

    peak: float = 2.5e-5
    """Learning rate after the warm-up."""
    end: float = 2.5e-6
    """Learning rate at the last step and after."""
    warmup: int = 1000
    """Steps."""
    decay: int | None = None
    """Step at which `end` is reached; the run's last by default."""
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 1e-10
    clip: float = 1.0
    """Largest global norm of the gradient."""
    ema: float | None = 0.99
    """Decay of the moving mean of the weights, which is what is evaluated and exported; None: no
    mean."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    name: str
    model: Pi0Config
    sources: tuple[SourceConfig, ...]
    initial: str | None = None
    """Weights to begin with: a π0 (openpi's or LeRobot's model.safetensors, or a run's policy
    folder), or a PaliGemma; a folder, a file, or a name on the hub. None: random."""
    tokeniser: str = "google/paligemma-3b-pt-224"
    """A folder, a file or a name on the hub; `bytes` is the built-in one."""
    steps: int = 30_000
    batch: int = 32
    """Samples a step, over all workers."""
    accumulate: int = 1
    """Parts that a worker's share of a batch is worked on one after another."""
    optimiser: OptimiserConfig = OptimiserConfig()
    loss: str = "real"
    """`real`: mean over recorded steps and the numbers that the source has; `padded`: over all
    `action_size` numbers and all steps, as openpi."""
    augment: bool = True
    """Random crop, rotation and colours of each sample's pictures."""
    held_out: float = 0.05
    """Share of units kept from training, to validate on."""
    seed: int = 42
    precision: str = "bf16"
    """Of the arithmetic: `bf16` or `fp32`. Weights and optimiser are fp32 either way."""
    parallel: str = "fsdp"
    """`fsdp`: weights sharded over workers; `ddp`: a copy on each."""
    recompute: str = "none"
    """Activations to compute again in the backward pass: `none`, `selective` (all but the outputs
    of matrix products) or `full`."""
    compile: bool = False
    """torch.compile each block."""
    freeze: tuple[str, ...] = ()
    """Parts to leave as they are: `vision`, `language`, `expert`."""
    lora: int | None = None
    """Rank of low-rank adapters to train in place of the joint blocks' matrices."""
    lora_alpha: float | None = None
    """Scale of the adapters; the rank by default."""
    log_every: int = 10
    save_every: int = 1000
    keep: int = 2
    """Newest checkpoints to keep."""
    keep_every: int | None = 5000
    """Steps whose checkpoints are kept for good."""
    validate_every: int = 1000
    validate_samples: int = 256


def _registry(*configs: TrainConfig) -> dict[str, TrainConfig]:
    return {config.name: config for config in configs}


_FULL = TrainConfig(
    name="pi0_ego",
    model=SIZES["pi0"],
    sources=(SourceConfig("shards"),),
    initial="google/paligemma-3b-pt-224",
    recompute="selective",
    compile=True,
)

_TINY = TrainConfig(
    name="pi0_tiny",
    model=SIZES["tiny"],
    sources=(SourceConfig("shards"),),
    tokeniser="bytes",
    steps=2400,
    batch=32,
    optimiser=OptimiserConfig(peak=2e-3, end=1e-5, warmup=50, ema=0.99),
    held_out=0.2,
    precision="fp32",
    parallel="ddp",
    save_every=100,
    validate_every=100,
    validate_samples=128,
)

CONFIGS = _registry(
    _FULL,
    replace(
        _FULL,
        name="pi0_ego_bridge",
        sources=(
            SourceConfig("shards", weight=0.5),
            SourceConfig("bridge", kind="lerobot", name="bridge", weight=0.5),
        ),
    ),
    replace(
        _FULL,
        name="pi0_finetune",
        sources=(SourceConfig("robot", kind="lerobot", name="robot"),),
        initial="lerobot/pi0_base",
    ),
    replace(
        _FULL,
        name="pi05_finetune",
        model=SIZES["pi05"],
        sources=(SourceConfig("robot", kind="lerobot", name="robot", normalise="quantile"),),
        initial="lerobot/pi05_base",
        optimiser=OptimiserConfig(peak=5e-5, end=5e-6, warmup=10_000, ema=0.999),
        batch=256,
    ),
    _TINY,
    replace(
        _TINY,
        name="pi0_tiny_finetune",
        sources=(SourceConfig("robot", kind="lerobot", name="robot"),),
        optimiser=replace(_TINY.optimiser, peak=1e-3),
        held_out=0.1,
    ),
)
"""By name."""


def get(name: str) -> TrainConfig:
    """The configuration of that name.

    Raises:
        UserError: there is none.
    """
    if name not in CONFIGS:
        raise UserError(f"--config {name}: no such configuration; {hint(name, CONFIGS)}")
    return CONFIGS[name]
