"""The commit records of a bucket as one table, and snapshots of them.

    commits/bucket=00042/<first>-<last>-<digest>.json   a record: see `ego_ops.shards`
    snapshots/bucket=00042.arrow                        what many of them said, in one file:
                                                        its SHA-256, then Arrow's file format

A snapshot is a copy that saves reading thousands of small files one by one, and never the truth:
only records that lie in `commits` now count, those that a snapshot lacks are read as they are,
and nothing is ever removed. So it may be old, damaged, absent, or written by two at a time (the
last one stays): that costs time and changes no answer.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ego_ops.storage import Store

log = logging.getLogger(__name__)

STATUSES = ("failed", "rejected", "ok")
"""From the least to the most: what is better wins over what is worse of the same attempt."""
ENOUGH = 8
"""Records that are not worth a snapshot."""

SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),
        "status": pa.int8(),  # index into STATUSES
        "label": pa.string(),
        "attempt": pa.int32(),
        "again": pa.bool_(),
        "corpus": pa.string(),
        "record": pa.int32(),  # index into Records.heads
    }
)


class Head(NamedTuple):
    """What a record says of its part."""

    name: str
    """Of the record's file."""
    part: str
    bytes: int
    run: str
    time: float


@dataclass(frozen=True)
class Records:
    """Some records of one bucket."""

    rows: pa.Table
    """Of `SCHEMA`: one row for every clip of every record."""
    heads: list[Head]
    loose: int = 0
    """How many of them are in no snapshot."""

    def only(self, wanted: Collection[bool]) -> Records:
        """Those whose place in `wanted` is true."""
        keep = np.array(wanted, bool)
        if keep.all():
            return self
        number = np.cumsum(keep) - 1
        of = self.rows["record"].to_numpy()
        rows = self.rows.filter(pa.array(keep[of]))
        renumbered = pa.array(number[of[keep[of]]], pa.int32())
        rows = rows.set_column(SCHEMA.get_field_index("record"), "record", renumbered)
        return Records(rows, [head for head, kept in zip(self.heads, keep, strict=True) if kept])


def read(where: Store, bucket: int, names: Collection[str]) -> Records:
    """The records of these names. Those that are none are left out, with a warning."""
    known = _snapshot(where, bucket) if len(names) > ENOUGH else _EMPTY
    known = known.only([head.name in names for head in known.heads])
    held = {head.name for head in known.heads}
    folder = f"commits/{_folder(bucket)}"
    loose = sorted(name for name in names if name not in held)
    found = where.each(lambda name: _loose(where, f"{folder}/{name}"), loose)
    return _join(known, [(n, one) for n, one in zip(loose, found, strict=True) if one])


def save(where: Store, bucket: int, records: Records) -> None:
    """Take a snapshot of the records, which must be all that the bucket has."""
    heads = json.dumps(records.heads, separators=(",", ":"))
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    table = records.rows.combine_chunks().replace_schema_metadata({"heads": heads})
    with pa.ipc.new_file(sink, table.schema, options=options) as file:
        file.write_table(table)
    data = sink.getvalue().to_pybytes()
    where.write(_path(bucket), hashlib.sha256(data).digest() + data)


def _snapshot(where: Store, bucket: int) -> Records:
    try:
        content = where.read(_path(bucket))
        digest, data = content[:32], memoryview(content)[32:]
        if hashlib.sha256(data).digest() != digest:
            raise ValueError("its digest does not fit")
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        heads = [Head(*one) for one in json.loads(table.schema.metadata[b"heads"])]
        return Records(table.replace_schema_metadata(None).cast(SCHEMA), heads)
    except FileNotFoundError:
        return _EMPTY
    except (pa.ArrowInvalid, ValueError, TypeError, KeyError) as error:
        log.warning("%s/%s: damaged (%s); not needed", where.url, _path(bucket), error)
        return _EMPTY


def _loose(where: Store, path: str) -> dict | None:
    """The content of a record, or None (with a warning) where it is not whole."""
    try:
        record = json.loads(where.read(path).decode())
        Head("", record["file"], record["bytes"], record["run"], record["time"])
        return record
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s/%s: not a commit record (%s); its clips are redone", where.url, path, error)
    except FileNotFoundError:
        log.warning("%s/%s: was removed; its clips are redone", where.url, path)
    return None


def _join(known: Records, loose: Iterable[tuple[str, dict]]) -> Records:
    heads = list(known.heads)
    columns: list[list] = [[] for _ in SCHEMA]
    for name, record in loose:
        for corpus, many in record["clips"].items():
            for clip_id, status, label, attempt, again in many:
                values = (clip_id, STATUSES.index(status), label, attempt, again, corpus)
                for column, value in zip(columns, (*values, len(heads)), strict=True):
                    column.append(value)
        heads.append(Head(name, record["file"], record["bytes"], record["run"], record["time"]))
    added = len(heads) - len(known.heads)
    if not added:
        return known
    return Records(pa.concat_tables([known.rows, pa.table(columns, schema=SCHEMA)]), heads, added)


def _folder(bucket: int) -> str:
    return f"bucket={bucket:05d}"


def _path(bucket: int) -> str:
    return f"snapshots/{_folder(bucket)}.arrow"


_EMPTY = Records(SCHEMA.empty_table(), [])
