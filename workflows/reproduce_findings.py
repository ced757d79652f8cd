"""What a reproduction found: success of each way to train, and how it varies between seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from ego_ops.errors import UserError
from sim_eval import statistics
from sim_eval.episode import JUDGED, SUCCESS
from sim_eval.statistics import Estimate, Pairs
from training.log import FILE
from training.validation_plot import validations

SCRATCH = "from scratch"
"""What the other ways to train are compared with."""

_Episode = tuple[int, str, int]
"""Seed of training, task, seed of the episode."""


class Run(NamedTuple):
    """One policy, as it was trained."""

    arm: str
    """`from scratch`, or the clips that it was pre-trained on."""
    seed: int
    folder: Path
    """Of its (last) training run."""
    digest: str
    """Of its policy, by which results know it: see `sim_eval.policies.named`."""


class Score(NamedTuple):
    """What became of one run."""

    run: Run
    successes: int
    episodes: int
    action_error: float
    """Normalised, on held-out demonstrations: see `training.validate`."""


class Arm(NamedTuple):
    """All runs of one way to train."""

    name: str
    scores: list[Score]
    """By seed."""
    rate: Estimate
    """Mean success of its runs, with Student's interval over them."""
    pooled: Estimate
    """Success over all episodes of all runs with Wilson's interval, which knows nothing of how
    seeds differ."""
    action_error: Estimate
    """Mean of its runs, with Student's interval over them."""


class Contrast(NamedTuple):
    """One way to train less training from scratch."""

    name: str
    difference: Estimate
    """Of success, mean over seeds, with Student's interval over them."""
    pairs: Pairs
    """Of the same episodes by runs of the same seed: a is this, b from scratch."""
    p: float
    """McNemar's, over these pairs: as if the runs were given and not drawn, too."""
    action_error: Estimate
    """Of the error of actions; negative is better."""


class Findings(NamedTuple):
    """Of a reproduction."""

    arms: list[Arm]
    contrasts: list[Contrast]


def find(runs: Sequence[Run], rows: pa.Table) -> Findings:
    """Count.

    Args:
        rows: of `sim_eval.results`, of the episodes that are asked for, of all runs.

    Raises:
        UserError: a run has no episodes, or no validation.
    """
    solved = {run: _solved(run, rows) for run in runs}
    arms = []
    for name in dict.fromkeys(run.arm for run in runs):
        scores = [_score(run, solved[run]) for run in runs if run.arm == name]
        arms.append(_arm(name, scores))
    base = next((arm for arm in arms if arm.name == SCRATCH), None)
    others = [arm for arm in arms if arm.name != SCRATCH]
    return Findings(arms, [_contrast(arm, base, solved) for arm in others] if base else [])


def _solved(run: Run, rows: pa.Table) -> dict[_Episode, bool]:
    """Whether a run's policy solved each episode; those that ended in errors are not in it."""
    names = ("policy_digest", "task", "seed", "outcome")
    found = {
        (run.seed, task, seed): outcome == SUCCESS
        for digest, task, seed, outcome in zip(*(rows[n].to_pylist() for n in names), strict=True)
        if digest == run.digest and outcome in JUDGED
    }
    if not found:
        raise UserError(f"{run.folder}: none of its episodes was judged; run the command again")
    return found


def _score(run: Run, solved: dict[_Episode, bool]) -> Score:
    last = validations(run.folder / FILE)[-1]
    return Score(run, sum(solved.values()), len(solved), float(last["validation/action_error"]))


def _arm(name: str, scores: list[Score]) -> Arm:
    rates = [one.successes / one.episodes for one in scores]
    successes = sum(one.successes for one in scores)
    episodes = sum(one.episodes for one in scores)
    return Arm(
        name,
        scores,
        statistics.over_runs(rates),
        statistics.wilson(successes, episodes),
        statistics.over_runs([one.action_error for one in scores]),
    )


def _contrast(arm: Arm, base: Arm, solved: dict[Run, dict[_Episode, bool]]) -> Contrast:
    rates, errors, pairs = [], [], Pairs(0, 0, 0, 0)
    for one, other in zip(arm.scores, base.scores, strict=True):
        rates.append(one.successes / one.episodes - other.successes / other.episodes)
        errors.append(one.action_error - other.action_error)
        found = _pairs(solved[one.run], solved[other.run])
        pairs = Pairs(*(sum(both) for both in zip(pairs, found, strict=True)))
    return Contrast(
        arm.name,
        statistics.over_runs(rates),
        pairs,
        statistics.mcnemar(pairs),
        statistics.over_runs(errors),
    )


def _pairs(a: dict[_Episode, bool], b: dict[_Episode, bool]) -> Pairs:
    both = [(a[key], b[key]) for key in a.keys() & b.keys()]
    kinds = ((True, True), (True, False), (False, True), (False, False))
    return Pairs(*(both.count(kind) for kind in kinds))
