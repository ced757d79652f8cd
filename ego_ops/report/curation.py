"""The page of a selection: a histogram of every score, with what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ego_ops.errors import UserError
from ego_ops.quality import SCORES
from ego_ops.quality_policy import Bound, Floats
from ego_ops.quality_select import Tally
from ego_ops.report import histogram, units

if TYPE_CHECKING:
    from jinja2 import Template

_WORDS = 20
"""Verbs, and objects, that are listed."""


@dataclass(frozen=True)
class Card:
    """One score."""

    name: str
    title: str
    unit: str
    meaning: str
    picture: str
    """An `<svg>` element."""
    limits: Sequence[str]
    """Each with the share of trajectories that fail it."""
    medians: str


@dataclass(frozen=True)
class Line:
    """One thing that is counted, before and after."""

    name: str
    note: str
    before: int
    after: int
    width: float
    """Of its bar, per cent of the longest."""
    inner: float
    """Of what is left of it, likewise."""


def template() -> Template:
    """The page's template; raises UserError where the extra `demo` is not installed."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ModuleNotFoundError as error:
        raise UserError("--html needs jinja2: pip install 'egoscaler-ray[demo]'") from error
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = resources.files("ego_ops.report").joinpath("curation.html").read_text("utf-8")
    return environment.from_string(text)


def write(tally: Tally, out: Path, policy: str, page: Template) -> Path:
    """Write one HTML file that needs no other.

    Args:
        policy: the preset's name.
        page: see `template`.

    Raises:
        UserError: the file cannot be written.
    """
    cards = _cards(tally)
    limited = [card for card in cards if card.limits]
    html = page.render(
        tally=tally,
        policy=policy,
        limits={k: v for k, v in asdict(tally.policy).items() if v is not None},
        totals={what: tally.total(what) for what in ("clips", "ok", "selected")},
        corpora=_corpora(tally),
        reasons=_reasons(tally),
        groups=[("Scores with a limit", limited)]
        + [("Other scores", [card for card in cards if not card.limits])],
        words=[(word, _words(tally.before[word], tally.after[word])) for word in _KINDS],
        absent=[name for name in SCORES if tally.missing[name] == tally.total("ok")],
        sampled=len(tally.sample.scores()[1]),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, "utf-8")
    except OSError as error:
        raise UserError(f"--html {out}: cannot be written ({error.strerror})") from error
    return out


_KINDS = ("verb", "object")


def _cards(tally: Tally) -> list[Card]:
    """Scores that any clip has: those with limits first, in the order of the limits."""
    scores, chosen = tally.sample.scores()
    order = list(dict.fromkeys([*(limit.score for limit in tally.limits), *SCORES]))
    cards = []
    for name in order:
        there = np.isfinite(scores[name])
        if there.any():
            limits = [limit for limit in tally.limits if limit.score == name]
            cards.append(_card(tally, name, scores[name][there], chosen[there] > 0, limits))
    return cards


def _card(
    tally: Tally, name: str, values: Floats, chosen: np.ndarray, limits: Sequence[Bound]
) -> Card:
    unit, factor = units.unit(name)
    shown, yes_no = values.astype(float) * factor, name.startswith("is_")
    low = max((limit.low for limit in limits), default=-np.inf) * factor
    high = min((limit.high for limit in limits), default=np.inf) * factor
    return Card(
        name=name,
        title=units.title(name),
        unit=unit,
        meaning=SCORES[name],
        picture=histogram.svg(shown, chosen, low, high, SCORES[name], yes_no),
        limits=[_limit(tally, limit, factor) for limit in limits],
        medians=_medians(name, values, chosen, tally),
    )


def _limit(tally: Tally, limit: Bound, factor: float) -> str:
    share = tally.failing[limit.reason] / max(tally.total("ok"), 1)
    wanted = Bound("", "", limit.low * factor, limit.high * factor).text
    kind = "fence " if limit.reason.startswith("fence_") else ""
    return f"{kind}{wanted}: {share:.1%} out"


def _medians(name: str, values: Floats, chosen: np.ndarray, tally: Tally) -> str:
    text = f"median {units.pretty(name, float(np.median(values)))}"
    if chosen.any():
        text += f", of selected {units.pretty(name, float(np.median(values[chosen])))}"
    missing = tally.missing[name] / max(tally.total("ok"), 1)
    return f"{text}, {missing:.1%} have none" if missing else text


def _corpora(tally: Tally) -> list[tuple[str, Counter[str]]]:
    return sorted(tally.corpora.items())


def _reasons(tally: Tally) -> list[Line]:
    """Reasons for which clips were left out: clips whose first it is, and all that fail it."""
    limits = {limit.reason: limit for limit in tally.limits}
    names = [*tally.reasons, *(n for n in tally.failing if n not in tally.reasons)]
    lines = []
    for name in names:
        once = tally.reasons[name]
        every = max(tally.failing[name], once)
        if every:
            lines.append((name, limits[name].text if name in limits else "", every, once))
    return _lines(sorted(lines, key=lambda line: (-line[3], -line[2])))


def _words(before: Counter[str], after: Counter[str]) -> list[Line]:
    top = before.most_common(_WORDS)
    return _lines([(name or "(none)", "", count, after[name]) for name, count in top])


def _lines(found: Sequence[tuple[str, str, int, int]]) -> list[Line]:
    most = max((before for _, _, before, _ in found), default=1)
    return [
        Line(name, note, before, after, 100 * before / most, 100 * after / most)
        for name, note, before, after in found
    ]
