"""What decides: policies that are asked for chunks of actions.

Two kinds. A `BatchPolicy` (a checkpoint, a server) lives in an actor of its own and answers the
requests of many episodes at once. A `LocalPolicy` (the scripted expert, random, a replay) is cheap
or needs the simulator itself, and is made anew in the environment's process for every episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ego_ops.errors import UserError
from sim_eval.suite import Environment, Floats, Observation, Suite


class PolicyError(UserError):
    """A policy that cannot answer now: its server is away, it ran out of memory."""


class PolicyEnded(Exception):
    """A policy that has no more actions: the episode ends here, unsolved."""


class Request(NamedTuple):
    """A policy is asked what to do."""

    observation: Observation
    episode: str
    """Its id."""
    step: int
    """Of the episode, from 0."""

    def generator(self) -> np.random.Generator:
        """For whatever chance there is in the answer: of the episode and the step, nothing else, so
        that an episode is the same beside any others."""
        digest = hashlib.blake2b(f"{self.episode}/{self.step}".encode(), digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))


class BatchPolicy(Protocol):
    """A policy that answers several requests at once."""

    digest: str
    """Of all that its answers follow from: weights, statistics, tokeniser, how it computes."""
    batch: int
    """Most requests of a call."""

    def act(self, requests: Sequence[Request]) -> list[Floats | PolicyError]:
        """A chunk (H, n) for each of 1 to `batch` requests, or why there is none for it.

        An answer does not depend, to the bit, on the requests beside it or on how many there are.
        It may hold what no robot can do (NaN, wrong shapes): who asks looks at it.

        Raises:
            PolicyError: there is no answer for any.
        """

    def close(self) -> None:
        """Let go of connections and memory."""


class LocalPolicy(Protocol):
    """A policy in the environment's own process, for one episode."""

    sees: bool
    """Whether it looks at observations; if not, none is rendered for it."""

    def act(self, environment: Environment, request: Request | None) -> Floats:
        """A chunk (H, action_size); the request is None if it does not look.

        Raises:
            UserError: it cannot: a suite without a script.
            PolicyEnded: it has done all that it does: a recording that has ended.
        """


def check_shape(suite: Suite, actions: object) -> Floats:
    """A policy's answer as this suite's (H, action_size).

    Raises:
        UserError: it is no chunk of actions, of another size, or not finite: one line that says
            which.
    """
    try:
        chunk = np.asarray(actions, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"no array of numbers: {type(actions).__name__}") from error
    if chunk.ndim != 2 or not len(chunk):
        raise UserError(f"actions of shape {chunk.shape}: a chunk is (steps, numbers)")
    if not np.isfinite(chunk).all():
        step, number = np.argwhere(~np.isfinite(chunk))[0]
        raise UserError(f"action {step}, number {number} is {chunk[step, number]}")
    return suite.padded(chunk)
