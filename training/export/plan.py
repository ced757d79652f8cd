"""What an export will hold: the clips, cut into files, before a single picture is read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ego_ops import shards
from ego_ops.curation import selected
from ego_ops.errors import UserError
from ego_ops.storage import store
from training.data.shard_unit import read_rows, read_unit

LONGEST_S = 1000.0
"""Seconds of video in a file. LeRobot compares times in a file as float32; from 1024 s on their
steps are wider than the 1e-4 s that it allows a frame to be off."""
_SLACK = 0.01
"""Relative: a rate this near to a whole number is that number (14.994 is 15)."""


@dataclass(frozen=True)
class Planned:
    """One file: what a worker needs to know of it. E episodes."""

    number: int
    fps: int
    first_episode: int
    first_frame: int
    """Frames of the dataset before this file."""
    parts: list[tuple[str, list[str]]]
    """Parts of the shards, and the ids of the clips to take of each."""
    lengths: NDArray[np.int64]
    """(E,) frames."""
    tasks: NDArray[np.int64]
    """(E,) task indices."""
    instructions: list[str]
    """E of them: the tasks' texts."""


@dataclass(frozen=True)
class Plan:
    """A whole dataset of E episodes. Takes some 40 bytes an episode, and its tasks."""

    fps: int
    ids: NDArray[np.bytes_]
    """(E,) clip ids, part by part."""
    part: NDArray[np.int32]
    """(E,) index into `parts`."""
    lengths: NDArray[np.int64]
    """(E,) frames."""
    task: NDArray[np.int64]
    """(E,) index into `tasks`."""
    parts: list[str]
    tasks: list[str]
    begins: NDArray[np.int64]
    """(files + 1,) the first episode of each file."""
    too_short: int
    """Clips left out, since no action is in them."""
    other_rates: int
    """Clips left out, since they are of another rate than asked for."""

    @property
    def frames(self) -> int:
        return int(self.lengths.sum())

    @property
    def files(self) -> int:
        return len(self.begins) - 1

    @property
    def digest(self) -> str:
        """Differs wherever the dataset would. Parts are named by a digest of what they hold."""
        found = hashlib.sha256(f"{self.fps} {self.begins.tolist()}".encode())
        found.update("\n".join(self.parts).encode())
        found.update(self.ids.tobytes() + self.task.tobytes())
        return found.hexdigest()

    def file(self, number: int) -> Planned:
        """What is to be known of one file."""
        begin, end = (int(at) for at in self.begins[number : number + 2])
        ids = [text.decode() for text in self.ids[begin:end].tolist()]
        part = self.part[begin:end]
        cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), end - begin]
        spans = pairwise(cuts)
        return Planned(
            number=number,
            fps=self.fps,
            first_episode=begin,
            first_frame=int(self.lengths[:begin].sum()),
            parts=[(self.parts[part[a]], ids[a:b]) for a, b in spans],
            lengths=self.lengths[begin:end],
            tasks=self.task[begin:end],
            instructions=[self.tasks[at] for at in self.task[begin:end]],
        )


@dataclass(frozen=True)
class _Part:
    """What is in one part."""

    name: str
    ids: NDArray[np.bytes_]
    fps: NDArray[np.float64]
    lengths: NDArray[np.int64]
    instructions: list[str]


def plan(url: str, selection: str | None, fps: int | None, file_seconds: float) -> Plan:
    """Plan the export of the committed clips. Reads their numbers, and finds those at fault.

    Args:
        url: the shards.
        selection: a file of `curate`'s; every trajectory without it.
        fps: the rate of the clips to take; needed where there are several.
        file_seconds: most seconds of video in a file (a longer clip has its own).

    Raises:
        UserError: nothing to export, clips of several rates or of none that is a whole number, or
            a shard cannot be read.
    """
    found = list(_read(url, selection))
    rates = _rates(found)
    fps = _choose(url, rates, fps)
    tasks: dict[str, int] = {}
    ids, part, lengths = [], [], []
    task: list[int] = []
    short = 0
    for index, one in enumerate(found):
        of_rate = np.abs(one.fps - fps) <= _SLACK * fps
        short += int((of_rate & (one.lengths < 2)).sum())
        kept = np.flatnonzero(of_rate & (one.lengths > 1))
        ids.append(one.ids[kept])
        lengths.append(one.lengths[kept])
        part.append(np.full(len(kept), index, np.int32))
        task.extend(tasks.setdefault(one.instructions[at], len(tasks)) for at in kept)
    every = np.concatenate(lengths)
    if not len(every):
        raise UserError(f"{url}: none of {short} clips has two steps: nothing to export")
    return Plan(
        fps=fps,
        ids=np.concatenate(ids),
        part=np.concatenate(part),
        lengths=every,
        task=np.array(task, np.int64),
        parts=[one.name for one in found],
        tasks=list(tasks),
        begins=_cut(every, int(min(file_seconds, LONGEST_S) * fps)),
        too_short=short,
        other_rates=sum(rates.values()) - rates[str(fps)],
    )


def _read(url: str, selection: str | None) -> Iterator[_Part]:
    where = store(url)

    def look(item: tuple[str, list[str]]) -> _Part:
        unit = read_unit(where, *item, horizon=1, smooth=1, pictures=False)
        rates = read_rows(where, *item, ["fps"])["fps"]
        ids = np.array(unit.ids, "S16")
        lengths = np.diff(unit.first).astype(np.int64)
        return _Part(item[0], ids, rates.to_numpy().astype(float), lengths, unit.instructions)

    chosen = shards.parts(url) if selection is None else selected(selection, url).parts()
    none = True
    for one in where.each(look, chosen):
        none = False
        yield one
    if none:
        why = f"{selection}: selects no clip" if selection else f"{url}: no trajectory is there"
        raise UserError(f"{why}: nothing to export")


def _rates(found: list[_Part]) -> Counter[str]:
    """How many clips there are of each rate, in hertz as a user would write it."""
    counts: Counter[str] = Counter()
    for one in found:
        whole = np.round(one.fps)
        near = np.abs(one.fps - whole) <= _SLACK * whole
        shown = np.where(near, whole, np.round(one.fps, 2))
        for rate, count in zip(*np.unique(shown, return_counts=True), strict=True):
            counts[f"{rate:g}"] += int(count)
    return counts


def _choose(url: str, rates: Counter[str], fps: int | None) -> int:
    there = ", ".join(f"{count} of {rate} Hz" for rate, count in rates.most_common())
    if fps is None and len(rates) > 1:
        raise UserError(
            f"{url}: a LeRobot dataset has one rate, and there are clips {there}: "
            "choose with --fps, and export the others to a folder of their own"
        )
    wanted = next(iter(rates)) if fps is None else str(fps)
    if wanted not in rates or "." in wanted:
        why = "a LeRobot dataset's rate is a whole number" if fps is None else "none are left"
        raise UserError(f"{url}: cannot export clips of {wanted} Hz ({why}); there are {there}")
    return int(wanted)


def _cut(lengths: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """(files + 1,) where each file begins, so that none has more than `most` frames."""
    ends = np.cumsum(lengths)
    begins = [0]
    while begins[-1] < len(lengths):
        before = ends[begins[-1] - 1] if begins[-1] else 0
        fits = int(np.searchsorted(ends, before + most, side="right"))
        begins.append(max(fits, begins[-1] + 1))
    return np.array(begins, np.int64)
