"""Arrays, scalars and pictures inside of a message: what of them is believed."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_KINDS = "biufSU"
_KIND = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,4})")
_MOST_AXES, _MOST_EMPTY = 8, 1 << 16
_TAKES = {"b": bool, "i": int, "u": int, "f": (int, float), "S": bytes, "U": str}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""JPEG's markers of a frame's header, which says how large the picture is."""
_MOST_MARKERS = 64
_BARE = {0x01, *range(0xD0, 0xD9)}
"""Markers that nothing belongs to."""


class EncodingError(ValueError):
    """Bytes that are no message, or one of more than is allowed."""


def plain(value: object) -> object:
    """An array or scalar of numpy's as a map, for msgpack.

    Raises:
        TypeError: the protocol has no form for it.
    """
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{type(value).__name__} has no form in the protocol")
    if value.dtype.kind not in _KINDS:
        raise TypeError(f"arrays of {value.dtype} are not allowed")
    kind = {b"dtype": value.dtype.str}
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), **kind, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(), **kind}


def array(data: object, dtype: object, shape: object) -> Array:
    """An array over some bytes, read-only; a copy of them where they are not aligned.

    Raises:
        EncodingError: its parts are not of the form, or do not agree.
    """
    kind = _kind(dtype)
    if not isinstance(data, memoryview):
        raise EncodingError("an array's data is not binary")
    if not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise EncodingError(f"an array's shape is a list of at most {_MOST_AXES} numbers")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise EncodingError("an array's shape is of whole numbers, 0 or more")
    if math.prod(shape) * kind.itemsize != len(data):
        raise EncodingError(f"an array of {kind.str} in shape {shape[:8]} has {len(data)} bytes")
    if not len(data) and max(shape, default=0) > _MOST_EMPTY:
        raise EncodingError(f"an empty array in shape {shape}")
    found: Array = np.ndarray(shape, kind, data)
    if kind.kind == "b" and (found.view(np.uint8) > 1).any():
        raise EncodingError("truth values other than 0 and 1")
    if kind.kind == "U":
        _check_text(found)
    if not found.flags.aligned:
        found = found.copy()
        found.flags.writeable = False
    return found


def scalar(value: object, dtype: object) -> Any:
    """A scalar of numpy's.

    Raises:
        EncodingError: its parts are not of the form, or do not agree.
    """
    kind = _kind(dtype)
    takes: Any = _TAKES[kind.kind]
    if not isinstance(value, takes) or (isinstance(value, bool) and kind.kind != "b"):
        raise EncodingError(f"a scalar of {kind.str} is no {type(value).__name__}")
    try:
        with np.errstate(over="ignore"):  # to infinity: whoever reads it looks
            return kind.type(value)
    except (OverflowError, ValueError):
        raise EncodingError(f"a scalar beyond {kind.str}") from None


def jpeg_pixels(data: memoryview) -> int:
    """How many pixels a JPEG says that it has; nothing of the picture is decoded.

    Raises:
        EncodingError: it does not begin as a JPEG.
    """
    at = 2 if bytes(data[:2]) == b"\xff\xd8" else len(data)
    for _ in range(_MOST_MARKERS):
        if at + 9 > len(data) or data[at] != 0xFF:
            break
        mark = data[at + 1]
        if mark in _FRAMES:
            height, width = (int.from_bytes(data[at + n : at + n + 2], "big") for n in (5, 7))
            return height * width
        if mark == 0xFF:  # any number of these may stand before a marker
            at += 1
        elif mark in _BARE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise EncodingError("a picture that is no JPEG")


def _check_text(found: Array) -> None:
    """numpy makes no text of other numbers, but only says so when it is asked for."""
    codes = found.reshape(-1).view(found.dtype.str[0] + "u4")
    if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
        raise EncodingError("an array of text that is not Unicode")


def _kind(dtype: object) -> np.dtype:
    if not isinstance(dtype, str) or len(dtype) > 8:
        raise EncodingError("an array's kind is text, like '<f4'")
    return _known(dtype)


@lru_cache(256)
def _known(dtype: str) -> np.dtype:
    if not _KIND.fullmatch(dtype):
        raise EncodingError(f"arrays of {dtype!r} are not allowed")
    return np.dtype(dtype)
