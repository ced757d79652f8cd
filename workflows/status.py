"""How far an extraction is: read from its commit records, without a cluster or a manifest."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from ego_ops import shards
from ego_ops.errors import UserError
from ego_ops.job import read_run
from ego_ops.manifest import Manifest
from ego_ops.storage import store

_RECENT_S = 600.0


@dataclass(frozen=True)
class StatusConfig:
    """Say how far an extraction is, and what became of its clips."""

    out: str = "shards"
    """Folder (or fsspec URL) of the shards."""
    json: bool = False
    """Print one JSON object."""
    failures: bool = False
    """List the failed clips, with what is known about each."""
    verify: bool = False
    """Read every shard and check its digest."""


def run(config: StatusConfig) -> dict[str, Any]:
    """Print the state of the shards at `config.out`, and return it.

    Raises:
        UserError: there are no shards, or `verify` found damaged ones.
    """
    head = read_run(store(config.out))
    if head is None:
        raise UserError(f"{config.out}: no shards there (no run.json); run `extract` first")
    state = _state(config.out, _totals(head))
    if config.failures:
        state["failures"] = _failures(config.out)
    print(json.dumps(state)) if config.json else _print(config, state)
    if config.verify and (bad := shards.damaged(config.out)):
        raise UserError(
            f"{config.out}: {len(bad)} damaged shards; delete them and run `extract` again: "
            + ", ".join(bad)
        )
    return state


def _totals(head: dict) -> dict[str, int]:
    """Clips by corpus: of the manifest as it is now, or as it was when work last began."""
    try:
        manifest = Manifest(head["manifest"]["url"])
    except UserError:
        return head["manifest"]["clips"]
    return manifest.totals if manifest.id == head["manifest"]["id"] else head["manifest"]["clips"]


def _state(out: str, totals: dict[str, int]) -> dict[str, Any]:
    corpora: dict[str, Counter[str]] = defaultdict(Counter)
    labels: dict[str, Counter[str]] = {"rejected": Counter(), "failed": Counter()}
    again = 0
    commits: Counter[float] = Counter()
    for _, view in shards.committed(out):
        for entry in view.values():
            corpora[entry.corpus][entry.status] += 1
            commits[entry.time] += 1
            again += entry.again
            if entry.status in labels:
                labels[entry.status][entry.label] += 1
    by_corpus = {}
    for name in sorted(totals.keys() | corpora.keys()):
        counts = corpora[name]
        clips = max(totals.get(name, 0), counts.total())
        statuses = {status: counts[status] for status in ("ok", "rejected", "failed")}
        by_corpus[name] = {"clips": clips, **statuses, "missing": clips - counts.total()}
    remaining = sum(row["missing"] for row in by_corpus.values()) + again
    return {
        "clips": sum(row["clips"] for row in by_corpus.values()),
        "remaining": remaining,
        "due_again": again,
        "corpora": by_corpus,
        "rejected": dict(labels["rejected"].most_common()),
        "failed": dict(labels["failed"].most_common()),
        "clips_per_s": _rate(commits),
    }


def _rate(commits: Counter[float]) -> float | None:
    """Clips per second over the last ten minutes in which anything was committed."""
    if len(commits) < 2:
        return None
    last = max(commits)
    recent = {when: clips for when, clips in commits.items() if when >= last - _RECENT_S}
    first = min(recent)
    if first == last:
        return None
    return round((sum(recent.values()) - recent[first]) / (last - first), 3)


def _failures(out: str) -> list[dict[str, Any]]:
    columns = ["clip_id", "corpus", "video_path", "error_class", "attempt", "detail"]
    return [row for rows in shards.read(out, columns, "failed") for row in rows.to_pylist()]


def _print(config: StatusConfig, state: dict[str, Any]) -> None:
    console = Console()
    table = Table("corpus", "clips", "ok", "rejected", "failed", "missing", title=config.out)
    for name, row in state["corpora"].items():
        table.add_row(name, *(str(value) for value in row.values()))
    console.print(table)
    for status in ("rejected", "failed"):
        counts = ", ".join(f"{label} {count}" for label, count in state[status].items())
        if counts:
            console.print(f"{status}: {counts}", highlight=False)
    rate = state["clips_per_s"]
    pace = f" at {rate:.3g} clips/s" if rate else ""
    due = f" ({state['due_again']} to be tried again)" if state["due_again"] else ""
    console.print(f"{state['remaining']} left{due}{pace}", highlight=False)
    for row in state.get("failures", []):
        console.print(
            f"{row['clip_id']} {row['corpus']} {row['video_path']} {row['error_class']} "
            f"(attempt {row['attempt']}): {row['detail']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
