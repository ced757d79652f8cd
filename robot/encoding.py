"""Messages of openpi's websocket protocol: MessagePack, with numpy's arrays as maps.

    array     {b"__ndarray__": true, b"data": bytes, b"dtype": "<f4", b"shape": (50, 7)}
    scalar    {b"__npgeneric__": true, b"data": 1.5, b"dtype": "<f4"}
    picture   {b"__jpeg__": true, b"data": bytes}, read as an (H, W, 3) uint8 RGB array

Only numbers, truth values and text are written or read; nothing that could hold objects. What comes
from a network is read by `unpack`, which walks the bytes itself: the C reader of the msgpack
package copies the arrays, and bounds neither how many things a message makes nor how deep they lie.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import cv2

from ego_ops import jpeg
from ego_ops.errors import UserError
from robot import encoding_arrays as arrays
from robot.encoding_arrays import EncodingError, array, scalar

__all__ = ["EncodingError", "Limits", "PicturesError", "pack", "picture", "unpack"]

_ARRAY, _SCALAR, _JPEG, _DATA = b"__ndarray__", b"__npgeneric__", b"__jpeg__", b"data"
_FORMS = {
    _ARRAY: {_ARRAY, _DATA, b"dtype", b"shape"},
    _SCALAR: {_SCALAR, _DATA, b"dtype"},
    _JPEG: {_JPEG, _DATA},
}
_SINGLE = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    kind: struct.Struct(form)
    for kind, form in zip(
        (0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF, 0xD0, 0xD1, 0xD2, 0xD3),
        (">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"),
        strict=True,
    )
}
_LENGTHS = {
    kind: (what, struct.Struct(form))
    for what, kinds in {
        "binary": (0xC4, 0xC5, 0xC6),
        "text": (0xD9, 0xDA, 0xDB),
        "list": (None, 0xDC, 0xDD),
        "map": (None, 0xDE, 0xDF),
    }.items()
    for kind, form in zip(kinds, (">B", ">H", ">I"), strict=True)
    if kind is not None
}


class Limits(NamedTuple):
    """What a message may hold."""

    message_bytes: int = 1 << 26
    items: int = 10_000
    """Values of all kinds, keys and those inside of arrays' maps counted."""
    depth: int = 16
    """Maps and lists within each other."""
    text_bytes: int = 1 << 16
    """Of one piece of text, and of all keys of one map."""
    pixels: int = 1 << 23
    """Of all JPEGs together."""


LIMITS = Limits()


class PicturesError(Exception):
    """A message has JPEGs: they take milliseconds to decode, and are for a thread."""


def pack(message: object) -> bytes:
    """A message as bytes.

    Raises:
        UserError: it holds something that the protocol has no form for.
    """
    try:
        return _msgpack().packb(message, default=arrays.plain)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"cannot be sent to a server: {error}") from error


def picture(data: bytes) -> dict[bytes, Any]:
    """A JPEG file's bytes as what `pack` takes in place of the array."""
    return {_JPEG: True, _DATA: data}


def unpack(data: bytes, limits: Limits = LIMITS, pictures: bool = True) -> Any:
    """The message of some bytes. Its arrays are read-only, and views of them where aligned.

    Args:
        pictures: whether to decode JPEGs.

    Raises:
        EncodingError: they are none, or more than the limits allow.
        PicturesError: there is a JPEG, which is not to be decoded.
    """
    if len(data) > limits.message_bytes:
        raise EncodingError(f"{len(data)} bytes: at most {limits.message_bytes} are taken")
    reader = _Reader(data, limits, pictures)
    try:
        message = reader.value(0)
    except (IndexError, struct.error):
        raise EncodingError("the message ends too soon") from None
    if reader.at != len(data):
        raise EncodingError(f"{len(data) - reader.at} bytes follow the message")
    return message


