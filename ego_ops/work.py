"""The unit of work: some clips of one bucket, perceived, solved and committed together.

A unit is an interval of clip ids, not a list: whoever works on it looks up what is left in it, so
that it can be given out twice, or again after a crash, at no cost but time.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from ego_ops import rows, shards
from ego_ops.claims import Claims
from ego_ops.clip import Clip
from ego_ops.job import Job
from ego_ops.manifest import Manifest
from ego_ops.pipeline import Extraction
from ego_ops.quarantine import guarded
from ego_ops.storage import store
from ego_ops.verdict import Verdict


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


def perceive(job: Job, unit: Unit) -> list[Perceived]:
    """The first half, for every clip of the unit that is left.

    Raises:
        UserError: not a clip's fault; the job cannot go on.
    """
    where = store(job.out)
    done = shards.view(where, unit.bucket, unit.first, unit.last)
    clips = {
        c.clip_id: c for c in _manifest(job.manifest).clips(unit.bucket, unit.first, unit.last)
    }
    worker = f"{socket.gethostname()}/{os.getpid()}"
    found = []
    with Claims(where, unit.bucket, unit.first, unit.last) as claims:
        for clip_id in shards.left(clips, done, job.retry, job.run):
            begun = time.perf_counter()
            outcome = guarded(job, claims, "perceive", clips[clip_id])
            seconds = time.perf_counter() - begun
            attempt = done[clip_id].attempt + 1 if clip_id in done else 1
            found.append(Perceived(clips[clip_id], attempt, outcome, worker, seconds))
    return found


def solve(job: Job, unit: Unit, perceived: list[Perceived]) -> Counter[str]:
    """The second half, and the commit of the unit.

    Returns:
        How many clips ended `ok`, `rejected` and `failed`, and how many of the failed ones
        `unexpected`.

    Raises:
        UserError: not a clip's fault; the job cannot go on.
    """
    where = store(job.out)
    counts: Counter[str] = Counter()
    outcomes: dict[str, list[shards.Outcome]] = defaultdict(list)
    ready = []
    with Claims(where, unit.bucket, unit.first, unit.last) as claims:
        for one in perceived:
            begun = time.perf_counter()
            outcome = one.outcome
            if isinstance(outcome, bytes):
                outcome = guarded(job, claims, "solve", one.clip, outcome)
            seconds = time.perf_counter() - begun
            ready.append(rows.Row(one.clip, one.attempt, outcome, one.worker, one.seconds, seconds))
            ended = _ended(one, outcome)
            outcomes[one.clip.corpus].append(ended)
            counts[ended.status] += 1
            counts["unexpected"] += ended.label == "unexpected"
        if ready:
            data = rows.parquet(rows.table(ready, job.config_hash, job.code_version))
            shards.commit(where, unit.bucket, data, outcomes, job.run)
            claims.forget({one.clip.clip_id for one in perceived})
    return counts


def _ended(one: Perceived, outcome: Extraction | Verdict) -> shards.Outcome:
    if isinstance(outcome, Verdict):
        again = one.attempt < outcome.attempts
        return shards.Outcome(one.clip.clip_id, outcome.status, outcome.label, one.attempt, again)
    return shards.Outcome(one.clip.clip_id, "ok", "", one.attempt, False)


@functools.lru_cache(maxsize=1)
def _manifest(url: str) -> Manifest:
    return Manifest(url)
