"""Choose what to train on by its scores, and say what was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ego_ops.quality_policy import PRESETS, Policy
from ego_ops.quality_select import Tally, select
from ego_ops.report import curation

_TOP = 10


@dataclass(frozen=True)
class CurateConfig:
    """Select clips for training by limits on their scores. Shards are only read."""

    shards: str = "shards"
    """Folder (or fsspec URL) of the shards, from `extract`."""
    out: str = "selection.parquet"
    """The selection (or its fsspec URL): a Parquet file with every clip's scores, whether it is
    selected, and if not the first limit that it fails."""
    policy: Literal["paper", "default", "strict"] = "default"
    """Limits to begin with. paper: EgoScaler's rules, travel distance and similarity to the
    background above all; default: fit and certainty too, with a wide margin; strict: closer, and
    outliers fenced off. The limits below, where given, take the place of its own; inf (or -inf
    for a min) lifts one."""
    html: Path | None = None
    """Also write a page with a histogram of every score to this file."""
    limits: Annotated[Policy, tyro.conf.arg(name="")] = field(default_factory=Policy)
    """Limits in place of the policy's own."""


def run(config: CurateConfig) -> Tally:
    """Write the selection, and the page where one is asked for, and say what they came to.

    Raises:
        UserError: nothing is committed, a shard is damaged, a file cannot be written, or a page is
            asked for and the extra `demo` is not installed.
    """
    page = curation.template() if config.html else None  # fails before the work, if it does
    tally = select(config.shards, config.out, PRESETS[config.policy].with_changes(config.limits))
    _print(config, tally)
    if config.html and page:
        path = curation.write(tally, config.html, config.policy, page)
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return tally


def _print(config: CurateConfig, tally: Tally) -> None:
    console = Console()
    table = Table("corpus", "clips", "ok", "selected", "of ok")
    for name, counts in sorted(tally.corpora.items()):
        share = f"{counts['selected'] / counts['ok']:.1%}" if counts["ok"] else "-"
        table.add_row(
            escape(name), *(str(counts[what]) for what in ("clips", "ok", "selected")), share
        )
    console.print(table)
    if tally.reasons:
        why = Column("left out: first reason", overflow="fold")
        table = Table(why, "clips", "all that fail it", "limit")
        limits = {limit.reason: limit for limit in tally.limits}
        for reason, count in tally.reasons.most_common():
            limit = limits.get(reason)
            bound = limit.text if limit else ""
            every = str(tally.failing[reason]) if limit else ""
            table.add_row(escape(reason), str(count), every, bound)
        console.print(table)
    for word in ("verb", "object"):
        _print_words(console, word, tally.before[word], tally.after[word])
    untested = [one.reason for one in tally.limits if tally.missing[one.score] == tally.total("ok")]
    if untested and tally.total("ok"):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in untested)
        console.print(f"not tested, since no clip has the score: {names}", highlight=False)
    chosen, good, clips = (tally.total(what) for what in ("selected", "ok", "clips"))
    console.print(
        f"selected {chosen} of {good} trajectories ({clips} clips) by policy {config.policy}: "
        f"{config.out}",
        highlight=False,
        soft_wrap=True,
    )


def _print_words(console: Console, word: str, before: Counter[str], after: Counter[str]) -> None:
    table = Table(f"{word} ({len(after)} of {len(before)} kinds kept)", "ok", "selected")
    for name, count in before.most_common(_TOP):
        table.add_row(escape(name) or "(none)", str(count), str(after[name]))
    console.print(table)
