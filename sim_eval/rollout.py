"""One episode: its policy is asked, what it answers is played, until the end."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ego_ops.errors import UserError
from sim_eval.episode import FAILURE, INVALID_ACTION, SUCCESS, Episode, Outcome, Result
from sim_eval.policy import LocalPolicy, PolicyEnded, Request, check_shape
from sim_eval.suite import Environment, Floats, Image, Suite, Task


class Played(NamedTuple):
    """An episode that has ended."""

    result: Result
    actions: Floats
    """(steps, action_size): all that were done. Task, seed and these make the episode again."""


@dataclass
class Rollout:
    """An episode that goes on: `request` and `play` by turns, until there is no request.

        rollout = Rollout(suite, environment, episode)
        while request := rollout.request():
            rollout.play(ask(request))
        rollout.end().result

    Args:
        policy: its name, for the result.
    """

    suite: Suite
    environment: Environment
    episode: Episode
    policy: str = ""
    task: Task = field(init=False)
    step: int = field(init=False, default=0)
    outcome: Outcome | None = field(init=False, default=None)
    """None while it goes on."""

    def __post_init__(self) -> None:
        self.task = self.suite.tasks[self.episode.task]
        self._error = ""
        self._latencies: list[float] = []
        self._actions: list[Floats] = []
        self._chunks = _Chunks(self.episode.settings.ensemble)
        self._states = hashlib.blake2b(digest_size=16)
        self._begun = time.perf_counter()
        self.environment.reset(self.task.name, self.episode.seed)
        self._states.update(self.environment.state())

    def request(self) -> Request | None:
        """What the policy is to be asked now, which renders; None once the episode is over."""
        if self.outcome is not None:
            return None
        return Request(self.environment.observe(), self.episode.id, self.step)

    def play(self, answer: object, latency: float) -> None:
        """Do the answer's actions until the policy is to be asked again, or the episode is over.

        Args:
            answer: a chunk (H, n), or whatever else the policy gave.
            latency: seconds that it took.
        """
        self._latencies.append(latency)
        try:
            chunk = check_shape(self.suite, answer)
        except UserError as error:
            self.stop(INVALID_ACTION, str(error))
            return
        for action in self._actions_of(chunk):
            self._actions.append(action)
            solved = self.environment.step(action)
            self.step += 1
            self._states.update(self.environment.state())
            if solved:
                self.outcome = SUCCESS
            elif self.step >= self.task.horizon:
                self.outcome = FAILURE
            if self.outcome is not None:
                return

    def play_local(self, policy: LocalPolicy) -> None:
        """The turns of a policy that is asked here.

        Raises:
            UserError: it has no answer.
        """
        while self.outcome is None:
            request = self.request() if policy.sees else None
            begun = time.perf_counter()
            try:
                answer = policy.act(self.environment, request)
            except PolicyEnded:
                self.stop(FAILURE, "")
            else:
                self.play(answer, time.perf_counter() - begun)

    def stop(self, outcome: Outcome, error: str) -> None:
        """End it here; `error` is one line that says why."""
        self.outcome, self._error = outcome, error

    def end(self) -> Played:
        """What became of it, once it is over."""
        assert self.outcome is not None, "it goes on"
        milliseconds = 1000 * np.array(self._latencies or [0.0])
        result = replace(
            unplayed(self.suite, self.episode, self.policy, self.outcome, self._error),
            steps=self.step,
            states=self._states.hexdigest(),
            calls=len(self._latencies),
            latency_mean_ms=float(milliseconds.mean()),
            latency_max_ms=float(milliseconds.max()),
            seconds=time.perf_counter() - self._begun,
        )
        actions = np.array(self._actions).reshape(-1, self.suite.action_size)
        return Played(result, actions)

    def _actions_of(self, chunk: Floats) -> Iterator[Floats]:
        """Of a chunk, the actions to do before the policy is asked again."""
        if self.episode.settings.ensemble is None:
            yield from chunk[: self.episode.settings.replan]
        else:
            yield self._chunks.mean(self.step, chunk)


class _Chunks:
    """Temporal ensembling, as ACT defines it (arXiv 2304.13705, section IV-B).

    Args:
        decay: weights are exp(-decay * i), i = 0 for the oldest chunk that reaches the step.
    """

    def __init__(self, decay: float | None):
        self._decay = decay or 0.0
        self._kept: deque[tuple[int, Floats]] = deque()

    def mean(self, step: int, chunk: Floats) -> Floats:
        """(n,) the action of a step, given the chunk that begins with it."""
        self._kept.append((step, chunk))
        self._kept = deque((at, one) for at, one in self._kept if step - at < len(one))
        actions = np.array([one[step - at] for at, one in self._kept])
        weights = np.exp(-self._decay * np.arange(len(actions)))
        return weights @ actions / weights.sum()


def unplayed(
    suite: Suite, episode: Episode, policy: str, outcome: Outcome, error: str, attempts: int = 1
) -> Result:
    """The result of an episode in which nothing was done, for one line of reason."""
    return Result(
        episode=episode.id,
        policy=policy,
        policy_digest=episode.policy,
        suite=episode.suite,
        version=episode.version,
        task=episode.task,
        instruction=suite.tasks[episode.task].instruction,
        seed=episode.seed,
        replan=episode.settings.replan,
        ensemble=episode.settings.ensemble,
        outcome=outcome,
        error=error,
        steps=0,
        fps=suite.fps,
        states="",
        calls=0,
        latency_mean_ms=0.0,
        latency_max_ms=0.0,
        seconds=0.0,
        attempts=attempts,
        video="",
        time=time.time(),
    )


def pictures(
    suite: Suite, environment: Environment, result: Result, actions: Floats
) -> Iterator[Image]:
    """An episode once more, as a person is to see it: its beginning, then every step.

    Args:
        actions: what was done in it.

    Raises:
        UserError: at its end, if it was not the same episode again.
    """
    environment.reset(result.task, result.seed)
    states = hashlib.blake2b(environment.state(), digest_size=16)
    yield environment.picture()
    for action in actions:
        environment.step(action)
        states.update(environment.state())
        yield environment.picture()
    if states.hexdigest() != result.states:
        raise UserError(
            f"{suite.name}, {result.task}, seed {result.seed}: the same actions gave another "
            "episode the second time; its results cannot be relied on"
        )
