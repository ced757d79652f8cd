"""The paper's question in miniature: does pre-training on first-person video help a robot?

    rendered clips -> index, extract -> curate
    scripted demonstrations
    for each seed: pre-train (with and without curation) -> fine-tune, and once from scratch
    evaluate all of them on the same episodes -> what differs, and by how much between seeds

Every step is a command of its own with its own folder below `out`, and does what is left of it: so
this can be stopped and begun again at any time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ego_ops.errors import UserError
from ego_ops.quality_select import Tally
from ego_ops.storage import store
from sim_eval import policies, results, suites
from workflows import (
    curate,
    demonstrate,
    extract,
    flags,
    index,
    reproduce_page,
    reproduce_train,
    reproduce_truth,
    sweep,
)
from workflows.duration import duration
from workflows.evaluate_plan import parse_seeds, plans
from workflows.reproduce_findings import Findings, Run, find

_HEAD = "reproduce.json"
_FREE = ("out", "device", "workers", "address")
"""Flags that may differ when the command is run again: results do not depend on them, except in
the last bits on another device."""
_GROWS = ("seeds",)
"""May differ too: a seed's policies are the same whatever other seeds there are."""
_PICTURE_SEED = 7


@dataclass(frozen=True)
class ReproduceConfig:
    """Pre-train on first-person clips, fine-tune on a robot's, and compare with training from
    scratch: the paper's question with a tiny model, rendered clips and a simulated robot."""

    out: Path = Path("reproduce")
    """Folder for all of it; it is bound to the flags that matter to the results."""
    clips: int = 96
    """First-person clips of the tabletop's tasks, to render and extract."""
    curation: Literal["paper", "default", "strict"] = "strict"
    """Limits by which clips are selected: see `egoscaler curate`."""
    suite: str = "tabletop_plain"
    """Suite of the robot's tasks; it must have a script that demonstrates them."""
    tasks: tuple[str, ...] = ("carrot_on_plate",)
    """Tasks to fine-tune for and to evaluate in."""
    demonstrations: int = 150
    """Of each task, by the script."""
    seeds: str = "0..2"
    """Seeds of training, as 0..2 or 0,3: each is a whole repetition, from random weights on. When
    the command is run again there may be more of them, and only those are new."""
    pretrain_steps: int = 1500
    """Steps of `pi0_tiny` on the clips."""
    finetune_steps: int = 3000
    """Steps of `pi0_tiny_finetune` on the demonstrations, with or without pre-training."""
    batch: int = 32
    """Samples a step."""
    episodes: int = 50
    """Of each task and policy, the same for all policies; none was demonstrated."""
    replan: int = 8
    """Actions of a chunk that are done before the policy is asked again."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where policies compute in the evaluation; training takes the GPUs that Ray has."""
    workers: int | None = None
    """Processes that render, extract, simulate or train; by default one a core, of those that train
    at most four."""
    address: str | None = None
    """Ray cluster to join: see `egoscaler evaluate --help`."""

    @property
    def shards(self) -> str:
        """What is extracted."""
        return str(self.out / "shards")

    @property
    def selection(self) -> Path:
        """What is curated."""
        return (self.out / "selection.parquet").absolute()

    @property
    def recorded(self) -> str:
        """The demonstrations."""
        return str(self.out / "demonstrations")


def run(config: ReproduceConfig) -> Findings:
    """Do what is left of all steps, and write what was found.

    Raises:
        UserError: a step failed, `out` holds a reproduction with other flags, or another process
            works there.
    """
    seeds = _check(config)
    with store(str(config.out)).lock("lock", "another reproduce works there now"):
        _bind(config)
        return _steps(config, seeds)


def _steps(config: ReproduceConfig, seeds: list[int]) -> Findings:
    begun = time.monotonic()
    _say(f"[1/6] rendering {config.clips} first-person clips of the tasks")
    _render(config)
    _say("[2/6] extracting the trajectories of what is moved")
    _extract(config)
    _say("[3/6] curating them")
    chosen = _curate(config)
    _say("[4/6] demonstrating the tasks by the suite's script")
    _demonstrate(config)
    arms = list(reproduce_train.plans(seeds, chosen.total("ok"), chosen.total("selected")))
    _say(f"[5/6] training {len(arms)} policies")
    folders = reproduce_train.trained(config, arms)
    _say("[6/6] evaluating them on the same episodes")
    played = _evaluate(config, folders)
    made = zip(arms, folders, played.digests, strict=True)
    runs = [Run(one.arm, one.seed, folder, digest) for one, folder, digest in made]
    found = find(runs, played.rows)
    truth = config.out / "clips/truth"
    missed = reproduce_truth.missed(config.shards, truth, config.selection)
    path = reproduce_page.write(config.out, found, missed, _numbers(config, chosen))
    print(reproduce_page.table(found))
    print(f"{duration(time.monotonic() - begun)} in all; the whole is in {path}")
    if played.errors:  # what was judged is counted, but it is not all that was asked for
        raise UserError(played.errors)
    return found


