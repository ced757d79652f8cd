"""Aria's semi-dense points: static points of the world, measured over a whole recording."""

from __future__ import annotations

import gzip
import os
import zlib
from functools import lru_cache

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute
from pyarrow import csv as arrow_csv

from ego_ops.corpora.mps_lines import reading
from ego_ops.errors import AnnotationError, MissingFileError

MAX_INVERSE_DISTANCE_STD = 0.001
MAX_DISTANCE_STD = 0.05
"""1/m and m: the defaults of `filter_points_from_confidence` in Project Aria Tools."""
CELL = 0.01
"""Metres: of points in one cell of this size one is kept."""
MAX_POINTS = 40_000
PLACE = ("px_world", "py_world", "pz_world")
DAMAGED = (pa.ArrowInvalid, pa.ArrowKeyError, EOFError, gzip.BadGzipFile, zlib.error)


@lru_cache(maxsize=8)
def landmarks(folder: str, graph_uid: str | None = None) -> NDArray[np.float64] | None:
    """(N, 3) well-measured points of the world, metres, `MAX_POINTS` at most; None where
    `semidense_points.csv.gz` is not there or holds none.

    Those of the last few folders are remembered.

    Args:
        graph_uid: points of this world frame only; None for all.

    Raises:
        StorageError: the file cannot be read.
        AnnotationError: it lacks a column, or is damaged.
    """
    path = os.path.join(folder, "semidense_points.csv.gz")
    try:
        with reading(path):
            points = _read(path, graph_uid)
    except MissingFileError:
        return None
    if not len(points):
        return None
    points = points[np.isfinite(points).all(axis=1)]
    x, y, z = np.floor(points / CELL).astype(np.int64).T & 0x1FFFFF  # 20 km go round
    _, first = np.unique(x << 42 | y << 21 | z, return_index=True)
    kept = np.random.default_rng(0).permutation(first)[:MAX_POINTS]
    points = points[np.sort(kept)]
    points.setflags(write=False)  # every clip of the recording shares it
    return points if len(points) else None


def _read(path: str, graph_uid: str | None) -> NDArray[np.float64]:
    try:
        return _good_points(path, graph_uid)
    except DAMAGED as error:
        reason = str(error).splitlines()[0]
        raise AnnotationError(f"{path}: not a readable table of points ({reason})") from error


def _good_points(path: str, graph_uid: str | None) -> NDArray[np.float64]:
    """The points that are measured well enough, block by block: a file may hold millions."""
    types: dict[str, pa.DataType] = dict.fromkeys(
        (*PLACE, "inv_dist_std", "dist_std"), pa.float64()
    )
    types["graph_uid"] = pa.string()
    read = arrow_csv.ReadOptions(use_threads=False)  # workers run one to a core
    convert = arrow_csv.ConvertOptions(include_columns=list(types), column_types=types)
    found = [np.empty((0, 3))]
    with fsspec.open(path, "rb") as packed:
        if not packed.read(1):
            return found[0]
    with (
        fsspec.open(path, "rb", compression="gzip") as plain,
        arrow_csv.open_csv(plain, read, convert_options=convert) as blocks,
    ):
        for block in blocks:
            good = compute.and_(
                compute.less_equal(block["inv_dist_std"], MAX_INVERSE_DISTANCE_STD),
                compute.less_equal(block["dist_std"], MAX_DISTANCE_STD),
            )
            if graph_uid is not None:
                good = compute.and_(good, compute.equal(block["graph_uid"], graph_uid))
            rows = block.filter(good)
            found.append(np.stack([rows[n].to_numpy(zero_copy_only=False) for n in PLACE], -1))
    return np.concatenate(found)
