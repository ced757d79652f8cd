"""From the scores in shards to a selection: streamed, so that memory does not grow with clips."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops import shards
from ego_ops.curation import KEY, VERSION, split
from ego_ops.errors import UserError
from ego_ops.quality import SCORES
from ego_ops.quality_policy import FENCED, Bound, Floats, Policy, bounds, first, tried
from ego_ops.storage import store
from ego_ops.storage_errors import unwritable

SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),
        "corpus": pa.string(),
        "verb": pa.string(),
        "object": pa.string(),
        "selected": pa.bool_(),
        "reason": pa.string(),  # null where selected; else see `Tally.reasons`
        "part": pa.string(),  # of the shards, that holds its row; null where it has no trajectory
        **{name: pa.float32() for name in SCORES},
    }
)
SAMPLE = 1 << 16
"""Clips whose scores are kept for histograms and fences."""
_WORDS = ("verb", "object")
_LABELS = ("clip_id", "corpus", *_WORDS, "status", "reason", "error_class")
_ROWS = 1 << 16
"""Rows of a row group: what is held before it is written."""


class Sample:
    """The scores of those clips whose ids are the smallest: ids are digests, so that is as good
    as drawn by chance, and the same at every run."""

    def __init__(self, names: Sequence[str], size: int = SAMPLE):
        self._names, self._size = names, size
        self._ids: list[NDArray] = []
        self._rows: list[NDArray] = []
        self._held = 0

    def add(self, ids: NDArray, scores: Mapping[str, Floats], extra: NDArray | None = None) -> None:
        """Add clips: ids (n,), scores (n,) by name, and one more number of each clip."""
        columns = [scores[name] for name in self._names]
        columns.append(np.zeros(len(ids), np.float32) if extra is None else extra)
        self._ids.append(np.asarray(ids, "S16"))
        self._rows.append(np.stack(columns, 1).astype(np.float32))
        self._held += len(ids)
        if self._held > 2 * self._size:
            self._shrink()

    def scores(self) -> tuple[dict[str, Floats], NDArray]:
        """Scores by name, (n,) each, and the further number (n,); n is `size` at most."""
        self._shrink()
        rows = self._rows[0]
        return dict(zip(self._names, rows.T, strict=False)), rows[:, -1]

    def _shrink(self) -> None:
        width = len(self._names) + 1
        ids = np.concatenate([np.empty(0, "S16"), *self._ids])
        rows = np.concatenate([np.empty((0, width), np.float32), *self._rows])
        order = np.argsort(ids, kind="stable")[: self._size]
        self._ids, self._rows, self._held = [ids[order]], [rows[order]], len(order)


@dataclass
class Tally:
    """What a selection came to."""

    shards: str
    policy: Policy
    limits: list[Bound]
    corpora: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By corpus: `clips`, those `ok`, and those `selected`."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Clips that were not selected, by the first limit that they failed; `rejected:<reason>` or
    `failed:<error class>` where they have no trajectory."""
    failing: Counter[str] = field(default_factory=Counter)
    """Clips with a trajectory by every limit that they fail, whichever is the first."""
    missing: Counter[str] = field(default_factory=Counter)
    """Clips with a trajectory that lack a score."""
    before: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """For `verb` and `object`: clips with a trajectory by word."""
    after: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """The same of selected clips."""
    sample: Sample = field(default_factory=lambda: Sample(tuple(SCORES)))
    """Of clips with a trajectory; the further number is 1 where selected."""

    def total(self, what: str) -> int:
        """Clips of all corpora: `clips`, `ok` or `selected`."""
        return sum(counts[what] for counts in self.corpora.values())


def select(shards_url: str, out: str, policy: Policy) -> Tally:
    """Write the selection, one row for every committed clip, in the order of the shards' parts.

    The file comes in place at once, and from the same shards it is the same to the byte.

    Args:
        shards_url: folder of the shards.
        out: the Parquet file, or its fsspec URL.

    Raises:
        UserError: nothing is committed there, a shard is damaged, or the file cannot be written.
    """
    sample = Sample(FENCED)
    if policy.fence is not None:
        for _, rows in _read(shards_url, ("clip_id", *FENCED), "ok"):
            sample.add(rows["clip_id"].to_numpy(), _numbers(rows, FENCED))
    tally = Tally(store(shards_url).url, policy, bounds(policy, sample.scores()[0]))
    where, name = split(out)
    folder = where.url if where.local else tempfile.gettempdir()
    aside = Path(folder) / f".{name}.{uuid.uuid4().hex}"
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "xb") as file:
            _write(file, tally)
            file.flush()
            os.fsync(file.fileno())
        if not tally.total("clips"):
            raise UserError(f"{shards_url}: nothing is committed there; run `extract` first")
        if where.local:
            os.replace(aside, f"{where.url}/{name}")
        else:
            where.write(name, aside.read_bytes())
    except OSError as error:
        raise unwritable(out, error) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    return tally


