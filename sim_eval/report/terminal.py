"""What an evaluation found, as the last lines of a command."""

from __future__ import annotations

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sim_eval import statistics
from sim_eval.report import words
from sim_eval.report.tally import Entry, tally


def show(rows: pa.Table, console: Console | None = None) -> None:
    """Print a table for every suite: a line for each policy and, if there is just one, each task.

    Args:
        rows: of `sim_eval.results.SCHEMA`; those that are to be counted.
    """
    console = console or Console()
    entries = tally(rows)
    for suite in dict.fromkeys(entry.suite for entry in entries):
        some = [entry for entry in entries if entry.suite == suite]
        console.print(_table(some))
    if entries:
        console.print(
            "95 % Wilson intervals; of a policy, the mean over its tasks, the interval of all its "
            "episodes together, and the median of simulated seconds to success. Errors are not "
            "counted as episodes.",
            style="dim",
        )


def _table(entries: list[Entry]) -> Table:
    suite = entries[0].suite
    table = Table(title=escape(f"{suite.name}, version {suite.version}"), title_justify="left")
    table.add_column("policy" if len(entries) > 1 else "task", overflow="fold")
    heads = ("success", "95 % interval", "solved", "median", "errors")
    for name in heads:
        table.add_column(name, justify="right", no_wrap=True)
    if len(entries) == 1:
        for name, task in entries[0].tasks.items():
            solved = f"{sum(task.solved.values())}/{len(task.solved)}"
            rate = words.percent(task.rate.value)
            table.add_row(escape(name), rate, words.interval(task.rate), solved, "", "")
        table.add_section()
    for entry in entries:
        time = statistics.quartiles(entry.times)
        table.add_row(
            escape(entry.policy),
            words.percent(entry.mean),
            words.interval(entry.pooled),
            f"{entry.successes}/{entry.episodes}",
            "-" if time is None else f"{time.value:.1f} s",
            str(entry.errored),
            style="bold" if len(entries) == 1 else None,
        )
    return table
