"""Shards and how they are committed, so that no crash loses a clip or counts one twice.

    run.json                                       the configuration: see ego_ops.job
    bucket=00042/part-<sha256[:16]>.parquet        rows of some clips of one bucket
    commits/bucket=00042/<first>-<last>-<sha256[:16]>.json
                                                   says that the part of that digest counts, and
                                                   what became of its clips
    snapshots/, claims/, _tmp/                     see ego_ops.records, .claims, .storage

A part is written first, its commit record second, both whole. Readers trust commit records only,
so a writer killed at any moment leaves nothing that counts. Names come from content: writers that
race never touch each other's files. Where a clip was committed more than once, the *committed
view* takes its highest attempt, and among equals what `_precedence` says, the same for every
reader. A part that is missing or cut short counts as never committed, and its clips are redone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ego_ops.bucket import View, view
from ego_ops.errors import UserError
from ego_ops.rows import SCHEMA
from ego_ops.storage import Store, store
from ego_ops.storage_errors import failures, unreadable


class Outcome(NamedTuple):
    """What a commit record says about one clip."""

    clip_id: str
    status: str
    label: str
    """The reason of a rejection, the error class of a failure, empty where ok."""
    attempt: int
    again: bool
    """Whether the clip is due another attempt."""


def commit(
    where: Store, bucket: int, data: bytes, outcomes: dict[str, list[Outcome]], run: str
) -> None:
    """Write one part and then the record that makes it count.

    Args:
        data: the Parquet file (`ego_ops.rows.parquet`).
        outcomes: by corpus, one for every row.
        run: names the run, so that it can tell what itself has done.

    Raises:
        UserError: the storage refuses.
    """
    digest = hashlib.sha256(data).hexdigest()
    folder = f"bucket={bucket:05d}"
    part = f"{folder}/part-{digest[:16]}.parquet"
    ids = [one.clip_id for many in outcomes.values() for one in many]
    record = {
        "file": part,
        "sha256": digest,
        "bytes": len(data),
        "rows": len(ids),
        "run": run,
        "time": time.time(),
        "clips": outcomes,
    }
    where.write(part, data)
    name = f"commits/{folder}/{min(ids)}-{max(ids)}-{digest[:16]}.json"
    where.write(name, json.dumps(record, separators=(",", ":")).encode())


def committed(url: str) -> Iterator[tuple[int, View]]:
    """The committed view bucket by bucket, so that memory holds only a few at a time."""
    where = store(url)
    buckets = sorted(int(name.removeprefix("bucket=")) for name in where.names("commits"))
    yield from where.each(lambda bucket: (bucket, view(where, bucket)), buckets)


def parts(url: str, status: str | None = "ok") -> Iterator[tuple[str, list[str]]]:
    """Each part that holds rows of the committed view, with the ids of those rows, sorted.

    Args:
        status: `ok`, `rejected` or `failed`; None for all three.
    """
    for _, entries in committed(url):
        by_part = defaultdict(list)
        for clip_id, entry in sorted(entries.items()):
            if status in (None, entry.status):
                by_part[entry.part].append(clip_id)
        yield from sorted(by_part.items())


def read_part(
    where: Store,
    part: str,
    ids: Sequence[str],
    columns: Sequence[str] | None = None,
    verify: bool = False,
) -> pa.Table:
    """The rows of `ids` from one part, in the part's order.

    Args:
        columns: those to read, all of `ego_ops.rows.SCHEMA` by default. What is left out (`frames`
            above all) is not read. A column that the schema had not yet when the part was written
            is null.
        verify: check the file's digest first, which reads it whole.

    Raises:
        UserError: the file is damaged.
    """
    try:
        if verify and not _sound(part, where.read(part)):
            raise pa.ArrowInvalid("its digest is not that of its name")
        with where.open(part) as source:
            rows = _columns(pq.ParquetFile(source, pre_buffer=True), columns)
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise UserError(
            f"{where.url}/{part}: damaged ({error}); delete it and run `extract` again"
        ) from error
    except failures() as error:
        raise unreadable(f"{where.url}/{part}", error) from error
    rows = rows.filter(pc.is_in(rows["clip_id"], pa.array(ids, pa.string())))
    return rows if columns is None else rows.select(list(columns))


def read(
    url: str,
    columns: Sequence[str] | None = None,
    status: str | None = "ok",
    verify: bool = False,
) -> Iterator[pa.Table]:
    """The rows of the committed view, a table for each part: see `parts` and `read_part`."""
    where = store(url)
    for part, ids in parts(url, status):
        yield read_part(where, part, ids, columns, verify)


def damaged(url: str) -> list[str]:
    """Paths of the committed parts whose content is not what was committed. Reads all of them."""
    where = store(url)
    return [part for part, _ in parts(url, None) if not _sound(part, where.read(part))]


def _columns(file: pq.ParquetFile, columns: Sequence[str] | None) -> pa.Table:
    """The clip ids and `columns` of a part, null where it is older than a column."""
    wanted = list(dict.fromkeys(["clip_id", *(SCHEMA.names if columns is None else columns)]))
    rows = file.read(wanted, use_threads=False)  # without those that it lacks
    for name in wanted:
        if name not in rows.column_names:
            kind = SCHEMA.field(name).type
            rows = rows.append_column(name, pa.nulls(len(rows), kind))
    return rows.select(wanted)


def _sound(part: str, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest()[:16] in part
