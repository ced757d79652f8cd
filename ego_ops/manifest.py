"""The frozen list of the clips to work on: Parquet files, bucketed by a hash of `clip_id`.

    manifest.json          what is below, and the manifest's own id
    bucket-00000.parquet   the clips whose first 8 digits leave the remainder 0, sorted by clip_id
    bucket-00001.parquet   ...

Indexing again merges: clips that are new are added; rows that are there stay as they are but for
their location, since a corpus may move. The number of buckets is fixed when a manifest is first
written, since shards are bucketed alike. `manifest.json` is written last: a folder without one
holds no manifest, whatever else lies there. A writer that is killed leaves every bucket whole, with
or without its own clips. One writer at a time, which only a local folder can see to.
"""

from __future__ import annotations

import functools
import io
import json
import operator
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops.clip import Box, Clip
from ego_ops.errors import UserError
from ego_ops.storage import Store, read_head, store

VERSION = 1
CLIPS_PER_BUCKET = 2000
MIN_BUCKETS = 16
_BATCH = 20_000
_ID = re.compile("[0-9a-f]{16}")
_IDS = re.compile("[0-9a-f]*")
_LOCATION = ("root", "video_path", "annotation_path")
_OF_THE_FILES = ("boxes", "details")  # what may differ between a video and a smaller copy of it

_BOX = pa.struct([(name, pa.float64()) for name in ("t", "x0", "y0", "x1", "y1")])
_TYPES = {"t_start": pa.float64(), "t_end": pa.float64(), "boxes": pa.list_(_BOX)}
SCHEMA = pa.schema([(field.name, _TYPES.get(field.name, pa.string())) for field in fields(Clip)])
"""The fields of `Clip`, one column each."""
_VALUES = operator.attrgetter(*SCHEMA.names)


@dataclass(frozen=True)
class Written:
    """What one `write` did."""

    new: int
    known: int
    """Clips that the manifest had already."""
    duplicates: int
    """Clips given more than once; the first was taken."""
    moved: int = 0
    """Known clips that lie elsewhere now. Of the others the rows were left alone."""


class Manifest:
    """A manifest to read from.

    Raises:
        UserError: there is no manifest at `url`, or it is of another version.
    """

    def __init__(self, url: str):
        self.store = store(url)
        self.url = self.store.url
        head = _head(self.store)
        if head is None:
            raise UserError(f"{url}: no manifest there (no manifest.json); run `index` first")
        self.id: str = head["id"]
        self.buckets: int = head["buckets"]
        self.totals: dict[str, int] = head["clips"]
        """Number of clips by corpus."""
        self._bucket = functools.lru_cache(maxsize=1)(
            lambda bucket: _read(self.store, bucket, SCHEMA.names)
        )

    def ids(self, bucket: int) -> list[str]:
        """The clip ids of one bucket, in order."""
        return self.id_column(bucket).to_pylist()

    def id_column(self, bucket: int) -> pa.Array:
        """The clip ids of one bucket, in order, as strings of Arrow."""
        return _read(self.store, bucket, ["clip_id"])["clip_id"].combine_chunks()

    def clips(self, bucket: int, first: str, last: str) -> list[Clip]:
        """The clips of one bucket from id `first` to id `last`, both included, in order.

        The bucket that was read last is kept, since its next interval is often asked for next.
        """
        rows = self._bucket(bucket)
        ids = rows["clip_id"]
        inside = pc.and_(pc.greater_equal(ids, first), pc.less_equal(ids, last))
        return [_clip(row) for row in rows.filter(inside).to_pylist()]

    def __iter__(self) -> Iterator[Clip]:
        """Every clip, bucket by bucket."""
        for bucket in range(self.buckets):
            yield from self.clips(bucket, "", "g")


def write(url: str, clips: Iterable[Clip], buckets: int | None = None) -> Written:
    """Write the manifest at `url`, or merge `clips` into the one that is there.

    Memory holds the new clips once as Arrow columns (some 300 bytes a clip).

    Args:
        clips: in any order; a clip_id given twice is taken once.
        buckets: how many to make at the first write; by default one per 2,000 clips, at least 16.

    Raises:
        UserError: `buckets` differs from what is there, a clip_id is not one, or another process
            is writing to the manifest.
    """
    where = store(url)
    _agreed(where, buckets)  # before the clips are read, which may take a minute
    rows = _table(clips)
    with where.lock(".lock", f"{url}: another `index` is writing to it; run this one after it"):
        return _write(where, rows, buckets)


def _agreed(where: Store, buckets: int | None) -> dict | None:
    """The head of what is there, or None. Raises UserError where it has not so many buckets."""
    head = _head(where)
    if head and buckets and buckets != head["buckets"]:
        raise UserError(
            f"{where.url}: has {head['buckets']} buckets, not {buckets}, and keeps them: "
            "leave the number out, or index into another folder"
        )
    return head


