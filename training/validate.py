"""Validation on held-out windows: the loss, and how far sampled actions are from recorded ones.

Windows, noise and times are the same every time, so that what one step gives compares with another.

Of every source there are, below `validation/NAME/`:

    loss                       mean squared error of the velocities, over recorded steps and the
                               numbers that the source has
    action_error               mean absolute error of sampled actions, normalised as for training,
                               over the same
    action_error_repeat, ..._mean
                               the same of two policies that see nothing: one repeats the action
                               recorded just before the window (at the start of a clip, the action
                               of standing still: of robot data zeros), the other always does the
                               mean of all actions that are trained on

and of shards, whose actions are an object's steps in its own frame, as means over recorded steps:

    translation_m              distance of the step's translation from the recorded one
    rotation_rad               angle between the step's rotation and the recorded one
    path_translation_m         distance of where the chunk's steps have led to from where the
                               recorded ones have, from the same start (average displacement error)
    path_rotation_rad          angle between both there
    end_translation_m, end_rotation_rad
                               the same at each window's last recorded step alone (final
                               displacement error), as means over windows

each again with `_repeat` and `_mean`. `validation/loss`, `validation/action_error` and that with
`_repeat` and `_mean` are means over sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from ego_ops.geometry.actions import IDENTITY
from training.action_error import Motions, apart, motions, path, sizes
from training.config import SourceConfig
from training.data.mixture import Mixer
from training.data.norm import NormStats, unnormalise
from training.data.sample import Source, Window
from training.parallel import bare
from training.validation_windows import Pick, chosen, read

POLICIES = ("", "_repeat", "_mean")
"""Suffixes: the model, and the two that see nothing."""
_OVERALL = ("loss", *(f"action_error{policy}" for policy in POLICIES))
_BATCH = 32
Sums = dict[str, tuple[float, float]]
"""By figure, a sum and of how many."""


@dataclass(frozen=True)
class Held:
    """A held-out source."""

    number: int
    """In the mixture."""
    source: Source
    config: SourceConfig
    stats: NormStats

    @property
    def moves_object(self) -> bool:
        """Whether actions are an object's steps: see `ego_ops.geometry.actions`."""
        return self.config.kind == "shards"

    @property
    def still(self) -> NDArray[np.float64]:
        """(A,) the action before a clip's first."""
        return IDENTITY if self.moves_object else np.zeros(self.source.action_size)


class Case(NamedTuple):
    """A window and what the model does there; H actions of A numbers, in the source's units."""

    found: NDArray[np.float32]
    """(H, A) sampled."""
    recorded: NDArray[np.float32]
    """(H, A)."""
    valid: NDArray[np.bool_]
    """(H,) what was recorded."""
    before: NDArray[np.floating]
    """(A,) the action just before."""
    loss: tuple[float, float]
    """Sum of the squared errors of velocities, and of how many."""


