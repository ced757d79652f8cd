"""What a reproduction found, for people: a page of Markdown with a picture, and a short table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ego_ops.errors import UserError
from ego_ops.storage_errors import unwritable
from sim_eval import provenance
from sim_eval.statistics import Estimate
from workflows.reproduce_findings import Arm, Contrast, Findings
from workflows.reproduce_truth import Missed

PAGE, PICTURE = "reproduction.md", "reproduction.png"


def write(out: Path, found: Findings, missed: Sequence[Missed], numbers: Mapping[str, Any]) -> Path:
    """Write the page and its picture.

    Args:
        out: the reproduction's folder.
        missed: how far the trajectories are from the truth.
        numbers: `counts` of clips and the `flags`.

    Returns:
        The page.

    Raises:
        UserError: they cannot be written, or Matplotlib is not there.
    """
    page = out / PAGE
    try:
        _draw(found, out / PICTURE)
        page.write_text(_text(out, found, missed, numbers), encoding="utf-8")
    except OSError as error:
        raise unwritable(str(page), error) from error
    return page


def table(found: Findings) -> str:
    """Success and action error of each way to train, and what differs, as Markdown."""
    lines = [
        "| pre-training | success, by seed | mean over seeds (95 %) | error of actions (95 %) |",
        "|---|---|---|---|",
        *(_row(arm) for arm in found.arms),
    ]
    return "\n".join([*lines, "", *(_sentence(one) for one in found.contrasts)])


def _row(arm: Arm) -> str:
    by_seed = ", ".join(f"{one.successes}/{one.episodes}" for one in arm.scores)
    return (
        f"| {arm.name} | {by_seed} | {_percent(arm.rate)} | "
        f"{_interval(arm.action_error, '{:.3f}')} |"
    )


def _sentence(one: Contrast) -> str:
    pairs = one.pairs
    return (
        f"{one.name} less from scratch: success {_percent(one.difference, '+')} points over seeds; "
        f"of {pairs.episodes} episodes it alone solves {pairs.only_a}, from scratch alone "
        f"{pairs.only_b} (McNemar p = {one.p:.2g}); error of actions "
        f"{_interval(one.action_error, '{:+.3f}')}: {_verdict(one.difference)}."
    )


def _verdict(difference: Estimate) -> str:
    """Only what differs more than seeds do is called a difference."""
    if math.isnan(difference.low):
        return "one seed tells nothing of how much seeds differ"
    if difference.low > 0:
        return "better, beyond what seeds differ"
    if difference.high < 0:
        return "worse, beyond what seeds differ"
    return "no difference beyond what seeds differ"


def _percent(value: Estimate, sign: str = "") -> str:
    return _interval(Estimate(*(100 * one for one in value)), f"{{:{sign}.1f}}") + " %" * (not sign)


def _interval(value: Estimate, form: str) -> str:
    if math.isnan(value.low):
        return form.format(value.value)
    return f"{form.format(value.value)} ({form.format(value.low)} to {form.format(value.high)})"


def _truth(missed: Sequence[Missed]) -> str:
    """A table: how good the trajectories are that policies are pre-trained on."""
    rows = [
        f"| {one.name} | {one.clips} | {_both(one.position, 100)} | {_both(one.end, 100)} | "
        f"{_both(one.turn, math.degrees(1))} |"
        for one in missed
    ]
    head = "| clips | | path, cm | its end, cm | rotation, degrees |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def _both(value: tuple[float, float], scale: float) -> str:
    return f"{scale * value[0]:.1f} ({scale * value[1]:.1f})"


def _text(out: Path, found: Findings, missed: Sequence[Missed], numbers: Mapping[str, Any]) -> str:
    counts, flags = numbers["counts"], numbers["flags"]
    made = provenance.recorded(str(out / "evaluation"))
    versions = ", ".join(f"{name} {text}" for name, text in sorted(made[-1].versions.items()))
    return f"""# Does pre-training on first-person video help? In miniature

![Success and error of actions, each dot a seed]({PICTURE})

{table(found)}

Each policy was fine-tuned on {flags["demonstrations"]} demonstrations of each task, from random
weights or from a pre-training on the clips, and so with each seed. All were
evaluated on the same episodes, of which none was demonstrated. Intervals are Student's, over seeds:
where the mean over many would lie. McNemar's test takes the trained policies as given, so that a
small p with an interval across zero says that these runs differ, not that this way of training
does.
The error of actions is the normalised one on demonstrations that were held out; less is better.

Of {counts["clips"]} clips rendered, {counts["ok"]} gave a trajectory and {counts["selected"]} were
selected. How far the trajectories are from what was rendered, medians over clips (90th percentile):

{_truth(missed)}

The model is tiny (0.8 million parameters), the clips are rendered and few, and
the robot is simulated: whether pre-training helps a full-size π0 does not follow from this.

Success over all episodes, with Wilson's interval: {_pooled(found.arms)}.

- [Every episode, with videos](evaluation/report.html)
- Made with: `{json.dumps(dict(flags))}`
- {versions}
"""


def _pooled(arms: Sequence[Arm]) -> str:
    return "; ".join(f"{arm.name} {_percent(arm.pooled)}" for arm in arms)


def _draw(found: Findings, path: Path) -> None:
    """A dot for each seed, a bar for the mean, seeds joined by lines."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "matplotlib is missing, pictures need it: pip install 'egoscaler-ray[demo]'"
        ) from error
    figure = Figure(figsize=(8, 3.4), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [arm.name for arm in found.arms]
    rates = [[100 * one.successes / one.episodes for one in arm.scores] for arm in found.arms]
    errors = [[one.action_error for one in arm.scores] for arm in found.arms]
    _dots(left, names, rates, "success, %")
    left.set_ylim(-2, 102)
    _dots(right, names, errors, "error of actions, held out")
    right.set_ylim(bottom=0)
    figure.savefig(path, format="png")


def _dots(axes: Any, names: Sequence[str], values: Sequence[Sequence[float]], label: str) -> None:
    for seed in zip(*values, strict=True):
        axes.plot(range(len(names)), seed, "o-", color="#1f77b4", alpha=0.6, linewidth=1)
    means = [sum(some) / len(some) for some in values]
    axes.plot(range(len(names)), means, "_", color="black", markersize=28, markeredgewidth=2)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.3)
