"""A picture of a run's validation: its error of actions against two policies that see nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ego_ops.errors import UserError
from ego_ops.storage_errors import unwritable

_ERROR = "validation/action_error"
_STYLES = {
    "": ("#1f77b4", "-", "policy"),
    "_repeat": ("#d62728", "--", "repeat the last action"),
    "_mean": ("#7f7f7f", ":", "mean action"),
}


def plot(metrics: str | Path, out: str | Path) -> None:
    """Draw the validations that a run's `metrics.jsonl` has (see `training.log`) as a PNG.

    Raises:
        UserError: there are none, the file cannot be read, or the picture cannot be written.
    """
    records = [record for record in _read(metrics) if record.get(_ERROR) is not None]
    if not records:
        raise UserError(
            f"{metrics}: no validation in it; train with held_out above 0, and validate_every "
            "below the run's steps"
        )
    draw({"held-out windows": records}, out)


def draw(curves: Mapping[str, Iterable[Mapping[str, Any]]], out: str | Path) -> None:
    """Draw validations: one line of the policy for each of `curves`, and the first's baselines.

    Args:
        curves: by what they are of, records with `step` and what `training.validate` gives.

    Raises:
        UserError: Matplotlib is not there, or the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "matplotlib is missing, pictures need it: pip install 'egoscaler-ray[demo]'"
        ) from error
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (what, records) in enumerate(curves.items()):
        rows = list(records)
        steps = [row["step"] for row in rows]
        for policy, (colour, line, name) in _STYLES.items():
            if policy and number:
                continue
            values = [row[_ERROR + policy] for row in rows]
            label = name if policy else f"policy, {what}"
            shade, marker = 0.45 if number else 1.0, "" if policy else "o"
            axes.plot(steps, values, line, color=colour, alpha=shade, label=label, marker=marker)
    axes.set(xlabel="training step", ylabel="mean absolute error of actions, normalised")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    try:
        figure.savefig(out, format="png")
    except OSError as error:
        raise unwritable(str(out), error) from error


def _read(path: str | Path) -> list[dict[str, Any]]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot read a run's numbers ({error})") from error
