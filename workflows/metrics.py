"""Metrics of a run, on the Prometheus port of every Ray node that commits (Ray puts `ray_` before
their names). Shards are the truth: a process that dies takes its last ten seconds of counts along,
and a clip that is tried again counts again.

    egoscaler_clips_total{corpus, status, reason, error_class}    clips committed
    egoscaler_bytes_total                                         of Parquet written
    egoscaler_stage_seconds{stage}                                perceive, solve: mean of a unit's
                                                                  clips; commit: of the unit
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ego_ops.work import Done

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Histogram

_BOUNDARIES_S = [0.01, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000]


def committed(done: Done) -> None:
    """Count a unit. One call a unit, not a clip, so that it costs nothing; from a Ray worker."""
    clips, size, seconds = _metrics()
    for (corpus, status, label), count in done.counts.items():
        tags = {
            "corpus": corpus,
            "status": status,
            "reason": label if status == "rejected" else "",
            "error_class": label if status == "failed" else "",
        }
        clips.inc(count, tags)
    total = done.counts.total()
    if not total:
        return
    size.inc(done.bytes)
    for stage, spent in done.seconds.items():
        seconds.observe(spent if stage == "commit" else spent / total, {"stage": stage})


@functools.cache
def _metrics() -> tuple[Counter, Counter, Histogram]:
    from ray.util import metrics

    return (
        metrics.Counter(
            "egoscaler_clips_total",
            "Clips committed.",
            ("corpus", "status", "reason", "error_class"),
        ),
        metrics.Counter("egoscaler_bytes_total", "Bytes of Parquet committed."),
        metrics.Histogram(
            "egoscaler_stage_seconds",
            "Seconds that a clip takes in perceive and solve, a unit in commit.",
            _BOUNDARIES_S,
            ("stage",),
        ),
    )