def _check(config: ReproduceConfig) -> list[int]:
    """The seeds.

    Raises:
        UserError: a flag makes no sense.
    """
    least = {"clips": 1, "demonstrations": 1, "pretrain_steps": 1, "finetune_steps": 1}
    flags.at_least(config, {**least, "batch": 1, "episodes": 1, "replan": 1, "workers": 1})
    known = suites.get(config.suite).tasks
    if not config.tasks or (missing := [task for task in config.tasks if task not in known]):
        named = ", ".join(missing) if config.tasks else "none"
        raise UserError(f"--tasks {named}: {config.suite} has {', '.join(known)}")
    return list(parse_seeds(config.seeds))


def _bind(config: ReproduceConfig) -> None:
    """Keep the flags beside the results, or see that they are those that are there."""
    free = (*_FREE, *_GROWS)
    wanted = {name: value for name, value in asdict(config).items() if name not in free}
    wanted = json.loads(json.dumps(wanted))
    path, where = config.out / _HEAD, store(str(config.out))
    if not path.exists():
        where.write(_HEAD, (json.dumps(wanted, indent=1) + "\n").encode())
        return
    try:
        there = dict(json.loads(where.read(_HEAD)))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged; use another --out") from error
    for name, value in wanted.items():
        if there.get(name) != value:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{config.out} was begun with {flag} {there.get(name)}, not {value}: use another "
                "--out"
            )


def _render(config: ReproduceConfig) -> None:
    root = config.out / "clips"
    made = root / "made.json"
    if made.exists():
        print(f"  {config.clips} clips are there already")
        return
    try:
        from ego_ops import synthetic
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing, the clips need it: pip install 'egoscaler-ray[demo]'"
        ) from error

    done: list[int] = []

    def count(_: str, number: int) -> None:
        done.append(number)
        if len(done) % 10 == 0:
            print(f"  {len(done)} of {config.clips}", flush=True)

    synthetic.write_corpora(
        {"tabletop": root}, config.clips, _PICTURE_SEED, on_clip=count, workers=config.workers
    )
    made.write_text(json.dumps({"clips": config.clips, "seed": _PICTURE_SEED}))


def _extract(config: ReproduceConfig) -> None:
    manifest = str(config.out / "manifest")
    index.run(index.IndexConfig("egodex", str(config.out / "clips"), manifest))
    extract.run(
        extract.ExtractConfig(
            manifest, config.shards, workers=config.workers, address=config.address
        )
    )


def _curate(config: ReproduceConfig) -> Tally:
    return curate.run(curate.CurateConfig(config.shards, str(config.selection), config.curation))


def _demonstrate(config: ReproduceConfig) -> None:
    demonstrate.run(
        demonstrate.DemonstrateConfig(
            config.suite,
            config.tasks,
            config.demonstrations,
            out=config.recorded,
            workers=config.workers,
            address=config.address,
            quiet=True,
        )
    )


class _Evaluated(NamedTuple):
    """What came of the episodes."""

    digests: list[str]
    """Of the policies."""
    rows: pa.Table
    """Of `sim_eval.results`, those that were asked for."""
    errors: str
    """One line about those that ended in errors, or ""."""


def _evaluate(config: ReproduceConfig, folders: Sequence[Path]) -> _Evaluated:
    """Play the episodes."""
    out = str(config.out / "evaluation")
    options = sweep.SweepConfig(
        tasks=config.tasks,
        episodes=config.episodes,
        replan=config.replan,
        device=config.device,
        workers=config.workers,
        out=out,
        address=config.address,
        suites=config.suite,
        policies=",".join(map(str, folders)),
    )
    errors = ""
    try:
        sweep.run(options)
    except UserError as error:
        errors = str(error)
    digests = [policies.named(str(folder), options.compute).digest for folder in folders]
    todo, _, _ = plans(options, [config.suite], [str(folder) for folder in folders])
    everything = results.table(out)
    wanted = pa.array(episode.id for plan in todo for episode in plan.episodes)
    rows = everything.filter(pc.is_in(everything["episode"], wanted))
    if errors and not rows:
        raise UserError(errors)
    return _Evaluated(digests, rows, errors)


def _numbers(config: ReproduceConfig, chosen: Tally) -> dict[str, Any]:
    """What the page says of how it was made."""
    counts = {what: chosen.total(what) for what in ("clips", "ok", "selected")}
    flags_of = {name: value for name, value in asdict(config).items() if name not in _FREE}
    return {"counts": counts, "flags": flags_of}


def _say(text: str) -> None:
    print(text, flush=True)
