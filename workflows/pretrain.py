"""Train π0 on shards and robot data, with Ray Train.

    sources -> statistics (Ray Data) -> workers (Ray Train) -> checkpoints, and at the end a policy

Everything that matters is in the run's folder, so that any process here may die at any moment, the
driver too: run the same command again and it continues from the last checkpoint.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ego_ops.errors import UserError
from ego_ops.storage import store
from training import run_folder
from training.config import TrainConfig, get
from training.config_check import check
from training.data import norm
from training.data.norm import NormStats
from training.data.order import share
from training.data.sample import Source
from training.data.sources import open_sources
from training.options import changed
from training.saved_files import newest
from training.tokeniser import Tokeniser
from workflows import cluster, flags
from workflows.duration import duration
from workflows.norm_stats import of_source
from workflows.train_progress import Progress
from workflows.train_workers import Crew, Job, train


@dataclass(frozen=True)
class PretrainConfig:
    """Train π0 on shards and robot data."""

    config: str = "pi0_ego"
    """What to train: the name of a configuration of `training/config.py`."""
    data: str | None = None
    """Folder (or fsspec URL) of shards, in place of the configuration's."""
    robot_data: tuple[str, ...] = ()
    """LeRobot datasets, as name=DIR: the folders of those that the configuration names."""
    out: str = ""
    """Folder of the run; runs/CONFIG by default. On a cluster it must be one that every node sees.
    It is bound to the configuration and to the data."""
    steps: int | None = None
    """Steps to train for."""
    batch: int | None = None
    """Samples a step, over all workers."""
    option: tuple[str, ...] = ()
    """Other fields of the configuration, as field=value: optimiser.peak=1e-4, freeze=["vision"],
    model=small, sources.shards.smooth=5."""
    workers: int | None = None
    """Processes that train, each with a device; by default one a GPU, and one where there is none.
    A batch is shared out to them evenly."""
    cpus_per_worker: int | None = None
    """CPUs of each worker; by default its share of what Ray has."""
    gpus_per_worker: Literal[0, 1] | None = None
    """GPUs of each worker; by default 1 where Ray has any."""
    restarts: int = 3
    """How many times in a row workers may be lost without a new checkpoint."""
    address: str | None = None
    """Ray cluster to join: "auto" on a machine of it, or host:port. By default that of
    RAY_ADDRESS, which a submitted job has; without it, Ray is started on this machine."""
    quiet: bool = False
    """Print nothing but warnings and the last line."""


def run(config: PretrainConfig) -> Path:
    """Train, or go on with it. Returns the folder of the policy.

    Raises:
        UserError: the configuration does not fit, a source cannot be read, the storage refuses,
            training diverged, workers were lost too often, or the run was interrupted.
    """
    begun = time.monotonic()
    flags.at_least(config, {"workers": 1, "cpus_per_worker": 1, "restarts": 0})
    wanted = configured(config)
    words = _tokeniser(wanted)
    folder = _folder(config.out or f"runs/{wanted.name}")
    policy = folder / run_folder.POLICY
    sources = open_sources(wanted.sources, wanted.model.horizon, "train", wanted.held_out)
    with store(str(folder)).lock("lock", f"{folder}: another command trains there now"):
        run_folder.bind(folder, wanted, sources)
        done = run_folder.trained(folder)
        if done >= wanted.steps:
            print(f"nothing left to do: {done} steps are trained, the policy is in {policy}")
            return policy
        if not config.quiet:
            print(f"training {wanted.name} into {folder}: starting Ray", flush=True)
        with _connected(config, folder) as crew:
            share(0, wanted.batch, 0, crew.workers)  # an error now, not on every worker
            stats = _statistics(folder, sources)
            held_out = _held_out(wanted)
            job = Job(wanted, str(folder), sources, held_out, stats, words, crew.cpus)
            begin = newest(folder)
            if begin:
                print(f"going on from step {begin}", flush=True)
            progress = Progress(folder, wanted, begin, config.quiet)
            train(job, crew, config.restarts, progress.look)
            progress.close()
    took = duration(time.monotonic() - begun)
    print(f"trained to step {wanted.steps} in {took}; the policy is in {policy}")
    return policy


