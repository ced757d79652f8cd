"""The actors that serve: where they are, and what is heard of them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ego_ops.errors import UserError
from robot.server import ServerConfig
from workflows import cluster, serve_tally
from workflows.serve_actor import Place, Report, ServeActor
from workflows.served import Served

_ROOM_S = 20.0
"""A process that has not begun by then has no room."""
_STARTS = 3
"""Processes of a replica that may end before one of them serves."""


@dataclass
class _Replica:
    handle: Any
    serving: Any
    """What its `serve` returns."""
    asking: Any
    """What its `report` returns."""
    report: Report | None = None
    pids: list[int] = field(default_factory=list)
    """Of its processes, one after another."""
    served: int = 0
    """The one of them that last served."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """As `Replicas.tally` last saw them."""


class Replicas:
    """Actors with a policy each that listen on one port of one machine: a context manager.

    Args:
        config: its port is that of `place`.
        resources: what each asks Ray for, `num_cpus` and `num_gpus`.
        node: Ray's id of the machine that it must be; None: any.
        watch: see `ServeActor`.

    Raises:
        UserError: on entering: the port is taken, there is no such machine.
    """

    def __init__(
        self,
        policy: Served,
        config: ServerConfig,
        resources: Mapping[str, float],
        node: str | None,
        watch: bool,
    ):
        self._policy, self._config, self._watch = policy, config, watch
        self._resources, self._node = resources, node
        self._actors: list[Any] = []
        self._all: list[_Replica] = []
        self.place = Place("", "", 0)

    def start(self, count: int) -> None:
        """Make so many; `look` tells when they serve.

        Raises:
            UserError: the port is taken, or there is no such machine.
        """
        import ray

        first = self._actor(self._node)
        placing = first.place.remote(self._config.port)
        if not ray.wait([placing], timeout=_ROOM_S)[0]:
            needs = " and ".join(f"{n:g} {name[4:].upper()}" for name, n in self._resources.items())
            print(f"waiting for a machine with {needs} free", flush=True)
        self.place = _got(placing)
        others = [self._actor(self.place.node) for _ in range(count - 1)]
        for actor in (first, *others):
            serving = actor.serve.remote(self.place.port)
            self._all.append(_Replica(actor, serving, actor.report.remote()))

    def __enter__(self) -> Replicas:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import ray

        for actor in self._actors:
            if ray.is_initialized():
                ray.kill(actor)

    @property
    def ready(self) -> bool:
        """Whether all of them serve."""
        return all(one.report is not None and one.report.ready for one in self._all)

    @property
    def ended(self) -> bool:
        """Whether all of them have drained."""
        return not self._all

    @property
    def ip(self) -> str:
        """Of the machine that they are on now."""
        reports = [one.report for one in self._all if one.report is not None]
        return reports[0].ip if reports else self.place.ip

    def look(self, seconds: float) -> list[str]:
        """Wait for news, for so long at most. Returns what a user is to be told, a line each.

        Raises:
            UserError: one cannot serve.
        """
        import ray

        refs = [ref for one in self._all for ref in (one.serving, one.asking)]
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=seconds)
        said = []
        for one in list(self._all):
            if one.asking in ready:
                said += self._hear(one, _got(one.asking))
                one.asking = one.handle.report.remote()
            if one.serving in ready:
                _got(one.serving)
                self._all.remove(one)
        return said

    def reload(self) -> None:
        """Serve what is in the policy's place now."""
        for one in self._all:
            one.handle.reload.remote()

    def drain(self) -> None:
        """Answer what is under way and hang up: then `look` until `ended`."""
        for one in self._all:
            one.handle.drain.remote()

    def tally(self) -> str:
        """What was asked since the last time, in a line; "" for nothing."""
        added: Counter[str] = Counter()
        for one in self._all:
            if one.report is not None:
                now = serve_tally.counted(one.report.metrics)
                added.update(serve_tally.since(now, one.counts))
                one.counts = now
        return serve_tally.line(added)

    def _hear(self, one: _Replica, report: Report) -> list[str]:
        which = f"replica {self._all.index(one)}: " if len(self._all) > 1 else ""
        said = [f"{which}{text}" for text in report.said]
        if report.pid not in one.pids:
            one.pids.append(report.pid)
            if len(one.pids) > _STARTS and not one.served:
                raise UserError(f"--policy {self._policy.name}: its process ends while it begins")
        if report.ready and one.served not in (0, report.pid):
            said.append(f"{which}serving again, in process {report.pid}: {one.served} ended")
        if report.ready:
            one.served = report.pid
        one.report = report
        return said

    def _actor(self, node: str | None) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False) if node else "DEFAULT"
        kind = ray.remote(ServeActor).options(
            name=f"egoscaler-serve-{uuid.uuid4().hex[:8]}",
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=there,
            **self._resources,
        )
        self._actors.append(kind.remote(self._policy, self._config, self._watch))
        return self._actors[-1]


def _got(ref: Any) -> Any:
    """What a call returned.

    Raises:
        UserError: that of the call; or the actor cannot be where it should.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        raise
    except RayError as error:
        raise UserError(f"the policy's process cannot be had: {cluster.line(error)}") from error
