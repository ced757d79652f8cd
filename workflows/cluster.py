"""Ray for the length of one job: a cluster to join, or one of our own on this machine."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from ego_ops.errors import UserError

if TYPE_CHECKING:
    from workflows.extract import ExtractConfig

_NOISE = "A worker died or was killed|infinite retries remaining"
_ANSWER_S = 10.0
SOLVE_CPUS = 0.001
"""What a solve asks Ray for; its CPU is set aside by the actor that perceives for it: `cpus`."""

_SPARE = 0.0017
"""What an actor of less than one solve leaves free: for one, and so odd a number that actors never
add up to a whole number of CPUs, which would leave no room on a node of so many."""


@contextmanager
def connect(config: ExtractConfig) -> Iterator[int]:
    """Connect to Ray and yield the number of perception actors to use.

    A Ray that this process is connected to already is used as it is, and left running.

    Raises:
        UserError: there is no cluster at the address, it has no room for the workers, or it broke.
    """
    # Ray would let perception run ahead until half its object store is full of units that a crash
    # then costs; now it is by twice what is being solved.
    os.environ.setdefault("RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD", "0")
    room = (config.workers or cores()) * (config.cpus_per_worker + config.solves_per_worker)
    stays = f"what is committed in {config.out}"
    with session(config.address, math.ceil(room), stays) as nodes:
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = not config.quiet
        context.enable_rich_progress_bars, context.use_ray_tqdm = True, False
        # A unit may rightly take clips_per_shard times the clip's timeout to give its one row.
        context.execution_no_progress_timeout_s = -1
        workers = _workers(config, nodes)
        # An actor whose node is lost while it starts counts as one that cannot start.
        context.max_consecutive_actor_init_deaths = 10 + 2 * workers
        yield workers


@contextmanager
def session(address: str | None, cpus: int, stays: str) -> Iterator[list[Mapping[str, float]]]:
    """Ray for the length of one job; yields what each node has, as {"CPU": 8.0, "GPU": 1.0, ...}.

    A Ray that this process is connected to already is used as it is, and left running.

    Args:
        address: of the cluster to join, see `joined`; without one, Ray is started on this machine.
        cpus: that a Ray started here says it has (at least 4).
        stays: what is not lost if Ray breaks, for the error: "checkpoints in runs/a".

    Raises:
        UserError: there is no cluster at the address, or it broke.
    """
    hush()
    import ray
    from ray.exceptions import RayError, RayTaskError

    ours = not ray.is_initialized()
    try:
        if ours:
            start(joined(address), cpus)
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    except RayError as error:
        if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
            raise  # our own code's
        raise UserError(
            f"Ray failed: {line(error)}; {stays} stays: run the same command to go on"
        ) from error
    finally:
        if ours:
            ray.shutdown()


def joined(address: str | None) -> str | None:
    """The cluster to join: that of --address, or of RAY_ADDRESS, which a submitted job has."""
    return address or os.environ.get("RAY_ADDRESS")


def at_once(workers: int | None, address: str | None, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many tasks of a CPU to have under way: what was asked for, else what a cluster that was
    joined has, else one for each core of this machine, whatever a Ray started here says it has."""
    if workers:
        return workers
    return int(sum(node.get("CPU", 0.0) for node in nodes)) if joined(address) else cores()


def cpus(config: ExtractConfig) -> float:
    """What a perception actor asks Ray for: its own CPUs, and those of its solves less what they
    ask for themselves.

    Were both to ask for theirs, actors that come back after a node is lost could take the last
    CPUs of a smaller cluster, and then wait for ever for solves that have none. So there is no
    node that actors fill, and wherever an actor runs a solve can.
    """
    solves = config.solves_per_worker
    return config.cpus_per_worker + solves - (SOLVE_CPUS * solves if solves >= 1 else _SPARE)


def hush() -> None:
    """Keep Ray's words about what the job survives by design off the screen; before its import."""
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _NOISE)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")  # its import undoes what a logger is told


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


def start(address: str | None, cpus: int) -> None:
    """Join the cluster at the address, or start a Ray of so many CPUs on this machine.

    Raises:
        UserError: there is no cluster at the address, or this machine is too busy to start one.
    """
    import ray

    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not address:
        # Threads that wait for each other by spinning make torch ten times slower where something
        # else has the core: simulators beside a policy, a browser beside a training run.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        _start_here(max(4, cpus), quiet)
        return
    _probe(address)
    try:
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(f"--address {address}: cannot join Ray: {line(error)}") from error


def _start_here(cpus: int, quiet: Mapping[str, Any]) -> None:
    import ray

    for _ in range(2):  # a machine that had to read Ray's files has them at hand the second time
        try:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
            return
        except Exception as error:  # of no kind of its own
            if "timed out during startup" not in str(error):
                raise
    raise UserError(
        "Ray did not start on this machine in 30 s, nor when tried again: it is too busy or short "
        "of memory: run the same command again when it is less so"
    )


def _probe(address: str) -> None:
    """See that something like Ray answers at `host:port`: Ray itself would try for minutes.

    Raises:
        UserError: nothing does, or the address is of another kind.
    """
    if "://" in address:
        raise UserError(
            f"--address {address}: only a cluster that this machine is part of can be joined: "
            'give host:port, or "auto"; from elsewhere use `ray job submit`'
        )
    host, colon, port = address.rpartition(":")
    if not colon:
        return  # "auto", "local"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S) as peer:
            if os.environ.get("RAY_USE_TLS", "0") == "1":
                return
            # Ray speaks gRPC, that is HTTP/2: both sides begin with a SETTINGS frame (type 4).
            peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            if peer.recv(9)[3:4] != b"\4":
                raise OSError("what listens there is no Ray head")
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"--address {address}: no Ray cluster there ({error})") from error


def line(error: BaseException) -> str:
    """What an error of Ray's says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _workers(config: ExtractConfig, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many perception actors to ask Ray for, given what each node has."""
    room = sum(_fit(config, node) for node in nodes)
    if joined(config.address):
        wanted = config.workers or room
        if room < wanted:  # actors that wait are what makes a cluster grow
            print(f"room for {room} of {wanted} workers now; the others wait for nodes", flush=True)
            return wanted
    else:
        wanted = config.workers or (room if config.gpus_per_worker else cores())
    if 1 <= wanted <= room:
        return wanted
    cpus, gpus = (sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    advice = "give --workers to wait for nodes" if joined(config.address) else "change --workers"
    raise UserError(
        f"no room for {max(wanted, 1)} workers of {config.cpus_per_worker:g} CPUs and "
        f"{config.gpus_per_worker:g} GPUs, each with {config.solves_per_worker:g} CPUs to solve: "
        f"Ray has {cpus:g} CPUs and {gpus:g} GPUs; {advice}"
    )


def _fit(config: ExtractConfig, node: Mapping[str, float]) -> int:
    """How many workers one node has room for."""
    room = node.get("CPU", 0.0) / cpus(config)
    if config.gpus_per_worker:
        room = min(room, node.get("GPU", 0.0) / config.gpus_per_worker)
    return int(room)


def cores() -> int:
    """Of this machine."""
    return os.cpu_count() or 1
