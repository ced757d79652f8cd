"""A minimal writer of VRS, the container of Project Aria's recordings.

The layout is that of `FileFormat.h`, `DescriptionRecord.cpp` and `IndexRecord.cpp` in
github.com/facebookresearch/vrs: a head, one record of tags, the user's records in the order of
time, and their index. Tags of a stream tell how its records are built (`RF:`) and which fields
their blocks have (`DL:`). Nothing is compressed.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

STATE, CONFIGURATION, DATA = 1, 2, 3
"""Types of records."""
_HEAD = struct.Struct("<4s4sQIIqqqQQQ4s4s")
_RECORD = struct.Struct("<IIiIdHBBI")
_STREAM = struct.Struct("<iH")
_ENTRY = struct.Struct("<dIBiH")
_INDEX, _DESCRIPTION = 1, 2
"""Ids of the types of streams that the container keeps for itself."""
_FORMATS = {"uint32_t": "I", "uint64_t": "Q", "int64_t": "q", "double": "d"}
_FOREVER = 1.7976931348623157e308


@dataclass(frozen=True)
class Layout:
    """The fields of a block: numbers first, then strings."""

    numbers: Mapping[str, str]
    """Type of each, a key of `_FORMATS`."""
    strings: Sequence[str] = ()

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return struct.calcsize(self._format)

    @property
    def _format(self) -> str:
        return "<" + "".join(_FORMATS[kind] for kind in self.numbers.values())

    def describe(self) -> str:
        """The JSON of a `DL:` tag."""
        pieces: list[dict[str, Any]] = []
        offset = 0
        for name, kind in self.numbers.items():
            pieces.append({"name": name, "type": f"DataPieceValue<{kind}>", "offset": offset})
            offset += struct.calcsize("<" + _FORMATS[kind])
        for index, name in enumerate(self.strings):
            pieces.append({"name": name, "type": "DataPieceString", "index": index})
        return json.dumps({"data_layout": pieces}, separators=(",", ":"))

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """The block: numbers, place and length of each string, and the strings."""
        block = struct.pack(self._format, *(values[name] for name in self.numbers))
        texts = [str(values[name]).encode() for name in self.strings]
        place = 0
        for text in texts:
            block += struct.pack("<II", place, len(text))
            place += len(text)
        return block + b"".join(texts)


@dataclass(frozen=True)
class Stream:
    """One sensor's records, all of format version 2."""

    type_id: int
    instance: int
    name: str
    flavor: str
    layouts: Mapping[int, tuple[str, Layout]]
    """By type of record, its format's text after `RF:` and the layout of its block."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One record of a stream."""

    stream: Stream
    kind: int
    time: float
    """Seconds."""
    payload: bytes


VERSION = 2
_NAMES = {STATE: "State", CONFIGURATION: "Configuration", DATA: "Data"}


def write(
    path: Path, streams: Sequence[Stream], tags: Mapping[str, str], records: Iterable[Record]
) -> None:
    """Write a file.

    Args:
        tags: of the file.
        records: in the order of their times.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(bytes(_HEAD.size))
        described = _description(streams, tags)
        previous = _put(file, 0, described, _DESCRIPTION, VERSION, _FOREVER, 0, DATA)
        entries = []
        for one in records:
            stream = one.stream
            previous = _put(
                file, previous, one.payload, stream.type_id, VERSION, one.time, stream.instance,
                one.kind,
            )  # fmt: skip
            entries.append(
                _ENTRY.pack(one.time, previous, one.kind, stream.type_id, stream.instance)
            )
        where = file.tell()
        index = struct.pack("<I", len(streams))
        index += b"".join(_STREAM.pack(one.type_id, one.instance) for one in streams)
        index += struct.pack("<I", len(entries)) + b"".join(entries)
        _put(file, previous, index, _INDEX, VERSION, _FOREVER, 0, DATA)
        file.seek(0)
        file.write(
            _HEAD.pack(
                b"Visi", b"onRe", 0x45676F, _HEAD.size, _RECORD.size, where, _HEAD.size, 0, 0, 0,
                0, b"cord", b"VRS1",
            )
        )  # fmt: skip
    os.replace(part, path)


def _put(
    file: IO[bytes], previous: int, payload: bytes, type_id: int, version: int, time: float,
    instance: int, kind: int,
) -> int:  # fmt: skip
    """Write one record; returns its size, which the next one names."""
    size = _RECORD.size + len(payload)
    file.write(_RECORD.pack(size, previous, type_id, version, time, instance, kind, 0, 0))
    file.write(payload)
    return size


def _description(streams: Sequence[Stream], tags: Mapping[str, str]) -> bytes:
    block = struct.pack("<I", len(streams))
    for one in streams:
        own = {"VRS_Original_Recordable_Name": one.name, "VRS_Recordable_Flavor": one.flavor}
        for kind, (form, layout) in one.layouts.items():
            own[f"RF:{_NAMES[kind]}:{VERSION}"] = form
            own[f"DL:{_NAMES[kind]}:{VERSION}:0"] = layout.describe()
        block += _STREAM.pack(one.type_id, one.instance) + _mapping(one.tags) + _mapping(own)
    return block + _mapping(tags)


def _mapping(values: Mapping[str, str]) -> bytes:
    block = struct.pack("<I", len(values))
    for key in sorted(values):
        for text in (key.encode(), values[key].encode()):
            block += struct.pack("<I", len(text)) + text
    return block
