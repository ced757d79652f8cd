"""The unit of work: some clips of one bucket, perceived, solved and committed together.

A unit is an interval of clip ids, not a list: whoever works on it looks up what is left in it, so
that it can be given out twice, or again after a crash, at no cost but time.
"""

from __future__ import annotations

import functools
import itertools
import os
import socket
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace

import pyarrow as pa

from ego_ops import rows, shards
from ego_ops.attempt import ahead, watched
from ego_ops.bucket import read_bucket
from ego_ops.check import invalid
from ego_ops.claims import Claims
from ego_ops.clip import Clip
from ego_ops.job import Job
from ego_ops.manifest import Manifest
from ego_ops.quarantine import guarded
from ego_ops.storage import store
from ego_ops.verdict import Verdict, failed


@dataclass(frozen=True)
class Unit:
    """What is left of a bucket's clips from id `first` to id `last`, both included."""

    bucket: int
    first: str
    last: str


@dataclass(frozen=True)
class Perceived:
    """One clip between the two halves of its pipeline."""

    clip: Clip
    attempt: int
    outcome: bytes | Verdict
    """The pickled result of `perceive`."""
    worker: str
    seconds: float


@dataclass(frozen=True)
class Done:
    """What one unit came to."""

    counts: Counter[tuple[str, str, str]]
    """Clips by corpus, status and label: see `shards.Outcome`."""
    seconds: dict[str, float]
    """By stage: `perceive` and `solve` of all its clips, and `commit`."""
    bytes: int
    """Size of the part."""


def perceive(job: Job, unit: Unit) -> list[Perceived]:
    """The first half, for every clip of the unit that is left.

    Raises:
        UserError: not a clip's fault; the job cannot go on.
    """
    where = store(job.out)
    done = read_bucket(where, unit.bucket, unit.first, unit.last)
    clips, before = _clips(job.manifest, unit), done.attempts()
    left = done.left(pa.array(clips, pa.string()), job.retry, job.run)
    worker = f"{socket.gethostname()}/{os.getpid()}"
    found = []
    with Claims(where, unit.bucket, unit.first, unit.last) as claims, watched():
        for clip_id, following in itertools.pairwise([*left.to_pylist(), None]):
            begun = time.perf_counter()
            # Not where a worker died in either: it may die once more, and of `following`.
            if following and not any(claims.deaths("perceive", k) for k in (clip_id, following)):
                ahead(job, clips[following])
            outcome = guarded(job, claims, "perceive", clips[clip_id])
            seconds = time.perf_counter() - begun
            attempt = before.get(clip_id, 0) + 1
            found.append(Perceived(clips[clip_id], attempt, outcome, worker, seconds))
    return found


def solve(job: Job, unit: Unit, perceived: list[Perceived]) -> Done:
    """The second half, and the commit of the unit.

    Raises:
        UserError: not a clip's fault; the job cannot go on.
    """
    where = store(job.out)
    with Claims(where, unit.bucket, unit.first, unit.last) as claims:
        with watched():
            ready = [_solved(job, claims, one) for one in perceived]
        begun = time.perf_counter()
        ready = _checked(ready)
        outcomes: dict[str, list[shards.Outcome]] = defaultdict(list)
        for row in ready:
            outcomes[row.clip.corpus].append(_ended(row))
        size = 0
        if ready:
            data = rows.parquet(rows.table(ready, job.config_hash, job.code_version))
            shards.commit(where, unit.bucket, data, outcomes, job.run)
            claims.forget({row.clip.clip_id for row in ready})
            size = len(data)
    seconds = {
        "perceive": sum(row.seconds_perceive for row in ready),
        "solve": sum(row.seconds_solve for row in ready),
        "commit": time.perf_counter() - begun,
    }
    counts = Counter(
        (corpus, one.status, one.label) for corpus, many in outcomes.items() for one in many
    )
    return Done(counts, seconds, size)


def _solved(job: Job, claims: Claims, one: Perceived) -> rows.Row:
    """The row of one clip. Where it has an `Extraction`, that is still unchecked."""
    begun = time.perf_counter()
    outcome = one.outcome
    if isinstance(outcome, bytes):
        outcome = guarded(job, claims, "solve", one.clip, outcome)
    seconds = time.perf_counter() - begun
    return rows.Row(one.clip, one.attempt, outcome, one.worker, one.seconds, seconds)


def _checked(ready: list[rows.Row]) -> list[rows.Row]:
    """The rows, but a failure where the pipeline's result is not fit to be written."""
    given = [at for at, row in enumerate(ready) if not isinstance(row.outcome, Verdict)]
    checked = list(ready)
    for index, what in invalid([ready[at].outcome for at in given]).items():
        at = given[index]
        checked[at] = replace(ready[at], outcome=failed("invalid_result", what))
    return checked


def _ended(row: rows.Row) -> shards.Outcome:
    end = row.outcome
    if isinstance(end, Verdict):
        again = row.attempt < end.attempts
        return shards.Outcome(row.clip.clip_id, end.status, end.label, row.attempt, again)
    return shards.Outcome(row.clip.clip_id, "ok", "", row.attempt, False)


def _clips(url: str, unit: Unit) -> dict[str, Clip]:
    return {c.clip_id: c for c in _manifest(url).clips(unit.bucket, unit.first, unit.last)}


@functools.lru_cache(maxsize=1)
def _manifest(url: str) -> Manifest:
    return Manifest(url)