def validate(
    model: nn.Module,
    sources: Sequence[Source],
    configs: Sequence[SourceConfig],
    stats: Sequence[NormStats],
    mixer: Mixer,
    samples: int,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> dict[str, float]:
    """Figures of held-out windows, the same on every worker. Every worker must call it.

    Args:
        model: what `training.parallel.wrap` gave, inside `Ema.swapped` and `parallel.autocast`.
        sources: what is held out of the mixture's sources; one at least.
        configs, stats: of each source.
        mixer: of these sources, not augmented.
        samples: windows to look at, over all sources and workers; of each source no more than it
            has.
        device: of this worker.
        rank, world: this worker, and how many there are.

    Raises:
        UserError: a source cannot be read.
    """
    sums: Sums = {}
    each = math.ceil(samples / len(sources))
    for number, source in enumerate(sources):
        held = Held(number, source, configs[number], stats[number])
        picks = chosen(source.windows(), each, number)
        cases = examined(model, held, picks, mixer, device, rank, world)
        found = figures(cases, held)
        sums |= {f"validation/{source.name}/{name}": value for name, value in found.items()}
    means = _means(sums, device, world)
    for name in _OVERALL:
        all_of_it = [means[f"validation/{source.name}/{name}"] for source in sources]
        means[f"validation/{name}"] = sum(all_of_it) / len(all_of_it)
    return means


def examined(
    model: nn.Module,
    held: Held,
    picks: Sequence[Pick],
    mixer: Mixer,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> list[Case]:
    """A worker's share of windows, one stretch of them; every worker calls the model as often."""
    each = math.ceil(len(picks) / world)
    mine = range(rank * each, (rank + 1) * each)
    cases: list[Case] = []
    for begin in range(mine.start, mine.stop, _BATCH):
        numbers = range(begin, min(begin + _BATCH, mine.stop))
        some = [picks[min(number, len(picks) - 1)] for number in numbers]
        seen = list(read(held.source, some, held.still))
        found, losses = _asked(model, held, numbers, [window for window, _ in seen], mixer, device)
        made = [
            Case(action, window.actions, window.valid, before, loss)
            for action, (window, before), loss in zip(found, seen, losses, strict=True)
        ]
        cases += made[: max(0, len(picks) - begin)]
    return cases


def figures(cases: Iterable[Case], held: Held) -> Sums:
    """What the module's text names, of one source; of no case the same names."""
    cases = list(cases)
    losses = np.array([case.loss for case in cases]).reshape(-1, 2).sum(0).tolist()
    sums: Sums = {"loss": (losses[0], losses[1])}
    width, horizon = held.source.action_size, len(cases[0].valid) if cases else 1
    shape = len(cases), horizon, width
    truth = np.reshape([case.recorded for case in cases], shape)
    valid = np.reshape([case.valid for case in cases], shape[:2]).astype(bool)
    before = np.reshape([case.before for case in cases], (len(cases), 1, width))
    does = {
        "": np.reshape([case.found for case in cases], shape),
        "_repeat": np.broadcast_to(before, shape),
        "_mean": np.broadcast_to(held.stats.actions.mean, shape),
    }
    for policy, actions in does.items():
        size = sizes(actions, truth, held.stats.actions, held.config.normalise)
        sums[f"action_error{policy}"] = _sum(size, valid)
        if held.moves_object:
            sums |= _object_errors(motions(actions), motions(truth), valid, policy)
    return sums


def _object_errors(found: Motions, truth: Motions, valid: NDArray[np.bool_], policy: str) -> Sums:
    steps, paths = apart(found, truth), apart(path(found), path(truth))
    # Recorded steps come before what is filled in: the last is where no recorded one follows.
    last = valid & ~np.pad(valid[:, 1:], ((0, 0), (0, 1)))
    return {
        f"translation_m{policy}": _sum(steps.translation, valid),
        f"rotation_rad{policy}": _sum(steps.rotation, valid),
        f"path_translation_m{policy}": _sum(paths.translation, valid),
        f"path_rotation_rad{policy}": _sum(paths.rotation, valid),
        f"end_translation_m{policy}": _sum(paths.translation, last),
        f"end_rotation_rad{policy}": _sum(paths.rotation, last),
    }


def _asked(
    model: nn.Module,
    held: Held,
    numbers: range,
    windows: Sequence[Window],
    mixer: Mixer,
    device: torch.device,
) -> tuple[NDArray[np.float32], list[tuple[float, float]]]:
    """Sampled actions (B, H, A) of windows, and of each what `Case.loss` is."""
    samples = [
        mixer.sample(number, held.number, window)
        for number, window in zip(numbers, windows, strict=True)
    ]
    batch = mixer.batch(samples).to(device)
    pi0 = bare(model)
    with torch.no_grad():
        errors = (pi0(batch) * batch.action_mask).sum((1, 2))
        actions = pi0.sample(batch.observation, batch.noise)
    terms = batch.action_mask.sum((1, 2))
    real = actions[..., : held.source.action_size].float().cpu().numpy()
    found = unnormalise(real, held.stats.actions, held.config.normalise)
    return found, list(zip(errors.tolist(), terms.tolist(), strict=True))


def _sum(values: NDArray[np.float64], which: NDArray[np.bool_]) -> tuple[float, float]:
    return float(values[which].sum()), float(which.sum())


def _means(sums: Sums, device: torch.device, world: int) -> dict[str, float]:
    """Over all workers, whose sums have the same names in the same order."""
    table = torch.tensor(list(sums.values()), dtype=torch.float64, device=device)
    if world > 1:
        dist.all_reduce(table)
    total, count = table.unbind(1)
    return dict(zip(sums, (total / count).tolist(), strict=True))
