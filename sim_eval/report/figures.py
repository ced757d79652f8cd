"""Plots as SVG that takes its text colour from the page around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ego_ops.report import svg
from sim_eval import statistics
from sim_eval.report.tally import Entry

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by the colour-blind too (Okabe and Ito)."""
MARKS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "--", ":")


class Palette:
    """The same colour, mark and line for a policy in every plot."""

    def __init__(self, policies: Sequence[str]):
        self._number = {policy: i for i, policy in enumerate(dict.fromkeys(policies))}

    def colour(self, policy: str) -> str:
        return COLOURS[self._number[policy] % len(COLOURS)]

    def mark(self, policy: str) -> str:
        return MARKS[(self._number[policy] + self._number[policy] // len(COLOURS)) % len(MARKS)]

    def line(self, policy: str) -> str:
        return _LINES[self._number[policy] // len(COLOURS) % len(_LINES)]


def by_task(entries: Sequence[Entry], order: Sequence[str], palette: Palette) -> str:
    """Success rates of a suite's policies, task by task, with their intervals: an `<svg>`."""
    with mpl.rc_context(svg.STYLE):
        room = 0.16 + 0.13 * len(entries)
        figure = Figure(figsize=(6.6, 0.75 + room * len(order)), layout="constrained")
        axes = figure.add_subplot()
        offsets = np.linspace(-0.3, 0.3, len(entries)) if len(entries) > 1 else [0.0]
        for entry, offset in zip(entries, offsets, strict=True):
            places = [i for i, task in enumerate(order) if task in entry.tasks]
            rates = [entry.tasks[order[i]].rate for i in places]
            value, low, high = 100 * np.array(rates, float).reshape(-1, 3).T
            axes.errorbar(
                value, np.array(places) + offset, xerr=[value - low, high - value],
                fmt=palette.mark(entry.policy), color=palette.colour(entry.policy),
                ms=4.5, lw=1.4, capsize=0,
            )  # fmt: skip
        for line in range(1, len(order)):
            axes.axhline(line - 0.5, color="#888888", lw=0.5, alpha=0.3)
        axes.set_yticks(range(len(order)), [_short(task) for task in order])
        axes.set_ylim(len(order) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(-2, 102)
        axes.set_xlabel("episodes solved (%)")
        axes.grid(axis="x", color="#888888", alpha=0.25, lw=0.6)
        return svg.element(figure)


def over_time(entries: Sequence[Entry], palette: Palette) -> str:
    """Share of a suite's episodes that are solved by a time, with the interval: an `<svg>`."""
    with mpl.rc_context(svg.STYLE):
        figure = Figure(figsize=(6.6, 3.5), layout="constrained")
        axes = figure.add_subplot()
        end = max(entry.span for entry in entries)
        for entry in entries:
            _curve(axes, entry, end, palette)
        axes.set_xlim(0, end)
        axes.set_ylim(0, 101)
        axes.set_xlabel("simulated time (s)")
        axes.set_ylabel("episodes solved by then (%)")
        axes.grid(color="#888888", alpha=0.2, lw=0.6)
        return svg.element(figure)


def _curve(axes: Axes, entry: Entry, end: float, palette: Palette) -> None:
    times, shares = statistics.solved_by(entry.times, entry.episodes)
    times, shares = np.append(times, end), np.append(shares, shares[-1])
    counts = np.rint(shares * entry.episodes).astype(int)
    bands = [statistics.wilson(int(count), entry.episodes) for count in counts]
    _, low, high = 100 * np.array(bands).T
    colour = palette.colour(entry.policy)
    axes.fill_between(times, low, high, step="post", color=colour, alpha=0.15, lw=0)
    axes.step(
        times, 100 * shares, where="post", color=colour, lw=1.7, ls=palette.line(entry.policy)
    )


def key(policies: Sequence[str], palette: Palette) -> Mapping[str, str]:
    """A small `<svg>` of its colour and mark for each policy."""
    shapes = {
        "o": '<circle cx="9" cy="6" r="4"/>',
        "s": '<rect x="5.5" y="2.5" width="7" height="7"/>',
        "^": '<path d="M9 1.5 13.5 10h-9z"/>',
        "D": '<path d="M9 1 14 6 9 11 4 6z"/>',
        "v": '<path d="M9 10.5 4.5 2h9z"/>',
        "P": '<path d="M7 1h4v3h3v4h-3v3h-4v-3h-3v-4h3z"/>',
    }
    dash = {"-": "", "--": ' stroke-dasharray="4 2"', ":": ' stroke-dasharray="1.5 1.5"'}
    return {
        policy: '<svg class="mark" width="18" height="12" aria-hidden="true"'
        f' fill="{palette.colour(policy)}" stroke="{palette.colour(policy)}">'
        f'<path d="M0 6h18" stroke-width="1.6"{dash[palette.line(policy)]}/>'
        f"{shapes[palette.mark(policy)]}</svg>"
        for policy in policies
    }


def _short(task: str) -> str:
    """A task's name in at most two lines."""
    if len(task) <= 30:
        return task
    breaks = [i + 1 for i, letter in enumerate(task) if letter in "_- "]
    middle = min(breaks or [len(task) // 2], key=lambda i: abs(i - len(task) // 2))
    lines = (task[:middle], task[middle:])
    return "\n".join(line if len(line) <= 36 else line[:20] + "…" + line[-15:] for line in lines)
