"""The process that renders: several episodes of one suite, of which one is at work while the others
wait for their policy. It has no CUDA and no torch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from ego_ops.errors import UserError
from sim_eval import video
from sim_eval.episode import POLICY_ERROR, Episode, Result
from sim_eval.policy import LocalPolicy, PolicyError, Request
from sim_eval.rollout import Played, Rollout, pictures
from sim_eval.suite import Floats, Suite
from workflows import cluster
from workflows.watch import Journal, Watched

Done = TypeVar("Done")
_ANSWER_S = 600.0
"""What a policy may take for an answer, its restarts among it."""


class Broken(NamedTuple):
    """An episode that the environment raised an error in."""

    error: str
    """One line."""


class Worker:
    """A Ray actor whose coroutines are the episodes: what waits for an answer lets others go on.

    Args:
        suite: of all its episodes.
        journal: name of the file that tells what it did should it die.
        timeout: seconds that a reset, a step or a picture may take.
    """

    def __init__(self, suite: Suite, journal: str, timeout: float):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ.setdefault("MUJOCO_GL", "egl")
        self._suite = suite
        self._journal = Journal(journal, timeout)
        self._free: list[Watched] = []

    async def open(self) -> str:
        """Make a first environment; the id of the node that this is on.

        Raises:
            UserError: there can be none here.
        """
        import ray

        try:
            self._free.append(self._environment())
        except Exception as error:  # noqa: BLE001  a simulator may raise anything
            raise UserError(f"suite {self._suite.name}: {_line(error)}") from None
        self._journal.rest()
        return ray.get_runtime_context().get_node_id()

    async def play(self, episode: Episode, name: str, policy: Any) -> Played | Broken:
        """One episode of a policy in an actor (`workflows.policy_actor`), given by its handle."""

        async def work(environment: Watched) -> Played:
            rollout = Rollout(self._suite, environment, episode, name)
            while (request := rollout.request()) is not None:
                self._journal.rest()
                await _ask(policy, request, rollout)
            return rollout.end()

        return await self._with_environment(episode.id, work)

    async def play_local(
        self, episode: Episode, name: str, policy: Callable[[Episode], LocalPolicy]
    ) -> Played | Broken:
        """One episode of a policy that is asked here."""

        async def work(environment: Watched) -> Played:
            rollout = Rollout(self._suite, environment, episode, name)
            try:
                rollout.play_local(policy(episode))
            except UserError as error:
                rollout.stop(POLICY_ERROR, str(error))
            return rollout.end()

        return await self._with_environment(episode.id, work)

    async def film(self, result: Result, actions: Floats) -> bytes | Broken:
        """An episode that has ended, once more, as MP4."""

        async def work(environment: Watched) -> bytes:
            frames = pictures(self._suite, environment, result, actions)
            title = f"{result.suite}, {result.task}, seed {result.seed}: {result.outcome}"
            about = {"title": title, "comment": f"{result.instruction}; policy {result.policy}"}
            return video.encode(frames, result.fps, about)

        return await self._with_environment(result.episode, work)

    async def close(self) -> None:
        """Let go of renderers, and of the journal."""
        while self._free:
            self._free.pop().close()
        self._journal.remove()

    async def _with_environment(
        self, episode: str, work: Callable[[Watched], Awaitable[Done]]
    ) -> Done | Broken:
        environment = None
        try:
            environment = self._free.pop() if self._free else self._environment()
            environment.episode = episode
            done = await work(environment)
        except Exception as error:  # noqa: BLE001  a simulator may raise anything
            return Broken(self._discarded(environment, error))
        finally:
            self._journal.rest()
        self._free.append(environment)
        return done

    def _environment(self) -> Watched:
        with self._journal.doing("", "a new environment"):
            return Watched(self._suite.environment(), self._journal)

    def _discarded(self, environment: Watched | None, error: Exception) -> str:
        """One line about an error, after which its environment is not used again."""
        try:
            if environment is not None:
                environment.close()
        except Exception as worse:  # noqa: BLE001  it is broken already
            return f"{_line(error)}; then {_line(worse)}"
        return _line(error)


async def _ask(policy: Any, request: Request, rollout: Rollout) -> None:
    from ray.exceptions import RayError, RayTaskError

    try:
        async with asyncio.timeout(_ANSWER_S):
            actions, seconds = await policy.act.remote(request)
    except TimeoutError:
        rollout.stop(POLICY_ERROR, f"the policy gave no answer in {_ANSWER_S:g} s")
        return
    except RayTaskError as error:  # begun anew, it cannot load what it could before
        rollout.stop(POLICY_ERROR, cluster.line(error.cause or error))
        return
    except RayError as error:
        rollout.stop(POLICY_ERROR, f"the policy's process is lost ({cluster.line(error)})")
        return
    if isinstance(actions, PolicyError):
        rollout.stop(POLICY_ERROR, str(actions))
    else:
        rollout.play(actions, seconds)


def _line(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else cluster.line(error)
