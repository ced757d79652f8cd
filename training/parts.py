"""Parts of a batch, of its loss, and of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import TypeVar

from torch import Tensor
from torch.distributed.tensor import DTensor

from training.batch import Batch, Observation

_Tensors = TypeVar("_Tensors", Batch, Observation)


def split(batch: Batch, parts: int) -> Iterator[Batch]:
    """A batch in that many parts, or one a sample where it has fewer."""
    size = math.ceil(len(batch.actions) / parts)
    for begin in range(0, len(batch.actions), size):
        yield _each(batch, lambda tensor: tensor[begin : begin + size])  # noqa: B023


def pinned(batch: Batch) -> Batch:
    """In memory from which the GPU copies by itself."""
    return _each(batch, Tensor.pin_memory)


def _each(batch: _Tensors, change: Callable[[Tensor], Tensor]) -> _Tensors:
    """A batch, or observation, with each of its tensors changed."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    for name, value in values.items():
        if isinstance(value, Tensor):
            values[name] = change(value)
        elif isinstance(value, Observation):
            values[name] = _each(value, change)
    return replace(batch, **values)


def summed(errors: Tensor, batch: Batch, kind: str) -> Tensor:
    """The sum of the squared errors that count: see `training.config.TrainConfig.loss`."""
    return errors.sum() if kind == "padded" else (errors * batch.action_mask).sum()


def whole(tensors: Mapping[str, Tensor], wanted: bool) -> dict[str, Tensor]:
    """Tensors put together from all workers' shares, in the CPU's memory; every worker calls it.

    Args:
        wanted: whether this worker wants them; nothing is returned to others.
    """
    found = {}
    for name, tensor in tensors.items():
        value = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if wanted:
            found[name] = value.cpu()
    return found
