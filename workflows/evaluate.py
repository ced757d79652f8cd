"""A policy in a suite of simulated tasks: success by task, with videos and a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ego_ops.errors import UserError
from sim_eval import results
from sim_eval.episode import ERRORS
from workflows.evaluate_plan import Options, Plan, plans
from workflows.evaluation import carry_out


@dataclass(frozen=True)
class EvaluateConfig(Options):
    """Measure how often a policy solves the tasks of a suite."""

    suite: str = "tabletop"
    """Suite of tasks: `tabletop`, or module:Class of one of your own."""
    policy: str = "expert"
    """A run of `train` or its policy folder, ws://HOST:PORT of an openpi server, replay:FOLDER of a
    LeRobot dataset, `expert` or `random`."""


def run(config: EvaluateConfig) -> None:
    """Play every episode that is left, and say what was found: see `measure`."""
    measure(config, [config.suite], [config.policy])


def measure(options: Options, suites: Sequence[str], policies: Sequence[str]) -> None:
    """Every policy in every suite: what is left of it, then a table and the report.

    Raises:
        UserError: the flags do not fit, the storage refuses, or, when all else is done, a policy
            could not be had or episodes ended in errors.
    """
    todo, warnings, away = plans(options, suites, policies)
    for text in warnings:
        print(f"warning: {text}", flush=True)
    if todo:
        carry_out(todo, options)
        _report(todo, options)
    if away:
        raise UserError("; ".join(away) + ": mend that and run the same command again")


def _report(todo: Sequence[Plan], options: Options) -> None:
    """Print what is known of these plans' episodes, and write the report of the whole folder.

    Raises:
        UserError: some of them ended in errors.
    """
    wanted = {episode.id for plan in todo for episode in plan.episodes}
    found = [one for one in results.read(options.out) if one.episode in wanted]
    errors = [one for one in found if one.outcome in ERRORS]
    if errors:
        count = Counter(one.outcome for one in errors)
        what = ", ".join(f"{number} {name}" for name, number in count.items())
        raise UserError(
            f"{len(errors)} of {len(wanted)} episodes ended in errors that say nothing of the "
            f"policy ({what}; {errors[0].error}): the same command tries them again"
        )
