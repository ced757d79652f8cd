"""The lines of a few seconds out of a long text file that is sorted by time.

An hour of an Aria trajectory is a gigabyte; a clip needs some thousand lines of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from ego_ops.errors import AnnotationError, MissingFileError, StorageError, UserError

PROBE = 1 << 14
"""Bytes read to find one line; doubled where that line is longer."""
NEAR = 1 << 17
"""Bytes between bounds at which bisection ends: reading on costs less than another look."""

TIME = "tracking_timestamp_us"


def table(path: str, columns: list[str], lo_us: float, hi_us: float) -> dict[str, NDArray]:
    """The rows of an MPS table around a window of its `tracking_timestamp_us`.

    Args:
        path: local path or fsspec URL of a CSV file with a header, sorted by time.
        columns: the columns wanted beside the time, by name, wherever they stand.

    Returns:
        One array (N,) a column, int64 for the time, float64 for the others, text where the cells
        are no numbers: the rows with `lo_us <= time <= hi_us`, the one before and the one after.

    Raises:
        MissingFileError, StorageError: the file cannot be read.
        AnnotationError: a column is missing, or a row cannot be read.
    """
    with reading(path):
        file = SortedLines(path, header=True)
        names = [name.strip() for name in file.header.decode("utf-8", "replace").split(",")]
        missing = [name for name in (TIME, *columns) if name not in names]
        if missing:
            raise AnnotationError(f"{path}: has no column {missing[0]}")
        place = names.index(TIME)
        body = b"".join(file.around(lambda line: _cell(line, place), lo_us, hi_us))
    if not body.strip():
        return {TIME: np.empty(0, np.int64)} | {name: np.empty(0) for name in columns}
    try:
        rows = arrow_csv.read_csv(
            pa.BufferReader(body),
            arrow_csv.ReadOptions(column_names=names, use_threads=False),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=[TIME, *columns], column_types={TIME: pa.int64()}
            ),
        )
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise AnnotationError(f"{path}: a row cannot be read ({reason})") from error
    return {name: _values(rows[name]) for name in (TIME, *columns)}


class SortedLines:
    """A file of lines that are sorted by a time in each of them."""

    def __init__(self, path: str, header: bool = False):
        try:
            self._fs, self._name = fsspec.url_to_fs(path)
        except (ImportError, ValueError) as error:
            raise UserError(f"{path}: cannot open this kind of URL ({error})") from error
        self._size = int(self._fs.size(self._name) or 0)
        self._first = 0
        self.header = b""
        if header:
            self.header, self._first = self._line_from(0)

    def around(self, time_of: Callable[[bytes], float], lo: float, hi: float) -> list[bytes]:
        """Lines with `lo <= time_of(line) <= hi`, the one before them and the one after.

        Lines without a time (NaN) are left out.
        """
        start, _ = self._bracket(time_of, lambda t: t < lo)
        _, stop = self._bracket(time_of, lambda t: t <= hi)
        lines = self._bytes(start, stop).splitlines(keepends=True)
        times = np.array([time_of(line) for line in lines])
        lines = [line for line, t in zip(lines, times, strict=True) if not math.isnan(t)]
        times = times[~np.isnan(times)]
        # One stretch, so that a time out of order within it is not passed over in silence.
        first = int(np.argmax(times >= lo)) if (times >= lo).any() else len(times)
        last = int(np.flatnonzero(times <= hi)[-1]) if (times <= hi).any() else -1
        return lines[max(0, min(first, last + 1) - 1) : max(first, last + 1) + 1]

    def _bracket(
        self, time_of: Callable[[bytes], float], below: Callable[[float], bool]
    ) -> tuple[int, int]:
        """Line boundaries with every line before the first `below`, as is the first one after it
        (unless it is the file's first), and none from the second on, nor the one before it."""
        start, stop = self._first, self._size
        while stop - start > NEAR:
            offset, end, t = self._timed_line(time_of, (start + stop) // 2, stop)
            if not math.isnan(t) and below(t):
                start = offset
            elif end < stop:
                stop = end
            else:
                break
        return start, stop

    def _timed_line(
        self, time_of: Callable[[bytes], float], offset: int, stop: int
    ) -> tuple[int, int, float]:
        """(start, end, time) of the first line with a time that starts between `offset` and
        `stop`; where there is none, the first line boundary twice and NaN."""
        _, first = self._line_from(offset)  # the rest of a line that began earlier
        start = first
        while start < stop:
            line, end = self._line_from(start)
            t = time_of(line)
            if not math.isnan(t):
                return start, end, t
            start = end
        return first, first, math.nan

    def _line_from(self, offset: int) -> tuple[bytes, int]:
        """The bytes from `offset` to the line's end, and where the next line starts."""
        length = PROBE
        while True:
            chunk = self._bytes(offset, offset + length)
            line, newline, _ = chunk.partition(b"\n")
            if newline or offset + length >= self._size:
                return line, offset + len(line) + len(newline)
            length *= 2

    def _bytes(self, start: int, stop: int) -> bytes:
        stop = min(stop, self._size)
        return self._fs.cat_file(self._name, start=start, end=stop) if stop > start else b""


def floats(path: str, rows: dict[str, NDArray], names: list[str]) -> NDArray[np.float64]:
    """(N, len(names)) numbers of a table's columns.

    Raises:
        AnnotationError: a cell is no number.
    """
    try:
        return np.stack([rows[name].astype(float) for name in names], -1)
    except ValueError as error:
        raise AnnotationError(f"{path}: a cell is no number ({error})") from error


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Errors of a file system as the clip's own, naming the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file") from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise MissingFileError(f"{path}: may not be read ({error.strerror or error})") from error
    except OSError as error:
        raise StorageError(f"{path}: reading failed ({error or type(error).__name__})") from error


def _cell(line: bytes, place: int) -> float:
    """The number in a cell of a line; NaN where there is none."""
    cells = line.split(b",", place + 1)
    try:
        return float(cells[place])
    except (IndexError, ValueError):
        return math.nan


def _values(column: pa.ChunkedArray) -> NDArray:
    kind = column.type
    if pa.types.is_integer(kind) and not column.null_count:
        return column.to_numpy().astype(np.int64)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return column.cast(pa.float64()).to_numpy()
    return np.array([str(cell) for cell in column.to_pylist()])
