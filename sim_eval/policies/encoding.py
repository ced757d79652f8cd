"""Messages of openpi's websocket protocol: MessagePack, with numpy's arrays as maps.

    array     {b"__ndarray__": true, b"data": bytes, b"dtype": "<f4", b"shape": (50, 7)}
    scalar    {b"__npgeneric__": true, b"data": 1.5, b"dtype": "<f4"}

Only arrays of numbers, truth values and text are written or read; nothing that could hold objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ego_ops.errors import UserError

_KINDS = "biufSU"
_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"


def pack(message: object) -> bytes:
    """A message as bytes.

    Raises:
        UserError: it holds something that the protocol has no form for.
    """
    try:
        return _msgpack().packb(message, default=_plain)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"cannot be sent to a server: {error}") from error


def unpack(data: bytes) -> Any:
    """The message of some bytes. Its arrays are views of them, and read-only.

    Raises:
        ValueError: they are none.
    """
    try:
        return _msgpack().unpackb(data, object_hook=_array, strict_map_key=False)
    except (TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        kind = {b"dtype": _allowed(value.dtype).str}
        if isinstance(value, np.ndarray):
            return {_ARRAY: True, b"data": value.tobytes(), **kind, b"shape": value.shape}
        return {_SCALAR: True, b"data": value.item(), **kind}
    raise TypeError(f"{type(value).__name__} has no form in the protocol")


def _array(found: dict[Any, Any]) -> Any:
    if _ARRAY in found:
        kind = _allowed(np.dtype(str(found[b"dtype"])))
        return np.frombuffer(found[b"data"], kind).reshape(found[b"shape"])
    if _SCALAR in found:
        return _allowed(np.dtype(str(found[b"dtype"]))).type(found[b"data"])
    return found


def _allowed(kind: np.dtype) -> np.dtype:
    if kind.kind not in _KINDS:
        raise ValueError(f"arrays of {kind} are not allowed")
    return kind


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise UserError("msgpack is missing: pip install 'egoscaler-ray[eval]'") from error
    return msgpack
