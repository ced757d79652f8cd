"""How far the extracted trajectories are from what was rendered: those selected, those left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from ego_ops.report.survey import survey

_FIGURES = "position_median_m", "position_last_m", "rotation_median_rad"


class Missed(NamedTuple):
    """Errors over some clips, each (median, 90th percentile)."""

    name: str
    clips: int
    position: tuple[float, float]
    """Metres: of a clip's steps the median."""
    end: tuple[float, float]
    """Metres, at a clip's end."""
    turn: tuple[float, float]
    """Radians: of a clip's steps the median."""


def missed(shards: str, truth: Path, selection: Path) -> list[Missed]:
    """Of the clips that were extracted, those that were selected and those that were not.

    Args:
        truth: folder of what was rendered, see `ego_ops.report.measure`.
        selection: of `egoscaler curate`.

    Raises:
        UserError: nothing is committed, or there is no truth.
    """
    figures = survey(shards, str(truth)).figures
    table = pq.read_table(selection, columns=["clip_id", "selected"])
    chosen = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return list(_groups(figures, chosen))


def _groups(figures: dict[str, dict[str, float]], chosen: dict[str, bool]) -> Iterator[Missed]:
    for name, wanted in (("selected", True), ("left out", False)):
        rows = [
            [found[figure] for figure in _FIGURES]
            for clip, found in figures.items()
            if chosen.get(clip, False) == wanted
        ]
        if rows:
            middle, most = np.quantile(np.array(rows), [0.5, 0.9], axis=0).tolist()
            yield Missed(name, len(rows), *zip(middle, most, strict=True))
