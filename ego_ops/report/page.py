"""The page: what goes into `template.html`, and writing it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ego_ops.clip import Clip
from ego_ops.errors import UserError
from ego_ops.job import read_run
from ego_ops.manifest import Manifest
from ego_ops.quality import SCORES
from ego_ops.report import figures, measure, strip, units
from ego_ops.report import survey as surveys
from ego_ops.report.record import extraction
from ego_ops.report.survey import Seen, Survey
from ego_ops.storage import Store, store

_STATUSES = ("ok", "rejected", "failed")
_HEADLINES = {
    "position_median_m": "position error",
    "rotation_median_rad": "rotation error",
    "placement_m": "placement error",
    "camera_ate_m": "camera path error",
    "static_m": "error if nothing moved",
}
_TRUTH_COLUMNS = {
    "position_median_m": "position, median",
    "position_rmse_m": "RMSE",
    "position_max_m": "largest",
    "static_m": "if static",
    "rotation_median_rad": "rotation, median",
    "rotation_max_rad": "largest",
    "placement_m": "placement",
    "motion_scale": "scale",
    "camera_ate_m": "camera",
    "onset_s": "onset",
}
_SCORE_COLUMNS = {
    "displacement_m": "displacement",
    "turn_rad": "turn",
    "position_sd_m": "position SD",
    "rotation_sd_rad": "rotation SD",
    "reprojection_rmse_px": "reprojection",
    "inlier_share": "inliers",
    "observed_share": "observed",
    "object_points": "points",
}


@dataclass(frozen=True)
class Figure:
    """One number, ready to be read."""

    name: str
    meaning: str
    value: str


@dataclass(frozen=True)
class Card:
    """One clip."""

    row: Mapping[str, Any]
    label: str
    stills: Sequence[tuple[str, str, bool]]
    """Data URL, caption, whether the object was observed."""
    note: str
    """Why the pictures are not from the video, or empty."""
    plots: Markup
    errors: Sequence[Figure]
    scores: Sequence[Figure]
    cells: Sequence[Figure]
    """Its line in the table; empty where it has none."""


def write(shards_url: str, out: Path, truth_root: str | None, limit: int) -> Path:
    """See `ego_ops.report.write`."""
    if limit < 0:
        raise UserError(f"--limit {limit}: must not be negative")
    found = surveys.survey(shards_url, truth_root)
    where = store(shards_url)
    head = read_run(where)
    manifest = _manifest(head)
    truth = store(truth_root) if truth_root else None
    columns = _TRUTH_COLUMNS if found.figures else _SCORE_COLUMNS
    chosen = surveys.choose(found, limit)
    cards = [
        _card(one, row, _clip(manifest, one), truth, columns)
        for one, row in surveys.read(shards_url, chosen)
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = resources.files("ego_ops.report").joinpath("template.html").read_text("utf-8")
    html = environment.from_string(template).render(
        url=where.url,
        head=head,
        survey=found,
        groups=[(s, [c for c in cards if c.row["status"] == s]) for s in _STATUSES],
        shown=len(cards),
        classes=_classes(found),
        pace=_pace(found),
        accuracy=_overall(found, _HEADLINES) if found.figures else [],
        headings=[Figure(text, _meaning(name), "") for name, text in columns.items()],
        medians=_overall(found, columns),
        compared=len(found.figures),
        axis=f"{100 * strip.AXIS:g} cm",
    )  # fmt: skip
    return _save(out, html)


def _card(
    one: Seen, row: Mapping[str, Any], clip: Clip | None, truth: Store | None,
    columns: Mapping[str, str],
) -> Card:  # fmt: skip
    found = extraction(row)
    if found is None:
        stills, note = strip.plain_strip(clip)
        return Card(row, one.label, _embedded(stills), note, Markup(), [], [], [])
    known = measure.read_truth(truth, row["video_uid"], row["corpus"]) if truth else None
    compared = measure.compare(found, known) if known else None
    stills, note = strip.drawn_strip(found, clip, compared.poses if compared else None)
    errors = compared.figures if compared else {}
    values = {**found.quality, **errors}
    return Card(
        row=row,
        label=one.label,
        stills=_embedded(stills),
        note=note,
        # Matplotlib escapes the texts that it draws, and none of them is the corpus's.
        plots=Markup(figures.plots(found, compared)),
        errors=[_figure(name, errors.get(name)) for name in measure.FIGURES if name in errors],
        scores=[_figure(name, found.quality.get(name)) for name in SCORES],
        cells=[_figure(name, values.get(name)) for name in columns],
    )


def _embedded(stills: Sequence[strip.Still]) -> list[tuple[str, str, bool]]:
    return [
        (
            "data:image/jpeg;base64," + base64.b64encode(still.jpeg).decode(),
            f"{still.time:.2f} s",
            still.observed,
        )
        for still in stills
    ]


def _classes(found: Survey) -> list[tuple[str, str, int, float]]:
    """(status, reason or error class, clips, share), the most frequent first in each status."""
    ranked = sorted(found.counts.items(), key=lambda item: (_STATUSES.index(item[0][0]), -item[1]))
    return [(status, label, n, n / found.total) for (status, label), n in ranked]


def _pace(found: Survey) -> list[Figure]:
    """How quick the run was."""
    halves = {"perceive": "decoding and perception", "solve": "geometry"}
    pace = []
    for half, what in halves.items():
        mean, median = found.mean(f"seconds_{half}"), found.median(f"seconds_{half}")
        if mean is not None and median is not None:
            meaning = f"{what}: seconds of one worker a clip; mean {mean:.2f}, median {median:.2f}"
            pace.append(Figure(f"{half}, mean a clip", meaning, f"{mean:.2f} s"))
    if found.rate is not None:
        meaning = "clips by the time from the first one's start to the last commit, all workers"
        unit, rate = ("second", found.rate) if found.rate >= 1 else ("minute", 60 * found.rate)
        pace.append(Figure(f"clips per {unit}", meaning, units.digits(rate)))
    return pace


def _overall(found: Survey, names: Mapping[str, str]) -> list[Figure]:
    """Medians over all clips, not only over those shown."""
    return [
        Figure(text, _meaning(name), units.pretty(name, found.median(name)))
        for name, text in names.items()
    ]


def _figure(name: str, value: float | None) -> Figure:
    return Figure(units.title(name), f"{name}: {_meaning(name)}", units.pretty(name, value))


def _meaning(name: str) -> str:
    return SCORES.get(name) or measure.FIGURES[name]


def _manifest(head: Mapping[str, Any] | None) -> Manifest | None:
    """The manifest that the run worked on, None where it is not at hand."""
    if head is None:
        return None
    try:
        return Manifest(head["manifest"]["url"])
    except UserError:  # the page says of each clip why its video was not used
        return None


def _clip(manifest: Manifest | None, one: Seen) -> Clip | None:
    if manifest is None or one.bucket >= manifest.buckets:
        return None
    return next(iter(manifest.clips(one.bucket, one.clip_id, one.clip_id)), None)


def _save(out: Path, html: str) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, "utf-8")
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    return out
