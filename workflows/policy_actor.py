"""The process that a policy lives in: it answers the requests of many episodes, several at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ego_ops.errors import UserError
from robot.batching import Batcher, Counts, Model
from robot.policy import PolicyError as Failure
from sim_eval.policy import BatchPolicy, PolicyError, Request
from sim_eval.suite import Floats
from workflows import cluster

RESTARTS = 3
"""How often a policy's process is started again."""
CPU = 0.001
"""What it asks Ray for, and what an environment worker leaves of its core."""


class PolicyActor:
    """A Ray actor; begun again when it dies, it loads its policy anew and is asked again.

    Args:
        open_policy: makes the policy, here.
        cap: seconds that a request waits at most for others to be answered with it.
    """

    def __init__(self, open_policy: Callable[[], BatchPolicy], cap: float):
        self._open_policy, self._cap = open_policy, cap
        self._opening = asyncio.Lock()
        self._batcher: Batcher[Request, Floats] | None = None
        self._expected: int | None = None

    async def open(self) -> None:
        """Load the policy.

        Raises:
            UserError: it cannot be.
            PolicyError: it is a server that does not answer.
        """
        await self._opened()

    async def act(self, request: Request) -> tuple[Floats | PolicyError, float]:
        """A chunk, or why there is none, and the seconds from the asking to the answer."""
        begun = time.monotonic()
        try:
            answer: Floats | PolicyError = await (await self._opened()).ask(request)
        except UserError as error:
            answer = PolicyError(str(error))
        return answer, time.monotonic() - begun

    async def expect(self, count: int) -> None:
        """So many episodes are in flight that may ask this actor."""
        self._expected = count
        if self._batcher is not None:
            self._batcher.expect(count)

    async def counts(self) -> Counts:
        """What was done since the process began."""
        return (await self._opened()).counts

    async def _opened(self) -> Batcher[Request, Floats]:
        async with self._opening:
            if self._batcher is None:
                policy = await asyncio.to_thread(self._open_policy)
                model = Model(partial(_called, policy), policy.batch, policy.close)
                self._batcher = Batcher(model, self._cap)
                self._batcher.expect(self._expected)
            return self._batcher


def _called(policy: BatchPolicy, requests: Sequence[Request]) -> list[Floats | Failure]:
    """The policy's answers, its errors as a batcher knows them."""
    try:
        answers = policy.act(requests)
    except PolicyError as error:
        raise Failure(str(error)) from error
    return [Failure(str(one)) if isinstance(one, PolicyError) else one for one in answers]


@contextmanager
def started(
    open_policy: Callable[[], BatchPolicy], cap: float, replicas: int, gpus: float
) -> Iterator[list[Any]]:
    """Handles of actors that have a policy each, for as long as the context.

    Args:
        gpus: of each.

    Raises:
        PolicyError: the policy cannot be had.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    # Workers ask for a thousandth less than their core, so that there is always room for this.
    kind = ray.remote(PolicyActor).options(
        num_cpus=CPU, num_gpus=gpus, max_restarts=RESTARTS, max_task_retries=-1
    )
    actors = [kind.remote(open_policy, cap) for _ in range(replicas)]
    try:
        try:
            ray.get([actor.open.remote() for actor in actors])
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise PolicyError(str(error.cause)) from None
            raise PolicyError(cluster.line(error.cause or error)) from error
        except RayError as error:
            raise PolicyError(f"its process ends while it begins: {cluster.line(error)}") from error
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)
