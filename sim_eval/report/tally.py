"""What the results say of each policy in each suite, counted."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sim_eval import statistics
from sim_eval.episode import ERRORS, INVALID_ACTION, SUCCESS
from sim_eval.statistics import Estimate, Pairs

_COLUMNS = (
    "suite", "version", "policy", "policy_digest", "replan", "ensemble", "task", "instruction",
    "seed", "outcome", "error", "steps", "fps", "calls", "latency_mean_ms", "latency_max_ms",
    "video",
)  # fmt: skip
KINDS = (INVALID_ACTION, *ERRORS)
"""Outcomes that come with a line that says what was wrong."""


class Suite(NamedTuple):
    """A suite and its version: other versions are other episodes, and never counted together."""

    name: str
    version: str


class Clip(NamedTuple):
    """A video of an episode."""

    path: str
    task: str
    seed: int
    outcome: str
    seconds: float
    """Simulated."""


@dataclass
class Task:
    """Episodes of one policy in one task."""

    instruction: str = ""
    solved: dict[int, bool] = field(default_factory=dict)
    """By seed, of the judged ones; errors are not in it."""

    @property
    def rate(self) -> Estimate:
        """Success rate with Wilson's interval."""
        return statistics.wilson(sum(self.solved.values()), len(self.solved))


@dataclass
class Entry:
    """One policy, with one way of doing its chunks, in one suite."""

    suite: Suite
    policy: str
    """A short name, with what tells it from others of that name where there are any."""
    settings: str
    """How chunks are done: `replan 5`."""
    given: str
    """The policy's name as it was given."""
    digest: str
    tasks: dict[str, Task] = field(default_factory=lambda: defaultdict(Task))
    """By name, in natural order."""
    times: list[float] = field(default_factory=list)
    """Simulated seconds until it was solved, of each episode that was."""
    span: float = 0.0
    """Simulated seconds of the longest episode."""
    errors: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Lines that say what was wrong, by outcome: invalid actions and errors."""
    clips: list[Clip] = field(default_factory=list)
    calls: int = 0
    """How often it was asked in the judged episodes."""
    waited_ms: float = 0.0
    """Milliseconds until the answers, all together."""
    slowest_ms: float = 0.0

    @property
    def episodes(self) -> int:
        """Judged ones."""
        return sum(len(task.solved) for task in self.tasks.values())

    @property
    def successes(self) -> int:
        return sum(sum(task.solved.values()) for task in self.tasks.values())

    @property
    def errored(self) -> int:
        """Episodes that say nothing of the policy."""
        return sum(len(self.errors[kind]) for kind in ERRORS if kind in self.errors)

    @property
    def pooled(self) -> Estimate:
        """Success rate of all episodes together, with Wilson's interval."""
        return statistics.wilson(self.successes, self.episodes)

    @property
    def mean(self) -> float:
        """Mean of the tasks' success rates, as papers report it; not a number without episodes."""
        rates = [task.rate.value for task in self.tasks.values() if task.solved]
        return float(np.mean(rates)) if rates else float("nan")


class Comparison(NamedTuple):
    """Two policies in the same episodes of a suite."""

    a: Entry
    b: Entry
    pairs: Pairs
    gap: Estimate
    """Success rate of a less that of b."""
    p: float
    """Of the exact McNemar test."""
    corrected: float
    """The same by Holm's method, for all comparisons in the suite."""


def tally(rows: pa.Table) -> list[Entry]:
    """Count results (`sim_eval.results.table`), suite by suite, the best policy first."""
    found: dict[tuple, Entry] = {}
    names: dict[str, str] = {}
    for suite, version, policy, digest, replan, ensemble, *rest in _values(rows):
        key = (suite, version, digest, replan, ensemble)
        if key not in found:
            way = _settings(replan, ensemble)
            found[key] = Entry(Suite(suite, version), policy, way, policy, digest)
            names.setdefault(digest, _short(policy))
        _add(found[key], *rest)
    _name(found, names)
    for entry in found.values():
        entry.tasks = dict(sorted(entry.tasks.items(), key=lambda item: natural(item[0])))
        entry.clips.sort(key=lambda clip: (natural(clip.task), clip.seed))
    return sorted(
        found.values(),
        key=lambda one: (one.suite, -np.nan_to_num(one.mean, nan=-1.0), natural(one.policy)),
    )


