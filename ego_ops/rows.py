"""The Parquet schema of a shard: one row for every clip, whatever became of it.

A trajectory has T steps and lives in the camera frame of its first step (OpenCV axes, metres);
quaternions are scalar-last. Where `status` is not `ok`, every column of a trajectory is null.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops.check import SHAPES
from ego_ops.clip import Clip
from ego_ops.geometry.actions import IDENTITY, actions
from ego_ops.pipeline import Extraction
from ego_ops.quality import SCORES
from ego_ops.verdict import Verdict

VERSION = 1


def _steps(width: int) -> pa.DataType:
    return pa.list_(pa.list_(pa.float32(), width))


_CLIP = {
    "clip_id": pa.string(),  # 16 hexadecimal digits
    "corpus": pa.string(),
    "corpus_version": pa.string(),
    "video_uid": pa.string(),
    "video_path": pa.string(),  # relative to the corpus's folder
    "narration": pa.string(),
    "verb": pa.string(),
    "object": pa.string(),
    "t_start": pa.float64(),  # seconds from the start of the video
    "t_end": pa.float64(),
}
_OUTCOME = {
    "status": pa.string(),  # ok, rejected or failed
    "reason": pa.string(),  # of a rejection, else null
    "error_class": pa.string(),  # of a failure, else null
    "detail": pa.string(),  # one line for a person, null where ok
    "attempt": pa.int32(),  # 1 for the first
}
_TRAJECTORY = {
    "fps": pa.float32(),  # steps per second
    "timestamps": pa.list_(pa.float64()),  # T seconds from the start of the video
    "position": _steps(3),  # T_first_object
    "rotation": _steps(4),  # T_first_object
    "camera_position": _steps(3),  # T_first_camera
    "camera_rotation": _steps(4),  # T_first_camera
    "action": _steps(9),  # see ego_ops.geometry.actions
    "visible": pa.list_(pa.bool_()),  # T: observed at that step, not bridged over
    "intrinsics": pa.list_(pa.float32(), 4),  # fx, fy, cx, cy, pixels; lens undone
    "image_size": pa.list_(pa.int32(), 2),  # width, height of the upright video
    "frames": pa.list_(pa.binary()),  # T JPEGs, 224 x 224
}
_QUALITY = {name: pa.float32() for name in SCORES}  # null where the method has no such score
_ORIGIN = {
    "config_hash": pa.string(),
    "code_version": pa.string(),
    "worker": pa.string(),  # host/process
    "seconds_perceive": pa.float32(),
    "seconds_solve": pa.float32(),
}

SCHEMA = pa.schema(
    list({**_CLIP, **_OUTCOME, **_TRAJECTORY, **_QUALITY, **_ORIGIN}.items()),
    metadata={"egoscaler_rows": str(VERSION)},
)
PROVENANCE = ("attempt", "worker", "seconds_perceive", "seconds_solve")
"""Columns that may differ between two runs of the same configuration; no other may."""


_COMPRESSION = {**dict.fromkeys(SCHEMA.names, "zstd"), "frames": "none"}  # JPEGs do not shrink


@dataclass(frozen=True)
class Row:
    """What became of one clip, and who did it."""

    clip: Clip
    attempt: int
    outcome: Extraction | Verdict
    worker: str
    seconds_perceive: float
    seconds_solve: float


def table(rows: Sequence[Row], config_hash: str, code_version: str) -> pa.Table:
    """One row or more as a table of `SCHEMA`. Every `Extraction` is sound: see `ego_ops.check`."""
    found = [row.outcome if isinstance(row.outcome, Extraction) else None for row in rows]
    columns: dict[str, Any] = {name: [getattr(row.clip, name) for row in rows] for name in _CLIP}
    columns |= _outcomes(rows)
    columns |= _trajectories(found)
    columns |= {name: [_score(one, name) for one in found] for name in SCORES}
    columns |= {
        "config_hash": [config_hash] * len(rows),
        "code_version": [code_version] * len(rows),
    }
    for name in ("worker", "seconds_perceive", "seconds_solve"):
        columns[name] = [getattr(row, name) for row in rows]
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values, SCHEMA.field(name).type)
        for name, values in ((name, columns[name]) for name in SCHEMA.names)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def parquet(rows: pa.Table) -> bytes:
    """A table as the bytes of one shard file: one row group, so that a reader seeks once."""
    sink = io.BytesIO()
    texts = [name for name in SCHEMA.names if SCHEMA.field(name).type == pa.string()]
    pq.write_table(
        rows,
        sink,
        row_group_size=len(rows),
        use_dictionary=texts,
        compression=_COMPRESSION,
        write_statistics=["clip_id"],
    )
    return sink.getvalue()


def _outcomes(rows: Sequence[Row]) -> dict[str, list]:
    columns: dict[str, list] = {name: [] for name in _OUTCOME}
    for row in rows:
        end = row.outcome if isinstance(row.outcome, Verdict) else None
        columns["status"].append(end.status if end else "ok")
        columns["reason"].append(end.label if end and end.status == "rejected" else None)
        columns["error_class"].append(end.label if end and end.status == "failed" else None)
        columns["detail"].append(end.detail if end else None)
        columns["attempt"].append(row.attempt)
    return columns


def _trajectories(found: Sequence[Extraction | None]) -> dict[str, Any]:
    def each(get: Callable[[Extraction], Any]) -> list:
        return [None if one is None else get(one) for one in found]

    columns: dict[str, Any] = {
        name: _ragged(each(lambda one, name=name: np.asarray(getattr(one, name))), name)  # type: ignore[misc]
        for name in SHAPES
        if name != "intrinsics"
    }
    columns["action"] = _ragged(_actions(found), "action")
    columns["fps"] = each(lambda one: one.fps)
    columns["intrinsics"] = each(lambda one: np.asarray(one.intrinsics, np.float64).tolist())
    columns["image_size"] = each(lambda one: [int(n) for n in one.image_size])
    columns["frames"] = each(lambda one: one.frames)
    return columns


def _actions(found: Sequence[Extraction | None]) -> list[NDArray | None]:
    """The actions of every trajectory, all computed in one call."""
    some = [one for one in found if one is not None]
    if not some:
        return [None] * len(found)
    steps = actions(
        np.concatenate([one.position for one in some]),
        np.concatenate([one.rotation for one in some]),
    )
    ends = np.cumsum([len(one.position) for one in some])
    steps[ends - 1] = IDENTITY  # a last step led into the next trajectory's first
    each = iter(np.split(steps, ends[:-1]))
    return [None if one is None else next(each) for one in found]


def _ragged(values: Sequence[NDArray | None], name: str) -> pa.Array:
    """Arrays of different lengths as one list column, without going through Python objects."""
    kind = SCHEMA.field(name).type
    lengths = [0 if value is None else len(value) for value in values]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = np.concatenate([np.empty(0), *(v.reshape(-1) for v in values if v is not None)])
    inner = kind.value_type
    if pa.types.is_fixed_size_list(inner):
        numbers = pa.array(flat.astype(np.float32))
        items = pa.FixedSizeListArray.from_arrays(numbers, inner.list_size)
    else:
        items = pa.array(flat.astype(inner.to_pandas_dtype()))
    missing = pa.array([value is None for value in values])
    return pa.ListArray.from_arrays(offsets, items, type=kind, mask=missing)


def _score(result: Extraction | None, name: str) -> float | None:
    value = None if result is None else result.quality.get(name)
    return float(value) if value is not None and math.isfinite(value) else None