def configured(config: PretrainConfig) -> TrainConfig:
    """The configuration that the command asks for.

    Raises:
        UserError: it does not exist, or a field or source of it does not, or a field has a value
            that training cannot use.
    """
    wanted = changed(get(config.config), config.option)
    named = dict(_named(text) for text in config.robot_data)
    sources = []
    for source in wanted.sources:
        path = source.path
        if source.kind == "shards" and config.data is not None:
            path = config.data
        if source.kind == "lerobot":
            path = named.pop(source.name or source.kind, path)
        sources.append(replace(source, path=_absolute(path)))
    if named:
        known = [one.name or one.kind for one in wanted.sources if one.kind == "lerobot"]
        raise UserError(
            f"--robot-data {next(iter(named))}: {config.config} has no such robot data; there are "
            f"{', '.join(known) or 'none'}"
        )
    wanted = replace(
        wanted,
        sources=tuple(sources),
        steps=wanted.steps if config.steps is None else config.steps,
        batch=wanted.batch if config.batch is None else config.batch,
    )
    check(wanted)
    return wanted


def _tokeniser(config: TrainConfig) -> Tokeniser:
    """That of the configuration, also to see that all is installed that training needs."""
    try:
        from training import tokeniser, trainer  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing, training needs it: pip install 'egoscaler-ray[train]'"
        ) from error
    return tokeniser.load(config.tokeniser)


def _folder(out: str) -> Path:
    if "://" in out:
        raise UserError(f"--out {out}: must be a folder, on a cluster one that all nodes see")
    return Path(out).absolute()


def _held_out(config: TrainConfig) -> list[Source]:
    if not config.held_out:
        return []
    return open_sources(config.sources, config.model.horizon, "held_out", config.held_out)


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals:
        raise UserError(f"--robot-data {text}: not of the form name=DIR")
    return name, path


def _absolute(path: str) -> str:
    """Workers may have another working directory."""
    return path if "://" in path else os.path.abspath(path)


def _statistics(folder: Path, sources: Sequence[Source]) -> list[NormStats]:
    """Of each source; computed once in a run's life."""
    found = []
    for source in sources:
        path = run_folder.statistics_file(folder, source)
        if not path.is_file():
            run_folder.write_statistics(folder, source, of_source(source))
        found.append(norm.read(path))
    return found


@contextmanager
def _connected(config: PretrainConfig, folder: Path) -> Iterator[Crew]:
    """Ray, for as long as the training lasts, and the workers that it has room for."""
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # relative paths stay what they are
    cpus = (config.workers or 1) * (config.cpus_per_worker or cluster.cores())
    with (
        cluster.interruptible(str(folder)),
        cluster.session(config.address, cpus, f"what is saved in {folder}") as nodes,
    ):
        import ray

        ray.data.DataContext.get_current().enable_progress_bars = False
        yield crew(config, nodes, bool(cluster.joined(config.address)))


def crew(config: PretrainConfig, nodes: Sequence[Mapping[str, float]], grows: bool) -> Crew:
    """The workers to ask Ray for, given what each node has.

    Args:
        grows: whether there may be more nodes later, so that workers can wait for them.

    Raises:
        UserError: there is no room for them.
    """
    cpus, gpus = (sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    each = int(gpus > 0) if config.gpus_per_worker is None else config.gpus_per_worker
    workers = config.workers or max(1, int(gpus) if each else 1)
    fair = (cpus if grows else min(cpus, cluster.cores())) / workers
    most = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
    share = config.cpus_per_worker or max(1, int(min(fair, most)))
    room = sum(
        int(min(node.get("CPU", 0.0) / share, node.get("GPU", 0.0) if each else math.inf))
        for node in nodes
    )
    if room < workers:
        what = f"room for {room} of {workers} workers of {share} CPUs and {each} GPUs"
        if not grows:
            raise UserError(f"{what}: Ray has {cpus:g} CPUs and {gpus:g} GPUs; change --workers")
        print(f"{what} now; training begins when there are nodes for all", flush=True)
    return Crew(workers, share, each)
