"""The page: what goes into `template.html`, and writing it."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from ego_ops.errors import UserError
from ego_ops.storage import LocalStore, Store, store
from sim_eval import provenance, results, statistics
from sim_eval.episode import ERRORS
from sim_eval.report import clips, figures, words
from sim_eval.report.clips import Shown
from sim_eval.report.tally import Comparison, Entry, Suite, compare, natural, tally

GAP = 0.05
"""Of success rates, that the page says the number of episodes for."""


@dataclass(frozen=True)
class Section:
    """One suite."""

    suite: Suite
    entries: Sequence[Entry]
    """The best first."""
    tasks: Mapping[str, str]
    """Instructions by name, in natural order."""
    seeds: str
    settings: str
    fps: str
    by_task: Markup
    over_time: Markup
    comparisons: Sequence[Comparison]
    clips: Mapping[str, Sequence[Shown]]
    """By policy."""
    films: int
    """Videos that there are."""


def write(results_url: str, out_html: str) -> str:
    """See `sim_eval.report.write_report`."""
    rows = results.table(results_url)
    if not len(rows):
        raise UserError(f"{results_url}: no results there; run `egoscaler evaluate` first")
    where = store(results_url)
    entries = tally(rows)
    totals = {entry.policy: _overall(entries, entry.policy) for entry in entries}
    policies = sorted(totals, key=lambda name: (-totals[name], natural(name)))
    palette = figures.Palette(policies)
    folder, name = _split(out_html)
    to_videos = _relative(where, folder)
    suites = list(dict.fromkeys(entry.suite for entry in entries))
    html = _template().render(
        url=where.url,
        ended=datetime.datetime.fromtimestamp(pc.max(rows["time"]).as_py(), datetime.UTC),
        sections=[_section(one, entries, rows, palette, where, to_videos) for one in suites],
        policies=policies,
        entries={(entry.suite, entry.policy): entry for entry in entries},
        key={name: Markup(mark) for name, mark in figures.key(policies, palette).items()},
        errors=[(entry, kind, found) for entry in entries for kind, found in entry.errors.items()],
        judged=sum(entry.episodes for entry in entries),
        errored=sum(entry.errored for entry in entries),
        says_nothing=ERRORS,
        named=sorted({(entry.policy, entry.given, entry.digest) for entry in entries}),
        made=provenance.recorded(results_url),
    )
    folder.write(name, html.encode())
    return out_html


def _section(
    suite: Suite, all_entries: Sequence[Entry], rows: pa.Table, palette: figures.Palette,
    where: Store, to_videos: str | None,
) -> Section:  # fmt: skip
    entries = [entry for entry in all_entries if entry.suite == suite]
    judged = [entry for entry in entries if entry.episodes]
    tasks = {n: task.instruction for entry in entries for n, task in entry.tasks.items()}
    tasks = dict(sorted(tasks.items(), key=lambda item: natural(item[0])))
    mine = rows.filter(
        pc.and_(pc.equal(rows["suite"], suite.name), pc.equal(rows["version"], suite.version))
    )
    return Section(
        suite=suite,
        entries=entries,
        tasks=tasks,
        seeds=_ranges(sorted(set(mine["seed"].to_pylist()))),
        settings="; ".join(sorted({entry.settings for entry in entries}, key=natural)),
        fps=", ".join(f"{fps:g}" for fps in sorted(set(mine["fps"].to_pylist()))),
        # Matplotlib escapes the texts that it draws.
        by_task=Markup(figures.by_task(judged, list(tasks), palette)) if judged else Markup(),
        over_time=Markup(figures.over_time(judged, palette)) if judged else Markup(),
        comparisons=compare(judged),
        clips={e.policy: clips.shown(where, to_videos, e) for e in entries if e.clips},
        films=sum(len(entry.clips) for entry in entries),
    )


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "percent": words.percent, "interval": words.interval, "points": words.points,
        "p": words.p_value, "many": "{:,}".format, "forest": _forest,
        "needed": _needed, "needed_alone": _needed_alone,
        "quartiles": statistics.quartiles, "tint": _tint,
    }  # fmt: skip
    text = resources.files("sim_eval.report").joinpath("template.html").read_text("utf-8")
    return environment.from_string(text)


def _needed(one: Comparison) -> int:
    """Episodes that would tell a gap of `GAP`, where as many differ as here."""
    discordant = (one.pairs.only_a + one.pairs.only_b) / one.pairs.episodes
    return statistics.episodes_to_tell(GAP, discordant)


def _needed_alone(entry: Entry) -> int:
    """Episodes that would tell another policy `GAP` away, before it is known."""
    rate = entry.pooled.value
    other = rate + GAP if rate + GAP <= 1 else rate - GAP
    return statistics.episodes_to_tell(GAP, statistics.discordant_if_unrelated(rate, other))


def _forest(one: Comparison) -> Markup:
    """A difference and its interval as a line, from -100 to 100 points."""
    value, low, high = (60 + 58 * part for part in one.gap)
    return Markup(
        '<svg class="forest" viewBox="0 0 120 14" width="120" height="14" aria-hidden="true">'
        f'<path class="zero" d="M2 7H118M60 0v14"/>'
        f'<path d="M{low:.1f} 7H{high:.1f}M{low:.1f} 4v6M{high:.1f} 4v6"/>'
        f'<circle cx="{value:.1f}" cy="7" r="2.2"/></svg>'
    )


def _tint(rate: float) -> str:
    """Background of a cell: the more of it, the more were solved."""
    return f"background:rgba(0,114,178,{0.32 * rate:.3f})"


def _overall(entries: Sequence[Entry], policy: str) -> float:
    """Mean of a policy's rates over its suites; below all others where it has none."""
    rates = [entry.mean for entry in entries if entry.policy == policy and entry.episodes]
    return sum(rates) / len(rates) if rates else -1.0


def _ranges(seeds: Sequence[int]) -> str:
    """0 to 49, 60."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ", ".join(f"{a} to {b}" if a < b else f"{a}" for a, b in runs)


def _split(out_html: str) -> tuple[Store, str]:
    folder, _, name = out_html.rpartition("/")
    if not name or os.path.isdir(out_html):
        raise UserError(f"{out_html}: a folder; give the HTML file in it")
    return store(folder or ("/" if out_html.startswith("/") else ".")), name


def _relative(where: Store, folder: Store) -> str | None:
    """The way from the page to the results, as an address; None if there is none."""
    if isinstance(where, LocalStore) and isinstance(folder, LocalStore):
        way = os.path.relpath(where.url, folder.url)
    elif type(where) is type(folder) and urlsplit(where.url)[:2] == urlsplit(folder.url)[:2]:
        there, here = (urlsplit(one.url).path or "/" for one in (where, folder))
        way = os.path.relpath(there, here)
    else:
        return None
    return "" if way == "." else quote(way) + "/"
