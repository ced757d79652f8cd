"""A corpus's own annotation files to a manifest: the frozen list of clips to work on."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ego_ops import corpora, manifest
from ego_ops.errors import UserError
from workflows.left_out import LeftOut


@dataclass(frozen=True)
class IndexConfig:
    """List the clips of a corpus in a manifest, or add them to the one that is there."""

    corpus: str
    """Name of the corpus's format, e.g. egodex."""
    root: str
    """Folder that the corpus lies in, as published."""
    out: str = "manifest"
    """Folder (or fsspec URL) of the manifest. Clips that it has already stay as they are; where
    the corpus has moved, they are found at the new place. What of the corpus was left out, and
    why, is listed there in left-out-<corpus>.csv.gz."""
    buckets: int | None = None
    """Number of files to spread the clips over, fixed at the first index. By default one for
    every 2,000 clips; say more where a small corpus comes first and large ones follow."""


def run(config: IndexConfig) -> manifest.Written:
    """Write the manifest, and say what went in and what was left out.

    Raises:
        UserError: no such corpus, nothing usable at its root, or the manifest cannot be written.
    """
    with LeftOut() as left_out:
        clips = left_out.clips(corpora.get(config.corpus).index(config.root))
        written = manifest.write(config.out, clips, config.buckets)
        path = left_out.save(config.out, config.corpus)
    _print(config, written, left_out)
    if left_out.counts:
        print(f"left out, one by one: {path}")
    if not written.new + written.known:
        raise UserError(f"{config.root}: not one usable clip of {config.corpus} in it")
    return written


def _print(config: IndexConfig, written: manifest.Written, left_out: LeftOut) -> None:
    table = Table("what", "count", "for example", title=f"{config.corpus} -> {config.out}")
    table.add_row("new clips", str(written.new))
    table.add_row("known already", str(written.known))
    table.add_row("of them moved", str(written.moved))
    table.add_row("given twice", str(written.duplicates))
    for reason, count in left_out.counts.most_common():
        example = left_out.examples[reason]
        text = escape(f"{example.where}: {example.detail}")
        table.add_row(f"left out: {reason}", str(count), text)
    Console().print(table)
