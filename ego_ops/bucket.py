"""What is committed of one bucket: the *committed view*, see `ego_ops.shards`."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ego_ops import records
from ego_ops.records import SCHEMA, STATUSES, Head, Records
from ego_ops.storage import Store

log = logging.getLogger(__name__)

FIRST, LAST = "", "g"
"""Below and above every clip id."""


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


@dataclass(frozen=True)
class Committed:
    """What is committed of one bucket."""

    records: Records
    """All commit records, also those whose part is not whole."""
    heads: list[Head]
    """Of the records that count."""
    rows: pa.Table
    """Of `ego_ops.records.SCHEMA`: the row that counts of each clip, sorted by id; `record` is an
    index into `heads`."""

    def view(self) -> View:
        """By clip id."""
        columns = [self.rows[name].to_pylist() for name in SCHEMA.names]
        return {
            clip_id: Entry(
                STATUSES[status],
                label,
                attempt,
                again,
                corpus,
                self.heads[record].part,
                self.heads[record].run,
                self.heads[record].time,
            )
            for clip_id, status, label, attempt, again, corpus, record in zip(*columns, strict=True)
        }

    def attempts(self) -> dict[str, int]:
        """How often each clip was tried."""
        pairs = (self.rows[name].to_pylist() for name in ("clip_id", "attempt"))
        return dict(zip(*pairs, strict=True))

    def left(self, ids: pa.Array, retry: Collection[str], run: str) -> pa.Array:
        """Which of `ids` have still to be worked on, in their order.

        Args:
            retry: error classes (or reasons) that are opened again, once by each run.
            run: this run.
        """
        again = self.rows["again"].to_numpy()
        if retry:
            others = np.array([head.run != run for head in self.heads], bool)
            named = pc.is_in(self.rows["label"], pa.array(sorted(retry), pa.string())).to_numpy()
            again = again | (named & others[self.rows["record"].to_numpy()])
        final = self.rows["clip_id"].filter(pa.array(~again))
        return ids.filter(pc.invert(pc.is_in(ids, final)))


def read_bucket(where: Store, bucket: int, first: str = FIRST, last: str = LAST) -> Committed:
    """What is committed of a bucket's clips, at least of those from `first` to `last`.

    Reads only commit records, and of those only the ones whose interval overlaps.
    """
    folder = f"bucket={bucket:05d}"
    # Records before parts: a part that is committed between the two listings is in the second.
    names = {n for n in where.names(f"commits/{folder}") if overlaps(n, first, last)}
    sizes = where.files(folder) if names else {}
    found = records.read(where, bucket, names)
    sound = found.only([_whole(where, head, sizes) for head in found.heads])
    return Committed(found, sound.heads, _best(sound))


def view(where: Store, bucket: int, first: str = FIRST, last: str = LAST) -> View:
    """The committed view of a bucket's clips: see `read_bucket`."""
    return read_bucket(where, bucket, first, last).view()


def overlaps(name: str, first: str, last: str) -> bool:
    """Whether a file called `<first id>-<last id>-…` is about any id from `first` to `last`."""
    begin, end = name[:16], name[17:33]
    return begin <= last and end >= first


def _whole(where: Store, head: Head, sizes: dict[str, int]) -> bool:
    """Whether a record's part is there in full. Warns where it is not."""
    found = sizes.get(head.part.rpartition("/")[2])
    if found == head.bytes:
        return True
    state = "is missing" if found is None else f"has {found} bytes, not {head.bytes}"
    log.warning("%s/%s %s; its clips are redone", where.url, head.part, state)
    return False


def _best(found: Records) -> pa.Table:
    """One row for each clip: its highest attempt, then the best status, then the last part."""
    order = {part: n for n, part in enumerate(sorted({head.part for head in found.heads}))}
    parts_of = np.array([order[head.part] for head in found.heads], np.int32)
    rows = found.rows.append_column("part", pa.array(parts_of[found.rows["record"].to_numpy()]))
    keys = [(name, "ascending") for name in ("clip_id", "attempt", "status", "part")]
    rows = rows.take(pc.sort_indices(rows, keys)).drop_columns("part")
    if not len(rows):
        return rows
    ids = rows["clip_id"].combine_chunks()
    last = pc.not_equal(ids[:-1], ids[1:]).to_numpy(zero_copy_only=False)
    return rows.filter(pa.array(np.append(last, True)))
