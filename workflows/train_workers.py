"""Ray Train's part in a training run: its workers, and what becomes of it when some are lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ego_ops.errors import UserError
from training.config import TrainConfig
from training.data.norm import NormStats
from training.data.sample import Source
from training.saved_files import newest
from training.tokeniser import Tokeniser
from workflows import cluster

_LOOK_S = 0.2
_FAILURE = "failure.txt"


@dataclass(frozen=True)
class Job:
    """What a worker must know: picklable."""

    config: TrainConfig
    folder: str
    """Of the run, which every worker sees."""
    sources: list[Source]
    held_out: list[Source]
    stats: list[NormStats]
    tokeniser: Tokeniser
    cpus: int
    """Of each worker."""


class Crew(NamedTuple):
    """How many workers, and what each asks Ray for."""

    workers: int
    cpus: int
    gpus: int


def train(job: Job, crew: Crew, losses: int, look: Callable[[], None]) -> None:
    """Train to the end, also where workers are lost on the way.

    Args:
        losses: how many times in a row workers may be lost without a new checkpoint.
        look: called again and again meanwhile.

    Raises:
        UserError: of a worker, or workers were lost too often.
    """
    lost, reached = 0, newest(job.folder)
    while True:
        error = _attempt(job, crew, look)
        if error is None:
            return
        failure = _failure(error)
        if isinstance(failure, UserError):
            raise failure
        before, reached = reached, newest(job.folder)
        lost = 1 if reached > before else lost + 1
        if lost > losses:
            (Path(job.folder) / _FAILURE).write_text(f"{error}\n", encoding="utf-8")
            raise UserError(
                f"workers failed {lost} times without a new checkpoint ({cluster.line(failure)}; "
                f"see {job.folder}/{_FAILURE}): mend that and run the same command to go on"
            ) from failure
        print(
            f"workers were lost ({cluster.line(failure)}): going on from step {reached}", flush=True
        )


def _attempt(job: Job, crew: Crew, look: Callable[[], None]) -> BaseException | None:
    """Run workers to the end, or to the first that is lost, which is returned as an error."""
    ended = _Ended()
    # Not in the main thread, where Ray Train would take Ctrl-C for itself.
    thread = threading.Thread(target=ended.of, args=(_trainer(job, crew).fit,), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_S)
        look()
    return ended.error


@dataclass
class _Ended:
    error: BaseException | None = field(default=None)

    def of(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  it is looked at in the main thread
            self.error = error


def _trainer(job: Job, crew: Crew) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import LoggingConfig

    resources = {"CPU": crew.cpus} | ({"GPU": crew.gpus} if crew.gpus else {})
    return TorchTrainer(
        _work,
        train_loop_config={"job": job},
        # Checkpoints are saved in the background, where they are copies in the CPU's memory.
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if crew.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=crew.workers, use_gpu=bool(crew.gpus), resources_per_worker=resources
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=job.folder,
            # What fails is looked at here: an error of ours would only come again.
            failure_config=FailureConfig(max_failures=0),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """One worker."""
    import ray.train
    import torch
    from ray.train.torch import get_device

    from training.trainer import Trainer

    job: Job = config["job"]
    if not Path(job.folder).is_dir():
        raise UserError(
            f"{job.folder}: not there on node {os.uname().nodename}: --out must be a "
            "folder that every node sees"
        )
    torch.set_num_threads(job.cpus)
    context = ray.train.get_context()
    Trainer(
        job.config,
        job.sources,
        job.held_out,
        job.stats,
        job.tokeniser,
        job.folder,
        get_device(),
        context.get_world_rank(),
        context.get_world_size(),
    ).run()


def _failure(error: BaseException) -> BaseException:
    """Of all that went wrong, what our own code says, or else what came first."""
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    if isinstance(error, ControllerError):
        return error.controller_failure
    if isinstance(error, WorkerGroupError):
        failures = list(error.worker_failures.values())
        ours = [one for one in failures if isinstance(one, UserError)]
        first = (ours or failures or [error])[0]
        return getattr(first, "health_check_failure", first)  # how an actor died
    return error
