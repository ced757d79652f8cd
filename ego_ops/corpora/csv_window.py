"""A few seconds out of a long CSV file that is sorted by time, without reading the rest of it."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from ego_ops.errors import AnnotationError, MissingFileError

PROBE = 4096
"""Bytes read to learn the time at one place of the file: a few rows."""
FEW = 15
"""Rows looked at in one place."""
NEAR = 1 << 17
"""Bisection ends here: what is left is read in one go, for a read costs more than its bytes."""


def window(path: str, column: str, lo: float, hi: float) -> dict[str, NDArray[np.float64]]:
    """The rows with `lo <= column <= hi` of a CSV file with a header, as one array a column.

    Looks for both ends by bisection on byte offsets, so that an hour of 1 kHz samples costs a few
    dozen small reads. Empty cells and cells that hold no number are NaN; lines with too many or
    too few cells are left out. Whole numbers are exact up to 2^53 (microseconds, not nanoseconds
    since 1970).

    Args:
        path: local path or fsspec URL.
        column: the rows do not decrease in it.

    Returns:
        Every column of the header, all (N,) float64; N is 0 where no row is in the window.

    Raises:
        MissingFileError: the file does not exist or cannot be opened.
        AnnotationError: it is empty, or has no such column.
    """
    file = _File(path, column)
    rows = file.read(file.before(lo), file.after(hi))
    times = rows[column]
    inside = (times >= lo) & (times <= hi)
    return {name: values[inside] for name, values in rows.items()}


class _File:
    """A CSV file that is read in pieces."""

    def __init__(self, path: str, column: str):
        self.path = path
        try:
            self.fs, self.name = fsspec.core.url_to_fs(path)
            self.size = int(self.fs.size(self.name) or 0)
            head = self._bytes(0, 1 << 16)
        except FileNotFoundError as error:
            raise MissingFileError(f"{path}: no such file") from error
        except OSError as error:
            raise MissingFileError(f"{path}: cannot be opened ({error})") from error
        line, newline, _ = head.partition(b"\n")
        self.first = len(line) + len(newline)
        self.columns = _cells(line.removeprefix(b"\xef\xbb\xbf"))
        if column not in self.columns:
            names = ", ".join(self.columns[:8])[:200]
            raise AnnotationError(f"{path}: has no column {column} (its first line: {names})")
        self.place = self.columns.index(column)

    def before(self, value: float) -> int:
        """Where a row starts before which every row lies below `value`."""
        return self._bisect(lambda t: t < value)[0]

    def after(self, value: float) -> int:
        """Where a row starts from which on every row lies above `value`, or the file's end."""
        return self._bisect(lambda t: t <= value)[1]

    def read(self, start: int, stop: int) -> dict[str, NDArray[np.float64]]:
        body = self._bytes(start, stop) if stop > start else b""
        if not body.strip():
            return {name: np.empty(0) for name in self.columns}
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(body),
                arrow_csv.ReadOptions(column_names=self.columns, use_threads=False),
                arrow_csv.ParseOptions(invalid_row_handler=lambda row: "skip"),
            )
        except pa.ArrowInvalid as error:
            what = str(error).splitlines()[0]
            raise AnnotationError(f"{self.name}: not a table ({what})") from error
        return {name: _numbers(table[name]) for name in self.columns}

    def _bisect(self, below: Callable[[float], bool]) -> tuple[int, int]:
        """Starts of rows: all rows before the first are `below`, none from the second on is.

        Looks at the middle one of a few rows, lest a single impossible time lead astray.
        """
        start, stop = self.first, self.size
        while stop - start > NEAR:
            rows = self._rows_after((start + stop) // 2, stop)
            if not rows:
                break  # a stretch without times: read it all
            if below(statistics.median_low(t for _, t in rows)):
                start = rows[0][0]
            else:
                stop = rows[-1][0]
        return start, stop

    def _rows_after(self, offset: int, stop: int) -> list[tuple[int, float]]:
        """Starts and times of a few rows that start after `offset` and before `stop`."""
        length, rows = PROBE, list[tuple[int, float]]()
        while not rows and length < 4 * (stop - offset + PROBE):
            chunk = self._bytes(offset, offset + length)
            at = chunk.find(b"\n") + 1
            while at > 0 and offset + at < stop and len(rows) < FEW:
                end = chunk.find(b"\n", at)
                t = self._time(chunk[at:end]) if end > 0 else math.nan
                if not math.isnan(t):
                    rows.append((offset + at, t))
                at = end + 1
            length *= 4
        return rows

    def _time(self, line: bytes) -> float:
        cells = _cells(line) if b'"' in line else line.split(b",")
        return _number(cells[self.place]) if len(cells) == len(self.columns) else math.nan

    def _bytes(self, start: int, stop: int) -> bytes:
        return self.fs.cat_file(self.name, start=start, end=min(stop, self.size))


def _cells(line: bytes) -> list[str]:
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    try:
        return [cell.strip() for cell in next(csv.reader([text]), [])]
    except csv.Error:  # a damaged line: not the cells that were looked for
        return []


def _number(text: str | bytes | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.cast(pa.float64()).to_numpy()
    if pa.types.is_string(kind):
        return np.array([_number(text) for text in column.to_pylist()])
    return np.full(len(column), np.nan)
