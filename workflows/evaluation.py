"""Episodes to results, through Ray: what is done already is not done again.

    episodes -> environment workers (a core each) <-> the policy's actors -> results, videos

Everything that matters is in the results that are committed, every few seconds, so any process here
may die at any moment, the driver too: run the same command again and it goes on.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from ego_ops.errors import UserError
from ego_ops.storage import store
from sim_eval import policies, provenance
from sim_eval.episode import ENVIRONMENT_ERROR, POLICY_ERROR, Episode
from sim_eval.policy import PolicyError
from sim_eval.rollout import unplayed
from sim_eval.suite import Suite
from workflows import cluster, policy_actor
from workflows.evaluate_plan import Options, Plan
from workflows.evaluate_progress import Progress
from workflows.result_book import Book
from workflows.rollout_jobs import Finished, Job, Player
from workflows.rollout_workers import Crew, EnvironmentsError

DIRECT_CALL_BYTES = 2**22
"""What goes straight from process to process, not by way of Ray's object store: pictures for a
policy do. Half the time of a call that holds two."""
_PATIENCE = 3
"""Errors of a policy in a row, over those of all episodes that are under way, that end its part."""
_SUITE_PATIENCE = 10
"""Episodes whose simulator fails, and none that it does not, that end a suite."""
_MEMORY_SHARE = 0.9
"""Of what Ray counts as memory (its object store is not in it), that environments may have."""


def carry_out(plans: Sequence[Plan], options: Options, command: str) -> list[str]:
    """Play what is left of the plans, and commit what becomes of it.

    Args:
        command: as it was typed, to be kept beside the results.

    Returns:
        A line for each suite that could not be played to its end: its environments cannot be made.

    Raises:
        UserError: the storage or Ray refuses, or it was interrupted.
    """
    problems: list[str] = []
    busy = f"{options.out}: another command writes results there now"
    with store(options.out).lock("lock", busy), Book(options.out, options.videos) as book:
        todo = [plan._replace(episodes=book.left(plan.episodes)) for plan in plans]
        total, left = (sum(len(plan.episodes) for plan in some) for some in (plans, todo))
        if not left:
            print(f"nothing left to do: all {total} episodes are in {options.out}", flush=True)
            return problems
        provenance.record(options.out, command)
        progress = Progress(total - left, left, options.quiet)
        asked = {plan.policy.kind for plan in todo if plan.policy.batched and plan.episodes}
        gpus = "checkpoint" in asked and options.device == "cuda"
        with cluster.interruptible(options.out), connected(options, bool(asked), gpus) as room:
            running = _Running(options, room, book, progress)
            todo = [plan for plan in todo if plan.episodes]
            for _, group in itertools.groupby(todo, key=lambda plan: plan.suite.name):
                try:
                    running.suite(list(group))
                except EnvironmentsError as error:
                    problems.append(str(error))
                    progress.warn(str(error))
        progress.close()
    return problems


class Room(NamedTuple):
    """What there is to play in."""

    workers: int
    """Environment workers to have."""
    memory_gb: float
    """Of all machines."""


@dataclass
class _Running:
    options: Options
    room: Room
    book: Book
    progress: Progress
    sound: bool = False
    """Whether an episode of the suite has ended without an error of its simulator."""

    def suite(self, plans: Sequence[Plan]) -> None:
        """All policies in one suite, whose environments stay."""
        suite, options = plans[0].suite, self.options
        workers, slots = self.room.workers, self._slots(suite)
        self.sound = False
        with Crew(suite, workers, slots, options.step_timeout, options.attempts) as crew:
            for plan in plans:
                self.progress.begin(f"{plan.policy.name} in {suite.name}")
                left, error = plan.episodes, ""
                try:
                    with _player(plan, options) as player:
                        left, error = self._play(crew, plan, player)
                except PolicyError as problem:
                    error = str(problem)
                if left:
                    self._give_up(plan, left, error)
                self.book.commit()

    def _play(self, crew: Crew, plan: Plan, player: Player) -> tuple[list[Episode], str]:
        """Play a plan's episodes. Where its policy fails again and again, those that are left, and
        what it said last."""
        patience = _PATIENCE + self.room.workers * self.options.slots(self.room.workers)
        waiting = deque(Job(episode) for episode in plan.episodes)
        errors, broken, last = 0, 0, ""
        left: list[Episode] = []
        for finished in crew.play(waiting, player, self.book.wants_film):
            for one in finished:
                self._keep(one)
                failed = one.result.outcome == POLICY_ERROR
                errors, last = (errors + 1, one.result.error) if failed else (0, last)
                self.sound = self.sound or one.result.outcome != ENVIRONMENT_ERROR
                broken += one.result.outcome == ENVIRONMENT_ERROR
                if broken >= _SUITE_PATIENCE and not self.sound:
                    self.book.commit()
                    raise EnvironmentsError(
                        f"suite {plan.suite.name}: its simulator fails in every episode "
                        f"({one.result.error})"
                    )
            # Of a policy that is asked here, an error says nothing of its next episode.
            if errors >= patience and not player.local:
                left += [job.episode for job in waiting if not job.played]
                films = [job for job in waiting if job.played]
                waiting.clear()
                waiting.extend(films)
            self.book.commit_sometimes()
            self.progress.look()
        return left, last

    def _slots(self, suite: Suite) -> int:
        """Episodes at a time in each worker: as many as there is memory for, if not told."""
        wanted, needs = self.options.slots(self.room.workers), getattr(suite, "memory_gb", 0.0)
        if self.options.envs_per_worker or not needs:
            return wanted
        fit = int(_MEMORY_SHARE * self.room.memory_gb / (needs * self.room.workers))
        if fit < wanted:
            self.progress.warn(
                f"{suite.name}: {max(fit, 1)} in place of {wanted} episodes at a time in each of "
                f"{self.room.workers} workers: one needs {needs:g} GB, there are "
                f"{self.room.memory_gb:.0f}"
            )
        return max(min(fit, wanted), 1)

    def _give_up(self, plan: Plan, left: Sequence[Episode], error: str) -> None:
        """The policy has no answers: say so of every episode that is left."""
        name = plan.policy.name
        self.progress.warn(f"{name}: {len(left)} episodes are not played: {error}")
        for episode in left:
            self._keep(Finished(unplayed(plan.suite, episode, name, POLICY_ERROR, error)))

    def _keep(self, finished: Finished) -> None:
        if finished.warning:
            self.progress.warn(finished.warning)
        self.book.add(finished.result, finished.film)
        self.progress.add(finished.result)


@contextmanager
def _player(plan: Plan, options: Options) -> Iterator[Player]:
    """The plan's policy, ready to be asked.

    Raises:
        PolicyError: it cannot be had.
    """
    policy = plan.policy
    if not policy.batched:
        yield Player(policy.name, local=partial(policies.open_local, policy, plan.suite))
        return
    gpus = 1.0 if options.device == "cuda" and policy.kind == "checkpoint" else 0.0
    open_policy = partial(policies.open_batch, policy, plan.suite)
    cap = options.latency_cap / 1000
    with policy_actor.started(open_policy, cap, options.policy_replicas, gpus) as actors:
        yield Player(policy.name, actors)


@contextmanager
def connected(options: Options, batched: bool, gpus: bool) -> Iterator[Room]:
    """Ray, and what is to be had there.

    Args:
        batched: whether a policy is asked that has a process of its own.
        gpus: whether it needs a GPU.

    Raises:
        UserError: there is no cluster, or it has no room.
    """
    # For a Ray that begins here; one that is joined has it where its nodes were started.
    os.environ.setdefault("RAY_max_direct_call_object_size", str(DIRECT_CALL_BYTES))
    # A policy that computes on GPUs needs no core of its own to speak of.
    spare = options.policy_replicas if batched and not gpus else 0
    wanted = options.workers or cluster.cores()
    stays = f"what is committed in {options.out}"
    with cluster.session(options.address, wanted + spare, stays) as nodes:
        joined = cluster.joined(options.address)
        cpus, there = (int(sum(n.get(name, 0.0) for n in nodes)) for name in ("CPU", "GPU"))
        if gpus and there < options.policy_replicas:
            short = f"--device cuda: Ray has {there} GPUs, {options.policy_replicas} are needed"
            if not joined:
                raise UserError(short)
            print(f"{short}: waiting for nodes that have them", flush=True)
        room = sum(int(node.get("CPU", 0.0)) for node in nodes)
        if joined and not options.workers:
            wanted = room - spare
        if joined and options.workers and room < wanted:
            print(f"room for {room} of {wanted} workers now; the others wait for nodes", flush=True)
        if wanted < 1:
            raise UserError(f"no room for a worker: Ray has {cpus} CPUs; give --workers to wait")
        memory = sum(float(node.get("memory", 0.0)) for node in nodes)
        yield Room(wanted, memory / 2**30)
