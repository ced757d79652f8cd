"""A crew of environment workers: where a process dies, another takes its place."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from ego_ops.errors import UserError
from sim_eval.episode import ENVIRONMENT_ERROR, Result
from sim_eval.rollout import Played, unplayed
from sim_eval.suite import Suite
from workflows.environment_worker import Broken, Worker
from workflows.policy_actor import CPU
from workflows.rollout_jobs import Finished, Job, Player, Seat
from workflows.watch import last_words

_LOOK_S = 0.5
_STARTS = 3
"""Workers in a row that may die before they have an environment."""
_LOSSES = 10
"""Times that an episode may be begun again for no fault of its own."""


class EnvironmentsError(UserError):
    """A suite whose environments cannot be made."""


@dataclass
class Crew:
    """Workers of one suite: a context manager.

    Args:
        workers: processes, a core each.
        slots: episodes at a time in each.
        timeout: seconds after which a reset, a step or a picture counts as stuck.
        attempts: how often an episode is tried whose environment fails.
    """

    suite: Suite
    workers: int
    slots: int
    timeout: float
    attempts: int

    def __enter__(self) -> Crew:
        self._pending: dict[Any, tuple[Seat, Job | None]] = {}
        self._failed, self._opened = 0, False
        self._seats = [Seat(number) for number in range(self.workers)]
        for seat in self._seats:
            self._fill(seat)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import ray

        closing = [seat.handle.close.remote() for seat in self._seats if seat.node]
        if closing and ray.is_initialized():
            ray.wait(closing, num_returns=len(closing), timeout=2)
        for seat in self._seats:
            ray.kill(seat.handle)

    def play(
        self, waiting: deque[Job], player: Player, wanted: Callable[[Result], bool]
    ) -> Iterator[list[Finished]]:
        """Play all that waits, and what is added meanwhile; yields twice a second or oftener.

        Args:
            wanted: whether an episode that has ended so is to be filmed; called once for each.

        Raises:
            EnvironmentsError: there can be no environment.
        """
        import ray

        self._told: dict[int, int] = {}
        self._telling: list[Any] = []
        while True:
            self._assign(waiting, player)
            self._tell(player)
            if not any(seat.jobs for seat in self._seats) and not waiting:
                break
            ready, _ = ray.wait(list(self._pending), timeout=_LOOK_S)
            finished: list[Finished] = []
            for ref in ready:
                if ref in self._pending:
                    finished += self._look(ref, waiting, player, wanted)
            yield finished
        if self._telling:  # who asked may be ended next
            ray.wait(self._telling, num_returns=len(self._telling), timeout=_LOOK_S)

    def _assign(self, waiting: deque[Job], player: Player) -> None:
        """Give what waits to those that have room, the least busy first."""
        slots = 1 if player.local else self.slots
        while waiting:
            there = [seat for seat in self._seats if seat.node]
            free = [seat for seat in _fit(there, waiting[0]) if len(seat.jobs) < slots]
            if not free:
                return
            self._start(min(free, key=lambda seat: len(seat.jobs)), waiting.popleft(), player)

    def _busy(self) -> Counter[int]:
        """Episodes that are being played, by their actor's number."""
        return Counter(job.actor for seat in self._seats for job in seat.jobs if not job.played)

    def _tell(self, player: Player) -> None:
        """Let every actor know how many may ask it: it waits for no others."""
        busy = self._busy()
        for number, actor in enumerate(player.actors):
            if self._told.get(number) != busy[number]:
                self._telling.append(actor.expect.remote(busy[number]))
                self._told[number] = busy[number]

    def _start(self, seat: Seat, job: Job, player: Player) -> None:
        worker = seat.handle
        if job.played:
            ref = worker.film.remote(*job.played)
        elif player.local:
            ref = worker.play_local.remote(job.episode, player.name, player.local)
        else:
            busy = self._busy()
            job.actor = min(range(len(player.actors)), key=lambda number: busy[number])
            ref = worker.play.remote(job.episode, player.name, player.actors[job.actor])
        seat.jobs.append(job)
        self._pending[ref] = seat, job

    def _look(
        self, ref: Any, waiting: deque[Job], player: Player, wanted: Callable[[Result], bool]
    ) -> Iterator[Finished]:
        """What came of one call to a worker."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        seat, _ = self._pending[ref]
        try:
            answers = {ref: ray.get(ref)}
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise EnvironmentsError(str(error.cause)) from None
            raise
        except RayError:  # the worker is lost, or its answer with its node
            answers = self._said_before(seat)
        for one, answer in answers.items():
            yield from self._take(one, answer, waiting, player, wanted)
        if ref not in answers:
            for job in reversed(self._replace(seat)):
                yield from self._again(job, waiting, player)

    def _said_before(self, seat: Seat) -> dict[Any, Any]:
        """By call, what a worker answered before it died."""
        import ray
        from ray.exceptions import RayError

        refs = [ref for ref, (other, job) in self._pending.items() if other is seat and job]
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=_LOOK_S) if refs else ([], [])
        answers = {}
        for ref in ready:
            with contextlib.suppress(RayError):
                answers[ref] = ray.get(ref)
        return answers

    def _take(
        self,
        ref: Any,
        answer: Any,
        waiting: deque[Job],
        player: Player,
        wanted: Callable[[Result], bool],
    ) -> Iterator[Finished]:
        """A worker's answer."""
        seat, job = self._pending.pop(ref)
        if job is None:
            seat.node, self._failed, self._opened = answer, 0, True
            return
        seat.jobs.remove(job)
        if isinstance(answer, Broken):
            job.fault(answer.error, seat.number, seat.node)
            yield from self._again(job, waiting, player)
        elif isinstance(answer, bytes):
            assert job.played is not None
            yield Finished(job.played.result, answer)
        else:
            yield from self._played(job, answer, waiting, wanted)

    def _played(
        self, job: Job, played: Played, waiting: deque[Job], wanted: Callable[[Result], bool]
    ) -> Iterator[Finished]:
        result = replace(played.result, attempts=1 + job.faults)
        if played.result.steps and wanted(result):
            waiting.appendleft(Job(job.episode, Played(result, played.actions)))
        else:
            yield Finished(result)

    def _again(self, job: Job, waiting: deque[Job], player: Player) -> Iterator[Finished]:
        """Try once more what failed, unless it has been tried often enough."""
        if job.faults < self.attempts and job.losses < _LOSSES:
            waiting.appendleft(job)
        elif job.played:
            yield Finished(job.played.result, warning=job.error)
        else:
            tries = max(job.faults, 1)
            error = f"{job.error} (attempt {tries})" if tries > 1 else job.error
            result = unplayed(
                self.suite, job.episode, player.name, ENVIRONMENT_ERROR, error, attempts=tries
            )
            yield Finished(result)

    def _fill(self, seat: Seat) -> None:
        """A new worker."""
        import ray

        seat.journal = f"egoscaler-{uuid.uuid4().hex}"
        kind = ray.remote(Worker).options(num_cpus=1 - CPU, max_restarts=0)
        seat.handle = kind.remote(self.suite, seat.journal, self.timeout)
        seat.node, seat.jobs = "", []
        self._pending[seat.handle.open.remote()] = seat, None

    def _replace(self, seat: Seat) -> list[Job]:
        """A new worker for one that has died; what that was at."""
        import ray

        ray.kill(seat.handle)  # should it only be out of reach
        death, jobs, opened = last_words(seat.journal, seat.node), seat.jobs, bool(seat.node)
        self._pending = {ref: one for ref, one in self._pending.items() if one[0] is not seat}
        self._failed = 0 if opened else self._failed + 1
        # Once there were some, those of a node that is lost while they start are no sign.
        if self._failed >= _STARTS + (2 * self.workers if self._opened else 0):
            raise EnvironmentsError(
                f"suite {self.suite.name}: its environments end {self._failed} times in a row "
                f"before they have begun ({death.what})"
            )
        for job in jobs:
            if job.episode.id == death.episode:
                job.fault(death.what, -1, seat.node)
            else:
                job.losses, job.error = job.losses + 1, f"its worker was lost: {death.what}"
        self._fill(seat)
        return jobs


def _fit(seats: list[Seat], job: Job) -> list[Seat]:
    """Those that a job should have: where it failed, the node's rendering may be broken, or the
    process."""
    elsewhere = [seat for seat in seats if seat.node != job.avoid_node]
    others = [seat for seat in seats if seat.number != job.avoid]
    return elsewhere or others or seats
