"""Fields of a configuration, changed by `name=value` texts."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

from ego_ops.errors import UserError, hint
from training.pi0.config import SIZES, Pi0Config

_Config = TypeVar("_Config")


def changed(config: _Config, options: typing.Iterable[str]) -> _Config:
    """A configuration with fields changed.

    Args:
        options: as `field=value`, with dots for what lies inside: `steps=100`,
            `optimiser.peak=1e-4`, `freeze=["vision"]`, `model=small`, `model.depth=6`;
            a source by its name: `sources.bridge.weight=2`. Values are read as JSON where they are.

    Raises:
        UserError: there is no such field, or the value is of another type.
    """
    for option in options:
        path, equals, text = option.partition("=")
        if not equals:
            raise UserError(f"--option {option}: not of the form field=value")
        config = _set(config, path.strip().split("."), text, f"--option {option}")
    return config


def _set(config: Any, path: list[str], text: str, where: str) -> Any:
    """A copy of a dataclass, or of a tuple of sources, with what lies at the path changed."""
    name, rest = path[0], path[1:]
    if isinstance(config, tuple):
        names = [source.name or source.kind for source in config]
        at = names.index(_known(name, names, where))
        if not rest:
            raise UserError(f"{where}: name a field of the source, as sources.{name}.weight=2")
        return (*config[:at], _set(config[at], rest, text, where), *config[at + 1 :])
    names = [field.name for field in dataclasses.fields(config)]
    before = getattr(config, _known(name, names, where))
    kind = typing.get_type_hints(type(config))[name]
    if kind is Pi0Config and not rest:
        return dataclasses.replace(config, **{name: SIZES[_known(text, list(SIZES), where)]})
    inside = dataclasses.is_dataclass(before) or name == "sources"
    if inside != bool(rest):
        what = "name a field of it" if inside else "it has no fields"
        raise UserError(f"{where}: {name}: {what}")
    value = _set(before, rest, text, where) if rest else _value(text, kind, where)
    return dataclasses.replace(config, **{name: value})


def _known(name: str, names: list[str], where: str) -> str:
    if name in names:
        return name
    raise UserError(f"{where}: no such field as {name}; {hint(name, names)}")


def _value(text: str, kind: Any, where: str) -> Any:
    try:
        readings = [json.loads(text), text]
    except ValueError:
        readings = [text]
    for reading in readings:
        try:
            return _fitted(reading, kind)
        except TypeError:
            continue
    raise UserError(f"{where}: the value must be {_said(kind)}")


def _fitted(value: Any, kind: Any) -> Any:
    """The value as that type. Raises TypeError where it is of another."""
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        for one in arguments:
            try:
                return _fitted(value, one)
            except TypeError:
                continue
    elif typing.get_origin(kind) is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_fitted(one, each) for one, each in zip(value, kinds, strict=True))
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif kind is type(value) or (kind is types.NoneType and value is None):
        return value
    raise TypeError(kind)


def _said(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
