"""A corpus's own annotation files to a manifest: the frozen list of clips to work on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from ego_ops import corpora, manifest
from ego_ops.clip import Clip
from ego_ops.corpora import Skipped
from ego_ops.errors import UserError


@dataclass(frozen=True)
class IndexConfig:
    """List the clips of a corpus in a manifest, or add them to the one that is there."""

    corpus: str
    """Name of the corpus's format, e.g. egodex."""
    root: str
    """Folder that the corpus lies in, as published."""
    out: str = "manifest"
    """Folder (or fsspec URL) of the manifest. Clips that it has already stay as they are."""
    buckets: int | None = None
    """Number of files to spread the clips over, fixed at the first index. By default one for
    every 2,000 clips; say more where a small corpus comes first and large ones follow."""


def run(config: IndexConfig) -> manifest.Written:
    """Write the manifest and print what went in and what was left out.

    Raises:
        UserError: no such corpus, nothing usable at its root, or the manifest cannot be written.
    """
    skipped: Counter[str] = Counter()
    examples: dict[str, Skipped] = {}
    clips = _clips(corpora.get(config.corpus).index(config.root), skipped, examples)
    written = manifest.write(config.out, clips, config.buckets)
    _print(config, written, skipped, examples)
    if not written.new + written.known:
        raise UserError(f"{config.root}: not one usable clip of {config.corpus} in it")
    return written


def _clips(
    found: Iterable[Clip | Skipped], skipped: Counter[str], examples: dict[str, Skipped]
) -> Iterator[Clip]:
    """The clips of what a corpus gave; the rest is counted by reason, with one example each."""
    for one in found:
        if isinstance(one, Skipped):
            skipped[one.reason] += 1
            examples.setdefault(one.reason, one)
        else:
            yield one


def _print(
    config: IndexConfig,
    written: manifest.Written,
    skipped: Counter[str],
    examples: dict[str, Skipped],
) -> None:
    table = Table("what", "count", "for example", title=f"{config.corpus} -> {config.out}")
    table.add_row("new clips", str(written.new))
    table.add_row("known already", str(written.known))
    table.add_row("given twice", str(written.duplicates))
    for reason, count in skipped.most_common():
        example = examples[reason]
        table.add_row(f"left out: {reason}", str(count), f"{example.where}: {example.detail}")
    Console().print(table)
