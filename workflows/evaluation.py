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

from ego_ops.errors import UserError
from ego_ops.storage import store
from sim_eval import policies
from sim_eval.episode import POLICY_ERROR, Episode
from sim_eval.policy import PolicyError
from sim_eval.rollout import unplayed
from workflows import cluster, policy_actor
from workflows.evaluate_plan import Options, Plan
from workflows.evaluate_progress import Progress
from workflows.result_book import Book
from workflows.rollout_jobs import Finished, Job, Player
from workflows.rollout_workers import Crew, EnvironmentsError

_PATIENCE = 3
"""Errors of a policy in a row, over those of all episodes that are under way, that end its part."""


def carry_out(plans: Sequence[Plan], options: Options) -> list[str]:
    """Play what is left of the plans, and commit what becomes of it.

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
        progress = Progress(total - left, left, options.quiet)
        batched = any(plan.policy.batched and plan.episodes for plan in todo)
        with cluster.interruptible(options.out), connected(options, batched) as workers:
            running = _Running(options, workers, book, progress)
            todo = [plan for plan in todo if plan.episodes]
            for _, group in itertools.groupby(todo, key=lambda plan: plan.suite.name):
                try:
                    running.suite(list(group))
                except EnvironmentsError as error:
                    problems.append(str(error))
                    progress.warn(str(error))
        progress.close()
    return problems


@dataclass
class _Running:
    options: Options
    workers: int
    book: Book
    progress: Progress

    def suite(self, plans: Sequence[Plan]) -> None:
        """All policies in one suite, whose environments stay."""
        suite, options = plans[0].suite, self.options
        slots = options.slots(self.workers)
        with Crew(suite, self.workers, slots, options.step_timeout, options.attempts) as crew:
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
        patience = _PATIENCE + self.workers * self.options.slots(self.workers)
        waiting = deque(Job(episode) for episode in plan.episodes)
        errors, last = 0, ""
        left: list[Episode] = []
        for finished in crew.play(waiting, player, self.book.wants_film):
            for one in finished:
                self._keep(one)
                failed = one.result.outcome == POLICY_ERROR
                errors, last = (errors + 1, one.result.error) if failed else (0, last)
            # Of a policy that is asked here, an error says nothing of its next episode.
            if errors >= patience and not player.local:
                left += [job.episode for job in waiting if not job.played]
                films = [job for job in waiting if job.played]
                waiting.clear()
                waiting.extend(films)
            self.book.commit_sometimes()
            self.progress.look()
        return left, last

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
def connected(options: Options, batched: bool) -> Iterator[int]:
    """Ray, and the number of environment workers to have there.

    Raises:
        UserError: there is no cluster, or it has no room.
    """
    # What is asked goes straight from process to process, not by way of the object store.
    os.environ.setdefault("RAY_max_direct_call_object_size", str(2**22))
    # A policy that computes on GPUs needs no core of its own to speak of.
    spare = options.policy_replicas if batched and options.device == "cpu" else 0
    wanted = options.workers or cluster.cores()
    stays = f"what is committed in {options.out}"
    with cluster.session(options.address, wanted + spare, stays) as nodes:
        joined = cluster.joined(options.address)
        cpus, gpus = (int(sum(n.get(name, 0.0) for n in nodes)) for name in ("CPU", "GPU"))
        if options.device == "cuda" and not joined and gpus < options.policy_replicas:
            raise UserError(
                f"--device cuda: Ray has {gpus} GPUs, {options.policy_replicas} are needed"
            )
        room = sum(int(node.get("CPU", 0.0)) for node in nodes)
        if joined and not options.workers:
            wanted = room - spare
        if joined and options.workers and room < wanted:
            print(f"room for {room} of {wanted} workers now; the others wait for nodes", flush=True)
        if wanted < 1:
            raise UserError(f"no room for a worker: Ray has {cpus} CPUs; give --workers to wait")
        yield wanted
