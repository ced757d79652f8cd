"""The policies of a reproduction: which there are, and their training, several at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ego_ops.processes import in_processes
from workflows import cluster, pretrain
from workflows.reproduce_findings import SCRATCH

if TYPE_CHECKING:
    from workflows.reproduce import ReproduceConfig

_AT_ONCE = 4
"""Each takes 2 to 3 GB of memory, its Ray's among them."""


class Plan(NamedTuple):
    """Where one policy comes from."""

    arm: str
    seed: int
    shards: bool
    selection: bool


def plans(seeds: Sequence[int], extracted: int, selected: int) -> Iterator[Plan]:
    """Which policies to train.

    Args:
        extracted: clips that gave a trajectory.
        selected: those of them that curation keeps.
    """
    arms = [(SCRATCH, False, False)]
    if extracted:
        arms.append(("all clips", True, False))
    else:
        print("no clip gave a trajectory: there is nothing to pre-train on", flush=True)
    if 0 < selected < extracted:
        arms.append(("curated", True, True))
    else:
        said = f"curation selects {selected} of {extracted} clips: there is nothing to tell apart"
        print(said, flush=True)
    for seed in seeds:
        for arm, shards, selection in arms:
            yield Plan(arm, seed, shards, selection)


def trained(config: ReproduceConfig, wanted: Sequence[Plan]) -> list[Path]:
    """Train what is not trained yet, each in a process of its own: so small a model gains little
    from more than a core. The folders of the fine-tunings.

    Raises:
        UserError: a training failed; the others are ended, and go on when this is called again.
    """
    at_once = min(config.workers or cluster.cores(), _AT_ONCE, len(wanted))
    cpus = max(1, cluster.cores() // at_once)
    folders = [Path()] * len(wanted)
    with cluster.interruptible(str(config.out)):
        calls = [(_train, config, plan, cpus) for plan in wanted]
        for number, folder in in_processes(calls, at_once):
            folders[number] = folder
    return folders


def _train(config: ReproduceConfig, plan: Plan, cpus: int) -> Path:
    """Pre-train, unless from scratch, and fine-tune. The folder of the fine-tuning."""
    name = f"{plan.arm.replace(' ', '-')}-{plan.seed}"
    options = [f"seed={plan.seed}"]
    if plan.shards:
        more = [f"sources.shards.selection={config.selection}"] if plan.selection else []
        # None is held out: what is asked is what pre-training does for the robot.
        more = [*options, *more, "held_out=0"]
        shared = _shared(config, f"pretrained/{name}", config.pretrain_steps, more, cpus)
        policy = pretrain.run(pretrain.PretrainConfig("pi0_tiny", data=config.shards, **shared))
        options.append(f"initial={policy.absolute()}")
    shared = _shared(config, f"policies/{name}", config.finetune_steps, options, cpus)
    robot = (f"robot={config.recorded}",)
    policy = pretrain.run(pretrain.PretrainConfig("pi0_tiny_finetune", robot_data=robot, **shared))
    return policy.parent


def _shared(
    config: ReproduceConfig, name: str, steps: int, options: Sequence[str], cpus: int
) -> dict[str, Any]:
    """Flags of `train` that all runs have."""
    every = max(1, steps // 5)
    return {
        "out": str(config.out / name),
        "steps": steps,
        "batch": config.batch,
        "option": (*options, f"validate_every={every}", f"save_every={every}"),
        "cpus_per_worker": cpus,
        "address": config.address,
        "quiet": True,
    }
