"""Trajectories without pixels: what may be known of a clip, and where its video is to be had."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops import shards
from ego_ops.curation import selected
from ego_ops.errors import UserError
from ego_ops.rows import SCHEMA
from ego_ops.storage import store
from training.data.shard_unit import read_rows
from training.export.corpora import terms

TEXTS = ("narration", "verb", "object")
"""The corpora's own words."""
_LEFT_OUT = {"frames", "status", "reason", "error_class", "detail"} | {
    "attempt", "worker", "seconds_perceive", "seconds_solve",
}  # fmt: skip
SHOWN = ("travel_m", "turn_rad", "position_sd_m", "rotation_sd_rad", "inlier_share", "confidence")
"""Scores whose spread the card shows."""
_FULL = 90 * 2**20


@dataclass
class Count:
    """Of one corpus."""

    clips: int = 0
    steps: int = 0
    seconds: float = 0.0
    versions: set[str] = field(default_factory=set)
    videos: set[str] = field(default_factory=set)


@dataclass
class Tally:
    """What a release came to."""

    corpora: dict[str, Count]
    scores: dict[str, NDArray[np.float32]]
    """Of every clip, by `SHOWN`; without those that have none."""
    ended: Counter[tuple[str, str, str]]
    """Clips by corpus, status and label: what was left out too, unless there is a selection."""


def digest(url: str, selection: str | None, texts: bool) -> str:
    """Differs wherever the release would.

    Raises:
        UserError: there is nothing to release.
    """
    found, some = hashlib.sha256(str(texts).encode()), False
    for part, ids in _parts(url, selection):
        found.update(f"{part} {' '.join(ids)}".encode())
        some = True
    if not some:
        why = f"{selection}: selects no clip" if selection else f"{url}: no trajectory is there"
        raise UserError(f"{why}: nothing to release")
    return found.hexdigest()


def columns(texts: bool) -> list[str]:
    """Of the shards, those that a release has besides `clip_id`."""
    without = {"clip_id"} | _LEFT_OUT | (set() if texts else set(TEXTS))
    return [name for name in SCHEMA.names if name not in without]


def write_release(url: str, selection: str | None, texts: bool, root: Path) -> Tally:
    """Write `data/<corpus>/part-<n>.parquet`, part by part of the shards.

    Args:
        texts: whether narrations go along.

    Raises:
        UserError: a shard cannot be read.
        OSError: a file cannot be written.
    """
    where, names = store(url), columns(texts)
    tally = Tally(defaultdict(Count), {}, Counter())
    scores: dict[str, list[NDArray[np.float32]]] = {name: [] for name in SHOWN}
    writers: dict[str, _Writer] = {}
    try:
        for part, ids in _parts(url, selection):
            table = read_rows(where, part, ids, names).combine_chunks()
            for name, values in scores.items():
                values.append(pc.drop_null(table[name]).to_numpy().astype(np.float32))
            for corpus in pc.unique(table["corpus"]).to_pylist():
                rows = table.filter(pc.equal(table["corpus"], corpus))
                _count(tally.corpora[corpus], rows)
                if corpus not in writers:
                    writers[corpus] = _Writer(root / "data" / corpus)
                writers[corpus].write(_marked(rows, corpus))
    finally:
        for writer in writers.values():
            writer.close()
    tally.scores = {name: np.concatenate(values) for name, values in scores.items()}
    tally.ended = _ended(url)
    return tally


def _parts(url: str, selection: str | None) -> Iterator[tuple[str, list[str]]]:
    return shards.parts(url) if selection is None else selected(selection, url).parts()


def _marked(rows: pa.Table, corpus: str) -> pa.Table:
    of = terms(corpus)
    rows = rows.append_column("licence", pa.array([of.licence] * len(rows)))
    return rows.append_column("redistributable", pa.array([of.redistributable] * len(rows)))


def _count(count: Count, rows: pa.Table) -> None:
    steps = pc.list_value_length(rows["timestamps"]).to_numpy().astype(np.int64)
    count.clips += len(rows)
    count.steps += int(steps.sum())
    count.seconds += float((steps / rows["fps"].to_numpy()).sum())
    count.versions.update(pc.unique(rows["corpus_version"]).to_pylist())
    count.videos.update(pc.unique(rows["video_uid"]).to_pylist())


def _ended(url: str) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for _, entries in shards.committed(url):
        found.update((one.corpus, one.status, one.label) for one in entries.values())
    return found


class _Writer:
    """Writes the files of one corpus, a new one where the last is full."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._number = 0
        self._writer: pq.ParquetWriter | None = None
        folder.mkdir(parents=True)

    def write(self, rows: pa.Table) -> None:
        path = self._folder / f"part-{self._number:05d}.parquet"
        if self._writer is None:
            self._writer = pq.ParquetWriter(path, rows.schema, compression="zstd")
        self._writer.write_table(rows, row_group_size=len(rows))
        if path.stat().st_size > _FULL:
            self.close()
            self._number += 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
