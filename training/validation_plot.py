"""A picture of a run's validation: its error of actions against two policies that see nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ego_ops.errors import UserError
from ego_ops.storage_errors import unwritable

_ERROR = "validation/action_error"
STYLES = {
    "": ("#1f77b4", "-", "policy"),
    "_repeat": ("#d62728", "--", "repeat the last action"),
    "_mean": ("#7f7f7f", ":", "mean action"),
}
"""Of the policies of `training.validate`: colour, line, name."""


def plot(metrics: str | Path, out: str | Path) -> None:
    """Draw the validations that a run's `metrics.jsonl` has (see `training.log`) as a PNG.

    Raises:
        UserError: there are none, the file cannot be read, the picture cannot be written, or
            Matplotlib is not there.
    """
    records = validations(metrics)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "matplotlib is missing, pictures need it: pip install 'egoscaler-ray[demo]'"
        ) from error
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    draw(figure.add_subplot(), records)
    try:
        figure.savefig(out, format="png")
    except OSError as error:
        raise unwritable(str(out), error) from error


def validations(metrics: str | Path) -> list[dict[str, Any]]:
    """The records of a run's `metrics.jsonl` that are of a validation: of one at least.

    Raises:
        UserError: there are none, or the file cannot be read.
    """
    records = [record for record in _read(metrics) if record.get(_ERROR) is not None]
    if not records:
        raise UserError(
            f"{metrics}: no validation in it; train with held_out above 0, and validate_every "
            "below the run's steps"
        )
    return records


def draw(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    """Draw validations on Matplotlib's axes: what `validations` returns."""
    steps = [record["step"] for record in records]
    for policy, (colour, line, name) in STYLES.items():
        values = [record[_ERROR + policy] for record in records]
        marker = "" if policy else "o"
        axes.plot(steps, values, line, color=colour, label=name, marker=marker, markersize=4)
    axes.set(xlabel="training step", ylabel="mean absolute error of actions, normalised")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _read(path: str | Path) -> list[dict[str, Any]]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot read a run's numbers ({error})") from error
