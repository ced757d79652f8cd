"""Weights in safetensors files: found, opened, read one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ego_ops.errors import UserError
from training import hub

FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PATTERNS = [FILE, _INDEX, "model-*-of-*.safetensors"]
_FLOATS = {"F64", "F32", "F16", "BF16"}


class TensorFiles:
    """The tensors of some files. None is read until it is asked for."""

    def __init__(self, files: Iterable[Path]):
        """Open the files.

        Raises:
            UserError: one is missing, damaged or holds something other than floating point numbers.
        """
        self._files: dict[str, tuple[Path, Any]] = {}
        for path in files:
            opened = _open(path)
            for name in opened.keys():  # noqa: SIM118 (not a dict)
                kind = opened.get_slice(name).get_dtype()
                if kind not in _FLOATS:
                    raise UserError(
                        f"{path}: {name} is {kind}, weights are floating point numbers: quantised "
                        "checkpoints cannot be read, name the one it was made from"
                    )
                self._files[name] = path, opened

    def __iter__(self) -> Iterator[str]:
        """Names of the tensors."""
        return iter(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        return tuple(self._files[name][1].get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """One tensor, of the type it is stored in.

        Raises:
            UserError: it has numbers that are not finite.
        """
        path, opened = self._files[name]
        value: Tensor = opened.get_tensor(name)
        # One bad number makes the largest or the smallest bad, and those cost no memory.
        if not torch.stack(value.aminmax()).isfinite().all():
            raise UserError(f"{path}: {name} has numbers that are not finite: its training failed")
        return value


def find(place: str) -> list[Path]:
    """The files with the weights that a file, a folder or a name on the hub stands for.

    Raises:
        UserError: there are none, some are missing, or the hub cannot be reached.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = _in_folder(path)
        if not found:
            raise UserError(f"{path}: no {FILE} in this folder, and no {_INDEX}")
        return found
    if not hub.is_name(place):
        raise UserError(f"{path}: no such file or folder with weights")
    return hub.fetched(
        place, _PATTERNS, lambda at: _in_folder(at) or None, "a folder of its weights"
    )


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        cause = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: not a whole safetensors file ({cause}): copy or download it again"
        ) from error


def _in_folder(folder: Path) -> list[Path]:
    """The file of a folder, or those that its index lists; empty where it has neither."""
    if (folder / FILE).is_file():
        return [folder / FILE]
    index = folder / _INDEX
    if not index.is_file():
        return []
    try:
        files = [folder / name for name in sorted(set(_listed(index)))]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{index}: not an index of weights ({error!r})") from error
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise UserError(
            f"{folder}: {len(absent)} of {len(files)} files of weights are missing "
            f"({', '.join(absent[:10])}): copy or download them"
        )
    return files


def _listed(index: Path) -> Iterable[str]:
    names: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    return names.values()
