"""A journal of an episode: what is in it survives the process that writes it.

    file      a magic, then entries
    entry     length, CRC-32 (4 bytes each, little-endian), then so many bytes: a JSON line, and
              what does not fit into one (a JPEG for each camera, of an observation)

Each entry is handed to the kernel as it is made, by a thread of the journal's own: who writes it is
never kept waiting, and a process that is killed has lost the entries that were still in its queue,
at a control rate the last one. An entry that is cut off ends the journal. When the disk is full the
journal ends, with a line in the log: the robot goes on.
"""

from __future__ import annotations

import io
import json
import logging
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.storage_errors import unreadable, unwritable
from robot.robot import Observation

_LOG = logging.getLogger("robot.recording")
_MAGIC = b"egoscaler journal 1\n"
_HEAD = struct.Struct("<II")
_MOST = 1 << 26
"""Bytes of an entry; a length beyond it is none."""
_WAITING, _QUALITY = 3000, 95
_JOIN_S = 10.0


class Entry(NamedTuple):
    """One thing that was written."""

    kind: str
    """`head`, `tick` or `observation`."""
    values: Mapping[str, Any]
    pictures: Sequence[bytes] = ()
    """JPEGs."""


class Journal:
    """Writes one. Its methods return at once, but for `close`.

    Args:
        head: what is said of the episode: plain numbers, texts and lists of them.

    Raises:
        UserError: the file cannot be begun, or is there.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]):
        self.path = path
        self.problem = ""
        """Why nothing is written any more; empty while all is well."""
        self.lost = 0
        """Entries that were not written, since the disk was too slow or full."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: io.RawIOBase = open(path, "xb", buffering=0)  # noqa: SIM115 - kept open
            self._file.write(_MAGIC + _packed("head", head))
        except OSError as error:
            raise unwritable(str(path), error) from error
        self._queue = SimpleQueue[tuple[str, Mapping[str, Any], Sequence[NDArray]] | None]()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def add(
        self, kind: str, values: Mapping[str, Any], pictures: Sequence[NDArray[np.uint8]] = ()
    ) -> None:
        """Write an entry soon. Pictures (H, W, 3), which must not be changed any more, are kept as
        JPEGs."""
        if self.problem or self._queue.qsize() >= _WAITING:
            self.lost += 1
        else:
            self._queue.put((kind, values, pictures))

    def observe(self, seen: Observation) -> None:
        """Write an observation."""
        values = {
            "time": seen.time,
            "state": np.asarray(seen.state).tolist(),
            "position": np.asarray(seen.position).tolist(),
            "cameras": list(seen.images),
        }
        self.add("observation", values, list(seen.images.values()))

    def close(self) -> None:
        """Returns when all is written."""
        self._queue.put(None)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while (one := self._queue.get()) is not None:
            kind, values, pictures = one
            if self.problem:
                self.lost += 1
                continue
            try:
                data = _packed(kind, values, [_jpeg(one) for one in pictures])
                written = self._file.write(data) or 0
                if written < len(data):  # a disk that fills up takes a part
                    raise OSError(28, "No space left on device")
            except OSError as error:
                self.problem = str(unwritable(str(self.path), error))
                _LOG.error("recording has ended, the robot goes on: %s", self.problem)
        self._file.close()


def entries(path: Path) -> Iterator[Entry]:
    """What a journal has, to the first entry that is not whole.

    Raises:
        UserError: it cannot be read, or is no journal.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise UserError(f"{path}: no journal of a robot's episode")
            while (entry := _next(file)) is not None:
                yield entry
    except OSError as error:
        raise unreadable(str(path), error) from error


def _packed(kind: str, values: Mapping[str, Any], pictures: Sequence[bytes] = ()) -> bytes:
    said = {"kind": kind, "sizes": [len(one) for one in pictures], **values}
    body = json.dumps(said).encode() + b"\n" + b"".join(pictures)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _next(file: Any) -> Entry | None:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, check = _HEAD.unpack(head)
    if length > _MOST:
        return None
    body = file.read(length)
    if len(body) < length or zlib.crc32(body) != check:
        return None
    line, _, rest = body.partition(b"\n")
    values = json.loads(line)
    ends = np.cumsum([0, *values.pop("sizes")]).tolist()
    pictures = [rest[a:b] for a, b in pairwise(ends)]
    return Entry(values.pop("kind"), values, pictures)
