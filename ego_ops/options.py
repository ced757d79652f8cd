"""Options as they come from a command line, against what they should be."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union


def wrong(options: Any) -> str:
    """What is wrong with the first field of a dataclass whose value is not of its annotated type,
    as `name=value: what it must be`; empty where all are right.

    A whole number does for a float; no option may be infinite or NaN. What no command line can
    give (a tracker, say) is not looked at.
    """
    hints = typing.get_type_hints(type(options))
    for one in dataclasses.fields(options):
        value, kind = getattr(options, one.name), hints[one.name]
        if not _fits(value, kind):
            return f"{one.name}={value}: must be {_text(kind)}"
    return ""


def _fits(value: Any, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin is Literal:
        return value in typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(kind))
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    plain = kind in (str, bool, types.NoneType) or origin is Mapping
    return not plain or isinstance(value, origin or kind)


def _text(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_text(one) for one in typing.get_args(kind))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text",
             types.NoneType: "null"}  # fmt: skip
    return names.get(kind) or ("a JSON object" if typing.get_origin(kind) is Mapping else str(kind))
