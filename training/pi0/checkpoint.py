"""π0's weights in the files that openpi and LeRobot write and read, and PaliGemma's to begin with.

Nothing is taken on trust: each tensor that the model needs must be there with the right shape, and
nothing else but what `_ignored` names, or none is loaded. Weights are fp32 in memory whatever the
file has.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from ego_ops.errors import UserError
from ego_ops.storage_errors import unwritable
from training.pi0 import stored_names
from training.pi0.config import Pi0Config
from training.pi0.mismatch import Mismatch, advice
from training.pi0.model import Pi0
from training.pi0.stored_names import EMBEDDING, EMBEDDING_TRAINED, EXPERT_VOCABULARY, Names
from training.pi0.tensor_files import FILE, TensorFiles, find

_SPARE_WORDS = 64
"""Rows that PaliGemma's embedding has in transformers' files after those of its vocabulary."""
_STATISTICS = ("normalize_", "unnormalize_")
"""Beginnings of names under which LeRobot's first releases kept a data set's statistics."""


def load(model: Pi0, place: str | Path) -> None:
    """Load a π0: openpi's (PyTorch) or LeRobot's file, or one that `save` wrote.

    Args:
        model: on any device; its parameters may be sharded (DTensor), each then takes its share.
        place: a safetensors file, a folder with one or with several and their index, or a name on
            the hub.

    Raises:
        UserError: there is no such file, it is damaged, or is not this model's: what is missing,
            left over or of another shape is listed. The model is then as it was, unless the cause
            is a number that is not finite.
    """
    _fill(model, stored_names.pi0(model.config), _Source.of(place))


def load_paligemma(model: Pi0, place: str | Path) -> None:
    """Load PaliGemma into pictures, embedding and language model; the rest stays as it is.

    Args and errors: as `load`. The files are those of transformers'
    `PaliGemmaForConditionalGeneration`, of whichever release.
    """
    _fill(model, stored_names.paligemma(model.config), _Source.of(place))


def load_initial(model: Pi0, place: str | Path) -> str:
    """Load what is there: `pi0` or `paligemma`, which is returned. As `load` otherwise."""
    source = _Source.of(place)
    kind = "pi0" if any(name.startswith("action_") for name in source.stored) else "paligemma"
    _fill(model, getattr(stored_names, kind)(model.config), source)
    return kind


def save(
    model: Pi0,
    path: str | Path,
    dtype: torch.dtype | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write the 777 tensors that openpi and LeRobot load, of which the expert's unused `lm_head`
    is zeros.

    The file is there whole or not at all; where there was one, it is replaced in one step. Memory:
    a copy of the weights if their type or device is another, none otherwise.

    Args:
        path: a `.safetensors` file, or a folder in which to write `model.safetensors`.
        dtype: of the file; that of the weights if not given.
        weights: to write in place of the model's, by the names of its parameters: their moving
            mean, or the whole ones of a sharded model.

    Returns:
        The file.

    Raises:
        UserError: the file system refuses.
    """
    given = model.state_dict() if weights is None else weights
    tensors = {
        name: value.to("cpu", dtype).contiguous() for name, value in stored(model.config, given)
    }
    target = Path(path)
    target = target if target.suffix == ".safetensors" else target / FILE
    aside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, aside, metadata={"format": "pt"})
            _sync(aside)
            aside.chmod(0o666 & ~_umask())  # safetensors makes its files private
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        _sync(target.parent)
    except (OSError, SafetensorError) as error:
        raise unwritable(str(target), error) from error
    return target


def stored(config: Pi0Config, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The 777 tensors of a model's weights, with openpi's names: views of them.

    Raises:
        ValueError: the weights are not exactly those of the model.
    """
    names = stored_names.pi0(config)
    if weights.keys() != names.keys():
        raise ValueError(f"not the parameters of a π0: {sorted(weights.keys() ^ names.keys())}")
    for name, parts in names.items():
        value = weights[name].detach()
        yield from zip(
            parts,
            value.split(list(stored_names.rows(config, name, len(value), len(parts)))),
            strict=True,
        )
    like = weights["embedding.weight"]
    yield EXPERT_VOCABULARY, torch.zeros(config.vocabulary, config.expert.width, dtype=like.dtype)


class _Source(NamedTuple):
    place: str
    files: TensorFiles
    stored: dict[str, str]
    """Names in the files, by their canonical ones."""

    @classmethod
    def of(cls, place: str | Path) -> _Source:
        files = TensorFiles(find(str(place)))
        stored: dict[str, str] = {}
        for name in files:
            usual = stored_names.canonical(name)
            # A second tensor of one meaning has no place: it is then left over.
            stored[f"{name} besides {stored[usual]}" if usual in stored else usual] = name
        if EMBEDDING_TRAINED in stored:
            # Where both are there LeRobot looks words up in this one, and trains it.
            stored[EMBEDDING] = stored.pop(EMBEDDING_TRAINED)
        return cls(str(place), files, stored)


def _fill(model: Pi0, names: Names, source: _Source) -> None:
    """Put a source's tensors into the parameters that `names` has."""
    parameters = dict(model.named_parameters())
    _check(model.config, {name: parameters[name] for name in names}, names, source)
    with torch.no_grad():
        for name, parts in names.items():
            read = [source.files.read(source.stored[part]) for part in parts]
            value = read[0] if len(read) == 1 else torch.cat(read)
            _put(value[: parameters[name].shape[0]], parameters[name])


def _put(value: Tensor, parameter: Tensor) -> None:
    if isinstance(parameter, DTensor):
        # Every process reads the files, so none has to send anything.
        value = value.to(parameter.device, parameter.dtype)
        value = distribute_tensor(
            value, parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    parameter.copy_(value)


def _check(
    config: Pi0Config, parameters: Mapping[str, Tensor], names: Names, source: _Source
) -> None:
    """Raise unless the source has exactly what the parameters need."""
    found = Mismatch()
    wanted = {part for parts in names.values() for part in parts}
    found.left_over = [name for name in source.stored if name not in wanted and not _ignored(name)]
    for name, parameter in parameters.items():
        parts = names[name]
        counts = stored_names.rows(config, name, parameter.shape[0], len(parts))
        for part, count in zip(parts, counts, strict=True):
            if part not in source.stored:
                found.missing.append(part)
                continue
            shape, need = source.files.shape(source.stored[part]), (count, *parameter.shape[1:])
            spare = shape[0] - count if part == EMBEDDING and shape else 0
            if shape[1:] != need[1:] or not (shape == need or 0 < spare <= _SPARE_WORDS):
                found.misshapen.append((part, shape, need))
    if found:
        raise UserError(f"{source.place}: not the weights of this model: {found}{advice(found)}")


def _ignored(name: str) -> bool:
    """Whether a tensor of a file is none of the model's weights, and no sign of another model."""
    return name in (EXPERT_VOCABULARY, EMBEDDING) or name.startswith(_STATISTICS)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
