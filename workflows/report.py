"""A page to look at: counts, errors where the truth is known, and clips with their trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ego_ops import report


@dataclass(frozen=True)
class ReportConfig:
    """Write an HTML page that shows what an extraction found."""

    shards: str = "shards"
    """Folder (or fsspec URL) of the shards, from `extract`."""
    out: Path = Path("report.html")
    """The HTML file: complete in itself, about 0.5 MB for each clip shown."""
    truth: Path | None = None
    """Folder of true poses, {video_uid}.npz or {corpus}/truth/{video_uid}.npz: the demo's."""
    limit: int = 24
    """Most clips to show; the sums are over all."""


def run(config: ReportConfig) -> Path:
    """Write the page and say where it is.

    Raises:
        UserError: nothing is committed, the truth is of other clips, the file cannot be written,
            or the extra `demo` is not installed.
    """
    path = report.write(config.shards, config.out, config.truth, config.limit)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return path