def compare(entries: Sequence[Entry]) -> list[Comparison]:
    """Each two policies of one suite, in the episodes that both were judged in with the same
    settings. The better one comes first."""
    found = []
    for a, b in itertools.combinations(entries, 2):
        if a.settings == b.settings and (pairs := paired(a, b)).episodes:
            if pairs.only_b > pairs.only_a:
                a, b, pairs = b, a, Pairs(pairs.both, pairs.only_b, pairs.only_a, pairs.neither)
            found.append((a, b, pairs))
    p_values = [statistics.mcnemar(pairs) for *_, pairs in found]
    corrected = statistics.holm(p_values)
    return [
        Comparison(a, b, pairs, statistics.difference(pairs), p, after)
        for (a, b, pairs), p, after in zip(found, p_values, corrected, strict=True)
    ]


def paired(a: Entry, b: Entry) -> Pairs:
    """What became of the episodes of the same task and seed."""
    counts: Counter[tuple[bool, bool]] = Counter()
    for name in a.tasks.keys() & b.tasks.keys():
        one, other = a.tasks[name].solved, b.tasks[name].solved
        counts.update((one[seed], other[seed]) for seed in one.keys() & other.keys())
    return Pairs(*(counts[k] for k in ((True, True), (True, False), (False, True), (False, False))))


def natural(text: str) -> list[tuple[int, str]]:
    """A key to sort by, in which task_9 comes before task_10."""
    return [(int(part or 0), "") if part.isdigit() else (-1, part)
            for part in re.split(r"(\d+)", text)]  # fmt: skip


def _values(rows: pa.Table) -> Iterator[tuple]:
    """Rows as tuples of `_COLUMNS`; memory holds some of them."""
    for batch in rows.select(_COLUMNS).to_batches(max_chunksize=10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _add(
    entry: Entry, task: str, instruction: str, seed: int, outcome: str, error: str, steps: int,
    fps: float, calls: int, mean_ms: float, max_ms: float, video: str,
) -> None:  # fmt: skip
    seconds = steps / fps
    if outcome in KINDS:
        entry.errors[outcome].append(f"{task}, seed {seed}: {error}")
    if outcome in ERRORS:
        return
    known = entry.tasks[task]
    known.instruction = instruction
    known.solved[seed] = outcome == SUCCESS
    entry.span = max(entry.span, seconds)
    entry.calls += calls
    entry.waited_ms += calls * mean_ms
    entry.slowest_ms = max(entry.slowest_ms, max_ms)
    if outcome == SUCCESS:
        entry.times.append(seconds)
    if video:
        entry.clips.append(Clip(video, task, seed, outcome, seconds))


def _settings(replan: int, ensemble: float | None) -> str:
    return f"replan {replan}" + ("" if ensemble is None else f", ensemble {ensemble:g}")


def _short(policy: str) -> str:
    """Of a policy's folder, the name of its run."""
    if ":" in policy:
        return policy
    return policy.rstrip("/").removesuffix("/policy").rsplit("/", 1)[-1] or policy


def _name(found: dict[tuple, Entry], names: dict[str, str]) -> None:
    """Tell policies of one name apart by their digests, and settings of one policy in a suite."""
    same = Counter(names.values())
    ways = Counter((suite, version, digest) for suite, version, digest, *_ in found)
    several = {digest for (_, _, digest), count in ways.items() if count > 1}
    for (_, _, digest, *_), entry in found.items():
        entry.policy = name = names[digest]
        if same[name] > 1:
            entry.policy += f" ({digest[:6]})"
        if digest in several:
            entry.policy += f", {entry.settings}"
