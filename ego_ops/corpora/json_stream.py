"""The entries of a JSON file of hundreds of megabytes, one by one."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ego_ops.errors import UserError

CHUNK = 1 << 22
"""Bytes read at a time; of the file no more than this, or one entry, is in memory."""

_INK = re.compile(r"[^ \t\n\r]")
_CLOSE = {"{": "}", "[": "]"}
_AFTER = frozenset(",:]}")
_decode = json.JSONDecoder().raw_decode


def entries(path: str, *wrappers: str) -> Iterator[tuple[str, Any]]:
    """The values of a JSON object with their keys, or those of an array with their places.

    Where the outermost object has a key of `wrappers`, the entries below the first such key are
    meant: `{"videos": {...}}`. Its other entries come as well, if they are objects or arrays and
    stand before it.

    Raises:
        UserError: the file cannot be read, is truncated, or is no JSON object or array.
    """
    try:
        with open(path, "rb") as file:
            yield from _Reader(path, file).outermost(wrappers)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


class _Reader:
    """The text of a file, from where reading has come to."""

    def __init__(self, path: str, file: BinaryIO):
        self.path = path
        self.file = file
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text = ""
        self.at = 0
        self.passed = 0
        """Bytes of the file before `text`."""
        self.ended = False

    def outermost(self, wrappers: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for key, value in self._items(wrappers):
            if key in wrappers and value is None:
                yield from self._items(())
                return
            if isinstance(value, dict | list):
                yield key, value
        if self._peek():
            raise self._wrong("something follows after the end")

    def _items(self, wrappers: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        """Entries of the object or array that starts here. At a key of `wrappers` with an object
        or an array behind it, reading stops in front of that one, and None stands for it."""
        opening = self._take("{[", "an object or an array")
        close, place = _CLOSE[opening], 0
        if self._peek() == close:
            self.at += 1
            return
        while True:
            key = str(place)
            if opening == "{":
                key = self._value()
                if not isinstance(key, str):
                    raise self._wrong(f"a key is {key!r:.40}")
                self._take(":", "a colon")
            if key in wrappers and self._peek() in _CLOSE:
                yield key, None
                return
            yield key, self._value()
            place += 1
            if self._take("," + close, f"a comma or {close}") == close:
                return

    def _peek(self) -> str:
        """The next character that is no blank; empty at the end of the file."""
        while True:
            self.at = _after_blanks(self.text, self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more(CHUNK):
                return ""

    def _take(self, wanted: str, name: str) -> str:
        found = self._peek()
        if not found or found not in wanted:
            raise self._wrong(f"expected {name}")
        self.at += 1
        return found

    def _value(self) -> Any:
        """The value that starts here."""
        self._peek()
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except json.JSONDecodeError as error:
                within = error.pos - self.at
                if not self._more(max(CHUNK, len(self.text) - self.at)):
                    raise self._wrong(error.msg, self.at + within) from None
            except RecursionError:
                raise self._wrong("nested too deeply") from None
            else:
                # What is followed by no delimiter may be a number that is not all read yet.
                length, after = end - self.at, _after_blanks(self.text, end)
                if self.text[after : after + 1] in _AFTER or not self._more(CHUNK):
                    self.at += length
                    return value

    def _more(self, size: int) -> bool:
        """Read on, and forget what is behind; False at the end of the file."""
        if self.ended:
            return False
        self.passed += len(self.text[: self.at].encode())
        self.text, self.at = self.text[self.at :], 0
        data = self.file.read(size)
        self.ended = not data
        if self.passed == 0 and not self.text and data.startswith(codecs.BOM_UTF8):
            self.passed = len(codecs.BOM_UTF8)
        try:
            self.text += self.decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            raise self._wrong(f"not UTF-8 ({error.reason})", len(self.text)) from None
        return not self.ended

    def _wrong(self, what: str, at: int | None = None) -> UserError:
        at = self.at if at is None else at
        byte = self.passed + len(self.text[:at].encode())
        end = ", which is its end" if self.ended and at >= len(self.text.rstrip()) else ""
        return UserError(
            f"{self.path}: not JSON at byte {byte}{end} ({what}); "
            "truncated or not the file meant: download it again"
        )


def _after_blanks(text: str, at: int) -> int:
    found = _INK.search(text, at)
    return found.start() if found else len(text)
