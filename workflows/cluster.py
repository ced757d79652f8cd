"""Ray for the length of one job: a cluster to join, or one of our own on this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from ego_ops.errors import UserError

if TYPE_CHECKING:
    from workflows.extract import ExtractConfig

_NOISE = "A worker died or was killed|infinite retries remaining"


@contextmanager
def connect(config: ExtractConfig) -> Iterator[int]:
    """Connect to Ray and yield the number of perception actors to use.

    A Ray that this process is connected to already is used as it is, and left running.

    Raises:
        UserError: there is no cluster at the address, or it has no room for the workers.
    """
    hush()
    import ray

    ours = not ray.is_initialized()
    if ours:
        _start(config)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = not config.quiet
        context.enable_rich_progress_bars, context.use_ray_tqdm = True, False
        # A unit may rightly take clips_per_shard times the clip's timeout to give its one row.
        context.execution_no_progress_timeout_s = -1
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield _workers(config, ray.cluster_resources())
    finally:
        if ours:
            ray.shutdown()


def hush() -> None:
    """Keep Ray's words about what the job survives by design off the screen; before its import."""
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _NOISE)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")


@contextmanager
def interruptible(out: str) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one line that says how to go on."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as error:
        raise UserError(
            f"interrupted; what is committed in {out} stays: run the same command to go on"
        ) from error
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _start(config: ExtractConfig) -> None:
    import ray

    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address := _address(config):
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"--address {address}: no Ray cluster there ({error})") from error
        return
    # Logical CPUs: an actor each, and as many again for the second stage, which would otherwise
    # wait for ever for the first to end.
    workers = config.workers or _cores()
    cpus = max(4, round(workers * (config.cpus_per_worker + 1)))
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)


def _workers(config: ExtractConfig, resources: dict[str, float]) -> int:
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    room = (cpus - 1) / config.cpus_per_worker if config.cpus_per_worker else cpus
    if config.gpus_per_worker:
        room = min(room, gpus / config.gpus_per_worker)
    if config.workers:
        wanted = config.workers
    elif config.gpus_per_worker:
        wanted = int(gpus / config.gpus_per_worker)
    elif _address(config):
        wanted = int(cpus / (config.cpus_per_worker + 1))
    else:
        wanted = _cores()
    if not 1 <= wanted <= room:
        raise UserError(
            f"no room for {max(wanted, 1)} workers of {config.cpus_per_worker:g} CPUs and "
            f"{config.gpus_per_worker:g} GPUs: Ray has {cpus:g} CPUs (one must be left for the "
            f"second stage) and {gpus:g} GPUs; change --workers"
        )
    return wanted


def _address(config: ExtractConfig) -> str | None:
    return config.address or os.environ.get("RAY_ADDRESS")


def _cores() -> int:
    return os.cpu_count() or 1
