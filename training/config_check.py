"""Whether the numbers and words of a configuration are ones that training can use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from ego_ops.errors import UserError, hint
from training.config import SourceConfig, TrainConfig


class _Range(NamedTuple):
    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = True

    def has(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        if math.isinf(self.high):
            return f"{low} and finite" if self.open_high else low
        return f"{low} and {'less than' if self.open_high else 'at most'} {self.high:g}"


_SMOOTHEST = 99
_COUNT, _NATURAL = _Range(1), _Range(0)
_POSITIVE = _Range(0, open_low=True)

_RANGES = {
    "steps": _COUNT,
    "batch": _COUNT,
    "accumulate": _COUNT,
    "held_out": _Range(0, 1),
    "seed": _Range(0, 2**63),
    "lora": _Range(1, 1024, open_high=False),
    "lora_alpha": _POSITIVE,
    "log_every": _COUNT,
    "save_every": _COUNT,
    "keep": _COUNT,
    "keep_every": _COUNT,
    "validate_every": _COUNT,
    "validate_samples": _COUNT,
    "optimiser.peak": _POSITIVE,
    "optimiser.end": _NATURAL,
    "optimiser.warmup": _NATURAL,
    "optimiser.decay": _COUNT,
    "optimiser.betas": _Range(0, 1),
    "optimiser.epsilon": _POSITIVE,
    "optimiser.weight_decay": _NATURAL,
    "optimiser.clip": _Range(0, open_low=True, open_high=False),  # infinite: none is clipped
    "optimiser.ema": _Range(0, 1),
    **{
        f"model.{name}": _COUNT
        for name in (
            *("depth", "heads", "kv_heads", "head_size", "vocabulary", "text_tokens"),
            *("action_size", "horizon", "language.width", "language.mlp", "expert.width"),
            *("expert.mlp", "vision.width", "vision.depth", "vision.mlp", "vision.heads"),
            *("vision.patch", "vision.image"),
        )
    },
}

_WORDS = {
    "loss": ("real", "padded"),
    "precision": ("bf16", "fp32"),
    "parallel": ("fsdp", "ddp"),
    "recompute": ("none", "selective", "full"),
    "freeze": ("vision", "language", "expert"),
}


def check(config: TrainConfig) -> None:
    """See that a configuration makes sense, before anything is done with it.

    Raises:
        UserError: a field has a value that training cannot use.
    """
    for name, within in _RANGES.items():
        for value in _values(config, name):
            _check_number(name, value, within)
    for name, words in _WORDS.items():
        for value in _values(config, name):
            _check_word(name, value, words)
    if set(config.freeze) == set(_WORDS["freeze"]):
        raise UserError("freeze: all parts are frozen, nothing is left to train; leave one out")
    _check_sizes(config)
    for source in config.sources:
        _check_source(source)


def _values(config: Any, name: str) -> Iterator[Any]:
    """What a dotted name has: each element of a tuple, nothing for None."""
    for part in name.split("."):
        config = getattr(config, part)
    if isinstance(config, tuple):
        yield from config
    elif config is not None:
        yield config


def _check_number(name: str, value: float, within: _Range) -> None:
    if not within.has(value):
        raise UserError(f"{name} {value}: must be {within}")


def _check_word(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise UserError(f"{name} {value}: no such choice; {hint(value, words)}")


def _check_sizes(config: TrainConfig) -> None:
    model, vision = config.model, config.model.vision
    parts = (
        ("model.heads", model.heads, "model.kv_heads", model.kv_heads),
        ("model.head_size", model.head_size, "2", 2),
        ("model.expert.width", model.expert.width, "2", 2),
        ("model.vision.width", vision.width, "model.vision.heads", vision.heads),
        ("model.vision.image", vision.image, "model.vision.patch", vision.patch),
    )
    for name, value, divisor, by in parts:
        if value % by:
            by_what = divisor if divisor == str(by) else f"{divisor} {by}"
            raise UserError(f"{name} {value}: must be a multiple of {by_what}")


def _check_source(source: SourceConfig) -> None:
    where = f"sources.{source.name or source.kind}"
    _check_word(f"{where}.kind", source.kind, ("shards", "lerobot"))
    _check_word(f"{where}.normalise", source.normalise, ("mean_std", "quantile"))
    _check_number(f"{where}.weight", source.weight, _POSITIVE)
    if source.smooth % 2 == 0 or not 1 <= source.smooth <= _SMOOTHEST:
        raise UserError(
            f"{where}.smooth {source.smooth}: must be an odd number of steps, 1 to {_SMOOTHEST}"
        )
    if "/" in source.name or source.name.startswith("."):
        raise UserError(f"{where}: {source.name!r} names a file: no '/' or '.' at its beginning")
