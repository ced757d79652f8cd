"""What a whole run came to, and which of its clips are worth a look."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import numpy as np

from ego_ops import shards
from ego_ops.bucket import Entry
from ego_ops.errors import UserError
from ego_ops.quality import SCORES
from ego_ops.report import measure
from ego_ops.report.record import TRAJECTORY, extraction
from ego_ops.storage import Store, store

_SECONDS = ("seconds_perceive", "seconds_solve")


class Seen(NamedTuple):
    """Where one clip's row lies, and how bad it is."""

    clip_id: str
    bucket: int
    part: str
    status: str
    label: str
    badness: float
    """Median position error where the truth is known, else the position's standard deviation;
    metres, NaN where there is neither."""
    corpus: str = ""


@dataclass
class Survey:
    """Sums over the committed view of a folder of shards."""

    seen: list[Seen] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By status and label."""
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Scores and errors of ok clips, and seconds of all, by name; nulls are left out."""
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """By clip, what `measure.compare` found."""
    rate: float | None = None
    """Clips a second of all workers together, from when the first part of each run was begun to
    its last commit; None if that is no time."""

    @property
    def total(self) -> int:
        return len(self.seen)

    def status(self, status: str) -> int:
        """Number of clips of one status."""
        return sum(n for (found, _), n in self.counts.items() if found == status)

    def median(self, name: str) -> float | None:
        """Over clips, of a score, an error or seconds; None where no clip has it."""
        return float(np.median(self.values[name])) if self.values.get(name) else None

    def of(self, corpus: str, name: str) -> list[float]:
        """An error of each clip of one corpus whose truth is known."""
        known = (self.figures.get(one.clip_id, {}) for one in self.seen if one.corpus == corpus)
        return [figures[name] for figures in known if name in figures]

    def mean(self, name: str) -> float | None:
        """As `median`."""
        return float(np.mean(self.values[name])) if self.values.get(name) else None


def survey(url: str, truth_root: str | None = None) -> Survey:
    """Read every committed row, without its pictures.

    Args:
        url: folder of the shards.
        truth_root: folder with truth, see `measure`.

    Raises:
        UserError: nothing is committed there, a file is damaged, or `truth_root` has no truth of
            any clip that is ok.
    """
    where = store(url)
    truth = store(truth_root) if truth_root else None
    found = Survey()
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for bucket, view in shards.committed(url):
        by_part = defaultdict(list)
        for clip_id, entry in sorted(view.items()):
            by_part[entry.part].append(clip_id)
        for part, ids in sorted(by_part.items()):
            spent = 0.0  # one worker takes the clips of a part one after another
            for row in _rows(where, part, ids, truth is not None):
                _add(found, row, bucket, part, view[row["clip_id"]], truth)
                spent += sum(row[name] or 0.0 for name in _SECONDS)
            one = view[ids[0]]
            spans[one.run].append((one.time - spent, one.time))
    if not found.seen:
        raise UserError(f"{url}: nothing is committed there; run `extract` first")
    if truth is not None and found.status("ok") and not found.figures:
        raise UserError(
            f"{truth_root}: has the truth of none of the {found.status('ok')} ok clips "
            "(looked for {video_uid}.npz and {corpus}/truth/{video_uid}.npz)"
        )
    seconds = sum(max(e for _, e in s) - min(b for b, _ in s) for s in spans.values())
    found.rate = found.total / seconds if seconds > 0 else None
    return found


def choose(found: Survey, limit: int) -> list[Seen]:
    """At most `limit` clips to show: failed, rejected and ok in that order, worst first.

    Where there are more, half the places and whatever the others leave go to ok clips, evenly
    spaced from the worst to the best; the rest are shared by the classes of error in turn.
    """
    ok = sorted(
        (one for one in found.seen if one.status == "ok"),
        key=lambda one: (np.isnan(one.badness), -one.badness, one.clip_id),
    )
    others = [one for one in found.seen if one.status != "ok"]
    places = max(limit - len(others), (limit + 1) // 2)
    best = [ok[i] for i in _spread(len(ok), min(places, limit))]
    classes = defaultdict(list)
    for one in sorted(others):
        classes[one.status, one.label].append(one)
    turns = chain.from_iterable(zip_longest(*(classes[key] for key in sorted(classes))))
    rest = [one for one in turns if one is not None][: limit - len(best)]
    return sorted(rest, key=lambda one: (one.status, one.label)) + best


def read(url: str, chosen: Sequence[Seen]) -> Iterator[tuple[Seen, dict[str, Any]]]:
    """The whole rows of `chosen`, in their order, one at a time."""
    where = store(url)
    for one in chosen:
        yield one, shards.read_part(where, one.part, [one.clip_id]).to_pylist()[0]


def _rows(where: Store, part: str, ids: list[str], trajectories: bool) -> Iterator[dict[str, Any]]:
    columns = [
        "clip_id",
        "corpus",
        "video_uid",
        *_SECONDS,
        *SCORES,
        *(TRAJECTORY if trajectories else ()),
    ]
    for batch in shards.read_part(where, part, ids, columns).to_batches(256):
        yield from batch.to_pylist()


def _add(
    found: Survey, row: dict[str, Any], bucket: int, part: str, entry: Entry,
    truth: Store | None,
) -> None:  # fmt: skip
    clip_id, figures = row["clip_id"], {}
    if truth is not None and entry.status == "ok":
        known = measure.read_truth(truth, row["video_uid"], row["corpus"])
        moved = extraction(row)
        if known is not None and moved is not None:
            figures = measure.compare(moved, known).figures
            found.figures[clip_id] = figures
    values = {name: row[name] for name in (*_SECONDS, *SCORES)} | figures
    for name, value in values.items():
        if value is not None:
            found.values[name].append(value)
    bad = figures.get("position_median_m", row["position_sd_m"])
    badness = float("nan") if bad is None else float(bad)
    corpus = row["corpus"]
    found.seen.append(Seen(clip_id, bucket, part, entry.status, entry.label, badness, corpus))
    found.counts[entry.status, entry.label] += 1


def _spread(count: int, places: int) -> list[int]:
    """At most `places` of `count` indices, evenly spaced, the first and the last among them."""
    return sorted(set(np.linspace(0, count - 1, min(count, places)).round().astype(int).tolist()))
