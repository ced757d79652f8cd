"""The picture of `bench/learn.py`: errors over training and over time, and paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from training import validation_plot
from training.action_error import apart, motions, path
from training.validate import Case, Held
from training.validation_plot import STYLES

FPS = 20.0
"""Steps a second of shards that `egoscaler extract` made of video of 20 frames a second or more."""
_PATHS = 6


def draw(metrics: Path, cases: list[Case], held: Held, out: Path) -> None:
    """Three panels: the error over training, over the seconds ahead, and some paths.

    Args:
        metrics: of the run.
        cases: of held-out windows.
    """
    figure = Figure(figsize=(13, 4.2), dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    validation_plot.draw(left, validation_plot.validations(metrics))
    left.set_title("error of actions, held-out clips")
    _ahead(middle, cases, held)
    _paths(right, cases)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def _ahead(axes: Any, cases: list[Case], held: Held) -> None:
    """How far the paths are apart, by the seconds ahead."""
    truth = np.stack([case.recorded for case in cases])
    valid = np.stack([case.valid for case in cases])
    does = {
        "": np.stack([case.found for case in cases]),
        "_repeat": np.broadcast_to(np.stack([case.before for case in cases])[:, None], truth.shape),
        "_mean": np.broadcast_to(held.stats.actions.mean, truth.shape),
    }
    seconds = np.arange(1, truth.shape[1] + 1) / FPS
    led = path(motions(truth))
    for policy, (colour, line, name) in STYLES.items():
        away = apart(path(motions(does[policy])), led).translation
        mean = np.where(valid, away, 0).sum(0) / np.maximum(1, valid.sum(0))
        axes.plot(seconds, 100 * mean, line, color=colour, label=name)
    axes.set(xlabel="seconds ahead", ylabel="mean distance from the recorded path, cm")
    axes.set_title("where the chunk leads, held-out clips")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _paths(axes: Any, cases: list[Case]) -> None:
    """Recorded and sampled paths of the window in which the object moves farthest of each stretch
    of them, in the object's frame at the window's start: until it is moved, that is turned as the
    camera was at first."""
    ends = [path(motions(case.recorded[case.valid])).translation for case in cases]
    spans = np.array([np.linalg.norm(end[-1]) for end in ends])
    for number, stretch in enumerate(np.array_split(np.arange(len(cases)), _PATHS)):
        at = int(stretch[spans[stretch].argmax()])
        sampled = path(motions(cases[at].found[cases[at].valid])).translation
        for places, line, name in ((ends[at], "-", "recorded"), (sampled, "--", "sampled")):
            whole = 100 * np.vstack([np.zeros(3), places])
            label = None if number else name
            axes.plot(whole[:, 0], -whole[:, 1], line, color=f"C{number}", label=label)
    axes.plot(0, 0, "k.", markersize=8)
    axes.set(xlabel="x, cm", ylabel="-y, cm", aspect="equal")
    axes.set_title("recorded and sampled paths, held-out clips")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