def _write(where: Store, rows: pa.Table, buckets: int | None) -> Written:
    head = _agreed(where, buckets)
    numbers, first = np.unique(_numbers(rows["clip_id"]), return_index=True)
    count = buckets or max(MIN_BUCKETS, round(len(numbers) / CLIPS_PER_BUCKET))
    if head:
        count = head["buckets"]
    bucket_of = (numbers >> np.uint64(32)) % np.uint64(count)
    order = np.argsort(bucket_of, kind="stable")
    bounds = np.searchsorted(bucket_of[order], np.arange(count + 1, dtype=np.uint64))
    new, moved, totals = 0, 0, Counter[str]()
    for bucket in range(count):
        found = rows.take(first[order[bounds[bucket] : bounds[bucket + 1]]])
        merged = _merge(where, bucket, found, fresh=head is None)
        new, moved = new + merged.new, moved + merged.moved
        totals.update(merged.totals)
    head = {
        "version": VERSION,
        "id": head["id"] if head else uuid.uuid4().hex,
        "buckets": count,
        "clips": dict(sorted(totals.items())),
    }
    where.write("manifest.json", json.dumps(head, indent=1).encode())
    return Written(new, len(numbers) - new, rows.num_rows - len(numbers), moved)


class _Merged(NamedTuple):
    new: int
    moved: int
    totals: dict[str, int]
    """The bucket's clips by corpus."""


def _merge(where: Store, bucket: int, found: pa.Table, fresh: bool) -> _Merged:
    """Add to a bucket what it lacks, and correct where its clips lie."""
    old = SCHEMA.empty_table() if fresh else _read(where, bucket, SCHEMA.names)
    lacking = found.filter(pc.invert(pc.is_in(found["clip_id"], old["clip_id"])))
    both, moved = _relocated(old, found)
    if fresh or lacking.num_rows or moved:
        both = pa.concat_tables([both, lacking]).sort_by("clip_id")
        sink = io.BytesIO()
        pq.write_table(both, sink, compression="zstd")
        where.write(_path(bucket), sink.getvalue())
    counts = both["corpus"].value_counts().to_pylist()
    totals = {entry["values"]: entry["counts"] for entry in counts}
    return _Merged(lacking.num_rows, moved, totals)


def _relocated(old: pa.Table, found: pa.Table) -> tuple[pa.Table, int]:
    """The old rows, with another location where `found` has one, and how many have."""
    index = pc.index_in(old["clip_id"], found["clip_id"]).combine_chunks()
    now = {name: found[name].take(index) for name in (*_LOCATION, *_OF_THE_FILES)}
    moved = functools.reduce(pc.or_, (pc.not_equal(old[name], now[name]) for name in _LOCATION))
    moved = moved.fill_null(False)  # a clip that was not found again
    count = pc.sum(moved).as_py() or 0
    if count:
        for name, column in now.items():
            at = SCHEMA.get_field_index(name)
            old = old.set_column(at, SCHEMA.field(name), pc.if_else(moved, column, old[name]))
    return old, count


def _table(clips: Iterable[Clip]) -> pa.Table:
    """All the clips as one table of contiguous columns, which `take` needs to be quick."""
    parts, rest = [SCHEMA.empty_table()], iter(clips)
    while batch := list(islice(rest, _BATCH)):
        parts.append(_columns(batch))
    return pa.concat_tables(parts).combine_chunks()


def _columns(clips: Sequence[Clip]) -> pa.Table:
    ids = "".join(clip.clip_id for clip in clips)
    if len(ids) != 16 * len(clips) or not _IDS.fullmatch(ids):
        (wrong, *_) = (clip for clip in clips if not _ID.fullmatch(clip.clip_id))
        raise UserError(
            f"{wrong.corpus}: clip_id {wrong.clip_id!r} is not 16 hexadecimal digits; "
            "make it with ego_ops.clip.clip_id"
        )
    columns = dict(zip(SCHEMA.names, zip(*map(_VALUES, clips), strict=True), strict=True))
    columns["boxes"] = [[vars(box) for box in boxes] for boxes in columns["boxes"]]
    return pa.table(columns, schema=SCHEMA)


def _numbers(ids: pa.ChunkedArray) -> NDArray[np.uint64]:
    digits = b"".join(chunk.cast(pa.binary(16)).buffers()[1].to_pybytes() for chunk in ids.chunks)
    return np.frombuffer(bytes.fromhex(digits.decode()), ">u8").astype(np.uint64)


def _clip(row: dict) -> Clip:
    return Clip(**{**row, "boxes": tuple(Box(**box) for box in row["boxes"])})


def _path(bucket: int) -> str:
    return f"bucket-{bucket:05d}.parquet"


def _read(where: Store, bucket: int, columns: list[str]) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(where.read(_path(bucket))))
        return file.read(columns, use_threads=False)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{where.url}/{_path(bucket)}: cannot be read ({error}); "
            "index the corpora into a new folder"
        ) from error


def _head(where: Store) -> dict | None:
    return read_head(where, "manifest.json", VERSION, "manifest")