class _Reader:
    """Walks a message once. IndexError or struct.error: it ends too soon."""

    __slots__ = ("at", "data", "items", "limits", "pictures", "pixels")

    def __init__(self, data: bytes, limits: Limits, pictures: bool):
        self.data, self.limits, self.pictures, self.at = memoryview(data), limits, pictures, 0
        self.items, self.pixels = limits.items, limits.pixels

    def value(self, depth: int) -> Any:
        """The next value. Binary ones are views of the message."""
        self.items -= 1
        if self.items < 0:
            raise EncodingError(f"more than {self.limits.items} values")
        kind = self.data[self.at]
        self.at += 1
        if kind < 0x80:
            return kind
        if kind >= 0xE0:
            return kind - 0x100
        if kind < 0x90:
            return self._map(kind & 0x0F, depth)
        if kind < 0xA0:
            return self._list(kind & 0x0F, depth)
        if kind < 0xC0:
            return self._text(kind & 0x1F)
        if kind in _SINGLE:
            return _SINGLE[kind]
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind not in _LENGTHS:
            raise EncodingError(f"a value of kind 0x{kind:02x} is not allowed")
        what, form = _LENGTHS[kind]
        length = self._number(form)
        if what == "binary":
            return self._take(length)
        if what == "text":
            return self._text(length)
        return self._map(length, depth) if what == "map" else self._list(length, depth)

    def _number(self, form: struct.Struct) -> Any:
        (number,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return number

    def _take(self, length: int) -> memoryview:
        if length > len(self.data) - self.at:
            raise EncodingError("the message ends too soon")
        found = self.data[self.at : self.at + length]
        self.at += length
        return found

    def _text(self, length: int) -> str:
        if length > self.limits.text_bytes:
            raise EncodingError(f"text of {length} bytes: at most {self.limits.text_bytes}")
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError:
            raise EncodingError("text that is not UTF-8") from None

    def _list(self, length: int, depth: int) -> list[Any]:
        self._fits(length, depth)
        return [_whole(self.value(depth + 1)) for _ in range(length)]

    def _map(self, length: int, depth: int) -> Any:
        self._fits(2 * length, depth)
        found: dict[Any, Any] = {}
        for _ in range(length):
            key = _whole(self.value(depth + 1))
            if not isinstance(key, str | bytes) or len(key) > self.limits.text_bytes:
                raise EncodingError("a map's keys are text")
            if key in found:
                raise EncodingError(f"a map has the key {key[:50]!r} twice")
            value = self.value(depth + 1)
            found[key] = value if key == _DATA else _whole(value)
        for mark, keys in _FORMS.items():
            if mark in found:
                return self._formed(mark, found, keys)
        if _DATA in found:
            found[_DATA] = _whole(found[_DATA])
        return found

    def _fits(self, count: int, depth: int) -> None:
        """That many values may follow: it is known before any of them is made."""
        if depth >= self.limits.depth:
            raise EncodingError(f"maps or lists more than {self.limits.depth} deep")
        if count > min(self.items, len(self.data) - self.at):
            raise EncodingError(f"{count} values: more than are allowed, or than there are")

    def _formed(self, mark: bytes, found: dict[Any, Any], keys: set[bytes]) -> Any:
        if found.keys() != keys or found[mark] is not True:
            raise EncodingError(f"a map with {mark.decode()} is not of the protocol's form")
        if mark == _ARRAY:
            return array(found[_DATA], found[b"dtype"], found[b"shape"])
        if mark == _SCALAR:
            return scalar(_whole(found[_DATA]), found[b"dtype"])
        return self._picture(found[_DATA])

    def _picture(self, data: object) -> Any:
        if not isinstance(data, memoryview):
            raise EncodingError("a JPEG's data is not binary")
        if not self.pictures:
            raise PicturesError
        self.pixels -= arrays.jpeg_pixels(data)
        if self.pixels < 0:
            raise EncodingError(f"JPEGs of more than {self.limits.pixels} pixels")
        try:
            image = jpeg.decode(data)
        except cv2.error:
            image = None
        if image is None:
            raise EncodingError("a JPEG that cannot be decoded")
        return image


def _whole(value: Any) -> Any:
    """Bytes in place of a view of them."""
    return bytes(value) if type(value) is memoryview else value


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise UserError("msgpack is missing: pip install 'egoscaler-ray[robot]'") from error
    return msgpack
