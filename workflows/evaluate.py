"""A policy in a suite of simulated tasks: success by task, with videos and a report."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc

from ego_ops.errors import UserError
from sim_eval import report, results
from sim_eval.episode import ERRORS
from workflows.evaluate_plan import Options, Plan, plans
from workflows.evaluation import carry_out


@dataclass(frozen=True)
class EvaluateConfig(Options):
    """Measure how often a policy solves the tasks of a suite."""

    suite: str = "tabletop"
    """Suite of tasks: `tabletop`, `libero_spatial` (or _object, _goal, _10, _90), or
    module:Class of one of your own."""
    policy: str = "expert"
    """A run of `train` or its policy folder, ws://HOST:PORT of an openpi server, replay:FOLDER of a
    LeRobot dataset, `expert` or `random`."""


def run(config: EvaluateConfig) -> None:
    """Play every episode that is left, and say what was found: see `measure`."""
    measure(config, [config.suite], [config.policy], "evaluate")


def measure(options: Options, suites: Sequence[str], policies: Sequence[str], command: str) -> None:
    """Every policy in every suite: what is left of it, then a table and the report.

    Args:
        options: the command's config.
        command: its name.

    Raises:
        UserError: the flags do not fit, the storage refuses, or, when all else is done, a policy
            could not be had or episodes ended in errors.
    """
    todo, warnings, away = plans(options, suites, policies)
    for text in warnings:
        print(f"warning: {text}", flush=True)
    if todo:
        away += carry_out(todo, options, _words(options, command))
        away += _report(todo, options)
    if away:
        raise UserError("; ".join(away))


def _report(todo: Sequence[Plan], options: Options) -> list[str]:
    """Print what is known of these plans' episodes, and write the report of the whole folder. A
    line about those that ended in errors."""
    wanted = pa.array(episode.id for plan in todo for episode in plan.episodes)
    everything = results.table(options.out)
    rows = everything.filter(pc.is_in(everything["episode"], wanted))
    report.show(rows)  # before anything is written: the disk may be full
    results.write_jsonl(options.out, everything)
    try:
        page = report.write_report(options.out, f"{options.out.rstrip('/')}/report.html")
        print(f"report: {page}", flush=True)
    except UserError as error:
        print(f"no page: {error}", flush=True)
    errors = rows.filter(pc.is_in(rows["outcome"], pa.array(ERRORS)))
    if not errors:
        return []
    count = Counter(errors["outcome"].to_pylist())
    what = ", ".join(f"{number} {name}" for name, number in count.items())
    return [
        f"{len(errors)} of {len(wanted)} episodes ended in errors that say nothing of the policy "
        f"({what}; {errors['error'][0]}): the same command tries them again"
    ]


def _words(options: Options, command: str) -> str:
    """What was typed, as far as it matters to the results."""
    words = ["egoscaler", command]
    for one in fields(options):
        value, default = getattr(options, one.name), one.default
        if value != default and one.name not in ("quiet", "address"):
            many = value if isinstance(value, tuple) else (value,)
            words += [f"--{one.name.replace('_', '-')}", *map(str, many)]
    return shlex.join(words)