def _write(file: BinaryIO, tally: Tally) -> None:
    """Write every row, some at a time, and count them in `tally`."""
    limits = {name: value for name, value in asdict(tally.policy).items() if value is not None}
    head = {"version": VERSION, "shards": tally.shards, "policy": limits}
    schema = SCHEMA.with_metadata({KEY: json.dumps(head, sort_keys=True)})
    held: list[pa.Table] = []
    with pq.ParquetWriter(file, schema, compression="zstd", write_statistics=False) as writer:
        for part, rows in _read(tally.shards, (*_LABELS, *SCORES), None):
            held.append(_judged(part, rows, tally))
            if sum(map(len, held)) >= _ROWS:
                writer.write_table(pa.concat_tables(held).cast(schema))
                held.clear()
        if held:
            writer.write_table(pa.concat_tables(held).cast(schema))


def _judged(part: str, rows: pa.Table, tally: Tally) -> pa.Table:
    """The rows of one part with what became of each, counted in `tally`."""
    scores, count = _numbers(rows, SCORES), len(rows)
    good = pc.equal(rows["status"], "ok").to_numpy()
    failed = tried(tally.limits, scores, count) & good
    at = first(failed)
    chosen = good & (at < 0)
    names = pa.array([limit.reason for limit in tally.limits] or [""])
    why = names.take(pa.array(np.maximum(at, 0)))
    ended = pc.binary_join_element_wise(
        rows["status"], pc.coalesce(rows["reason"], rows["error_class"], pa.scalar("")), ":"
    )
    no_label = pa.scalar(None, pa.string())
    reason = pc.if_else(good, pc.if_else(chosen, no_label, why), ended)
    _count(tally, rows, good, chosen, reason, failed)
    for name, values in scores.items():
        tally.missing[name] += int(np.isnan(values[good]).sum())
    ids = rows["clip_id"].to_numpy()[good]
    tally.sample.add(ids, {n: v[good] for n, v in scores.items()}, chosen[good])
    place = pc.if_else(good, pa.scalar(part), no_label)
    made = {"selected": pa.array(chosen), "reason": reason, "part": place}
    every = {name: rows[name] for name in rows.column_names} | made
    return pa.table({name: every[name] for name in SCHEMA.names})


def _count(
    tally: Tally,
    rows: pa.Table,
    good: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    reason: pa.ChunkedArray,
    failed: NDArray[np.bool_],
) -> None:
    groups = {"clips": np.ones_like(good), "ok": good, "selected": chosen}
    for what, mask in groups.items():
        counts = Counter[str]()
        _add(counts, rows["corpus"], mask)
        for corpus, number in counts.items():
            tally.corpora[corpus][what] += number
    _add(tally.reasons, reason, ~chosen)
    for limit, row in zip(tally.limits, failed, strict=True):
        tally.failing[limit.reason] += int(row.sum())
    for word in _WORDS:
        _add(tally.before[word], rows[word], good)
        _add(tally.after[word], rows[word], chosen)


def _add(counts: Counter[str], column: pa.ChunkedArray, mask: NDArray[np.bool_]) -> None:
    """Count the values where the mask is true; null counts as empty."""
    for entry in pc.fill_null(column, "").filter(pa.array(mask)).value_counts():
        counts[entry["values"].as_py()] += entry["counts"].as_py()


def _read(url: str, columns: Sequence[str], status: str | None) -> Iterator[tuple[str, pa.Table]]:
    """Each part's path and rows; of an object store, several are fetched at a time."""
    where = store(url)

    def rows(part: tuple[str, list[str]]) -> tuple[str, pa.Table]:
        return part[0], shards.read_part(where, *part, columns)

    yield from where.each(rows, shards.parts(url, status))


def _numbers(rows: pa.Table, names: Iterable[str]) -> dict[str, Floats]:
    """(n,) scores by name, NaN where there is none."""
    return {
        name: pc.fill_null(rows[name], float("nan")).to_numpy().astype(np.float32, copy=False)
        for name in names
    }
