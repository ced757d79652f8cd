"""Shards and how they are committed, so that no crash loses a clip or counts one twice.

    run.json                                       the configuration: see ego_ops.job
    bucket=00042/part-<sha256[:16]>.parquet        rows of some clips of one bucket
    commits/bucket=00042/<first>-<last>-<sha256[:16]>.json
                                                   says that the part of that digest counts, and
                                                   what became of its clips
    claims/, _tmp/                                 see ego_ops.claims, ego_ops.storage

A part is written first, its commit record second, both whole. Readers trust commit records only,
so a writer killed at any moment leaves nothing that counts. Names come from content: writers that
race never touch each other's files. Where a clip was committed more than once, the *committed
view* takes its highest attempt, and among equals what `_precedence` says, the same for every
reader. A part that is missing or cut short counts as never committed, and its clips are redone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ego_ops.errors import UserError
from ego_ops.storage import Store, store

log = logging.getLogger(__name__)

_RANK = {"ok": 2, "rejected": 1, "failed": 0}
FIRST, LAST = "", "g"
"""Below and above every clip id."""


class Outcome(NamedTuple):
    """What a commit record says about one clip."""

    clip_id: str
    status: str
    label: str
    """The reason of a rejection, the error class of a failure, empty where ok."""
    attempt: int
    again: bool
    """Whether the clip is due another attempt."""


class Entry(NamedTuple):
    """One clip of the committed view."""

    status: str
    label: str
    attempt: int
    again: bool
    corpus: str
    part: str
    """Path of the part that holds its row."""
    run: str
    """Which run committed it."""
    time: float
    """When, seconds since the epoch."""


View = dict[str, Entry]


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


def view(where: Store, bucket: int, first: str = FIRST, last: str = LAST) -> View:
    """The committed view of a bucket's clips, at least of those from `first` to `last`.

    Reads only commit records, and of those only the ones whose interval overlaps.
    """
    folder = f"bucket={bucket:05d}"
    # Records before parts: a part that is committed between the two listings is in the second.
    names = [n for n in where.names(f"commits/{folder}") if overlaps(n, first, last)]
    sizes = where.files(folder) if names else {}
    best: View = {}
    for name in sorted(names):
        record = _record(where, f"commits/{folder}/{name}", sizes)
        if record is None:
            continue
        part, run, when = record["file"], record["run"], record["time"]
        for corpus, many in record["clips"].items():
            for clip_id, status, label, attempt, again in many:
                entry = Entry(status, label, attempt, again, corpus, part, run, when)
                other = best.setdefault(clip_id, entry)
                if other is not entry and _precedence(entry) > _precedence(other):
                    best[clip_id] = entry
    return best


def committed(url: str) -> Iterator[tuple[int, View]]:
    """The committed view bucket by bucket, so that memory holds one bucket at a time."""
    where = store(url)
    for folder in sorted(where.names("commits")):
        bucket = int(folder.removeprefix("bucket="))
        yield bucket, view(where, bucket)


def left(ids: Iterable[str], done: View, retry: Collection[str], run: str) -> list[str]:
    """Which of `ids` have still to be worked on, in their order.

    Args:
        done: the committed view.
        retry: error classes (or reasons) that are opened again, once by each run.
        run: this run.
    """
    return [i for i in ids if (entry := done.get(i)) is None or _open(entry, retry, run)]


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
        columns: those to read, all by default. What is left out (`frames` above all) is not read.
        verify: check the file's digest first, which reads it whole.

    Raises:
        UserError: the file is damaged.
    """
    try:
        if verify and not _sound(part, where.read(part)):
            raise pa.ArrowInvalid("its digest is not that of its name")
        with where.open(part) as source:
            wanted = None if columns is None else list(dict.fromkeys(["clip_id", *columns]))
            rows = pq.read_table(source, columns=wanted)
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise UserError(
            f"{where.url}/{part}: damaged ({error}); delete it and run `extract` again"
        ) from error
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


def overlaps(name: str, first: str, last: str) -> bool:
    """Whether a file called `<first id>-<last id>-…` is about any id from `first` to `last`."""
    begin, end = name[:16], name[17:33]
    return begin <= last and end >= first


def _record(where: Store, path: str, sizes: dict[str, int]) -> dict | None:
    """A commit record, or None (with a warning) where it or its part is not whole."""
    try:
        record = json.loads(where.read(path).decode())
        part, size = record["file"], record["bytes"]
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s/%s: not a commit record (%s); its clips are redone", where.url, path, error)
        return None
    found = sizes.get(part.rpartition("/")[2])
    if found != size:
        state = "is missing" if found is None else f"has {found} bytes, not {size}"
        log.warning("%s/%s %s; its clips are redone", where.url, part, state)
        return None
    return record


def _precedence(entry: Entry) -> tuple[int, int, str]:
    return entry.attempt, _RANK[entry.status], entry.part


def _open(entry: Entry, retry: Collection[str], run: str) -> bool:
    return entry.again or (entry.label in retry and entry.run != run)


def _sound(part: str, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest()[:16] in part
