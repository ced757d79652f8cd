"""What a reader of shards does with a selection: rows to take, paths to smooth and to clamp."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from ego_ops import shards
from ego_ops.errors import UserError
from ego_ops.storage import Store, store
from ego_ops.storage_errors import failures, unreadable

Floats = NDArray[np.float64]

VERSION = 1
KEY = b"egoscaler_selection"
"""Where a selection's Parquet metadata say, as JSON, what was selected from and how."""
WORKSPACE = ((-2.0, -2.0, 0.0), (2.0, 2.0, 2.5))
"""Corners of the box in the first camera frame, metres, that EgoScaler's code (arXiv 2506.03605)
clamps positions to."""


class Selection:
    """The clips that were selected, in the order of the shards' parts."""

    def __init__(self, shards_url: str, policy: dict, rows: pa.Table):
        """`rows` has `clip_id` and `part` of each selected clip."""
        self.shards = shards_url
        self.policy = policy
        """The limits, by the names of `ego_ops.quality_policy.Policy`."""
        self.rows = rows
        self._ids = np.sort(_ids(rows))

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self) -> Iterator[tuple[str, list[str]]]:
        """As `ego_ops.shards.parts`: each part with selected clips, and their ids."""
        names = self.rows["part"].combine_chunks()
        ends = np.flatnonzero(names[1:].to_numpy(False) != names[:-1].to_numpy(False)) + 1
        for begin, end in zip([0, *ends], [*ends, len(self)], strict=True):
            if end > begin:
                yield names[begin].as_py(), self.rows["clip_id"][begin:end].to_pylist()

    def read(self, columns: Sequence[str] | None = None, verify: bool = False) -> Iterator:
        """As `ego_ops.shards.read`: a table of selected rows for each part that has any."""
        where = store(self.shards)
        for part, ids in self.parts():
            yield shards.read_part(where, part, ids, columns, verify)

    def filter(self, table: pa.Table) -> pa.Table:
        """The rows of `table` whose `clip_id` is selected."""
        ids = _ids(table)
        if not len(self):
            return table.slice(0, 0)
        at = np.minimum(np.searchsorted(self._ids, ids), len(self) - 1)
        return table.filter(pa.array(self._ids[at] == ids))


def selected(path: str, shards_url: str | None = None) -> Selection:
    """Read a selection that `egoscaler curate` has written.

    Args:
        path: the file, or its fsspec URL.
        shards_url: where the shards lie now, if they have moved since.

    Raises:
        UserError: the file cannot be read, or is no selection.
    """
    where, name = split(path)
    try:
        with where.open(name) as source:
            file = pq.ParquetFile(source, pre_buffer=True)
            head = json.loads((file.schema_arrow.metadata or {}).get(KEY, b"{}"))
            if head.get("version") != VERSION:
                raise pa.ArrowInvalid(f"not a selection of version {VERSION}")
            rows = file.read(["clip_id", "part", "selected"], use_threads=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no selection there; run `curate` first") from error
    except (pa.ArrowInvalid, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run `curate` again") from error
    except failures() as error:
        raise unreadable(path, error) from error
    rows = rows.filter(rows["selected"]).drop_columns("selected")
    return Selection(shards_url or head["shards"], head["policy"], rows)


def split(path: str) -> tuple[Store, str]:
    """The store of the folder that a file lies in, and the file's name there."""
    folder, _, name = path.rpartition("/")
    if not name:
        raise UserError(f"{path}: name a file, not a folder")
    return store(folder if "/" in path else "."), name


def smoothed(position: ArrayLike, rotation: ArrayLike, window: int = 5) -> tuple[Floats, Floats]:
    """The mean over `window` steps about each step of a path.

    Towards either end the window narrows evenly, so that the ends stay where they are and an even
    motion stays what it is. The mean of rotations is the one with the least sum of squared
    chordal distances (Markley et al., "Averaging Quaternions", 2007), which no sign of a
    quaternion changes.

    Args:
        position: (T, 3) metres.
        rotation: (T, 4) scalar-last quaternions.
        window: an odd number of steps.

    Returns:
        (T, 3) and (T, 4), each quaternion on the same side as the one before it.

    Raises:
        ValueError: the window is not odd, the shapes do not match, or a number is not finite.
    """
    p, q = np.asarray(position, float), np.asarray(rotation, float)
    if window < 1 or window % 2 == 0:
        raise ValueError(f"a window of {window} steps has no middle: take an odd number")
    if p.ndim != 2 or p.shape[1] != 3 or q.shape != (len(p), 4) or not len(p):
        raise ValueError(f"shapes {p.shape} and {q.shape} are not (T, 3) and (T, 4)")
    if not (np.isfinite(p).all() and np.isfinite(q).all()):
        raise ValueError("a path that is not finite cannot be smoothed")
    weight = _windows(len(p), window)
    q = q / np.linalg.norm(q, axis=1, keepdims=True)
    moment = weight @ (q[:, :, None] * q[:, None]).reshape(-1, 16)
    mean = np.linalg.eigh(moment.reshape(-1, 4, 4))[1][..., -1]
    mean[0] *= np.sign(mean[0] @ q[0]) or 1.0
    mean[1:] *= np.cumprod(np.where((mean[1:] * mean[:-1]).sum(-1) < 0, -1, 1))[:, None]
    return weight @ p, mean


def clamped(position: ArrayLike, workspace: ArrayLike = WORKSPACE) -> Floats:
    """Positions (T, 3) in the first camera frame, moved to the nearest place in the workspace.

    Args:
        workspace: (2, 3) its lowest and highest corner, metres.
    """
    low, high = np.asarray(workspace, float)
    return np.clip(np.asarray(position, float), low, high)


def _windows(steps: int, window: int) -> Floats:
    """(T, T) the weight of step s in the mean about step t."""
    at = np.arange(steps)
    half = np.minimum(np.minimum(at, at[::-1]), window // 2)
    inside = np.abs(at[None] - at[:, None]) <= half[:, None]
    return inside / inside.sum(1, keepdims=True)


def _ids(rows: pa.Table) -> NDArray[np.bytes_]:
    return np.asarray(rows["clip_id"].to_numpy(), "S16")
