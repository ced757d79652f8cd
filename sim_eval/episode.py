"""One episode: what it is called, and what became of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final, Literal, NamedTuple

SUCCESS: Final = "success"
FAILURE: Final = "failure"
INVALID_ACTION: Final = "invalid_action"
POLICY_ERROR: Final = "policy_error"
ENVIRONMENT_ERROR: Final = "environment_error"

JUDGED = (SUCCESS, FAILURE, INVALID_ACTION)
"""Outcomes that say something of the policy: success rates are over these. An invalid action (not
finite, or of the wrong shape) ends an episode without success."""
ERRORS = (POLICY_ERROR, ENVIRONMENT_ERROR)
"""The policy gave no answer (its server is away, its actor died again and again), or the simulator
crashed or was stuck, on several workers. They say nothing of the policy, are reported apart, and
are tried again when the same command is run again."""

Outcome = Literal["success", "failure", "invalid_action", "policy_error", "environment_error"]


@dataclass(frozen=True)
class Settings:
    """How chunks of actions are turned into actions."""

    replan: int
    """Actions of a chunk that are done before the policy is asked again."""
    ensemble: float | None = None
    """Temporal ensembling (arXiv 2304.13705): the policy is asked at every step, and an action is
    the mean of all chunks' for it, weighted by exp(-ensemble * i), i = 0 for the oldest chunk."""


class Episode(NamedTuple):
    """What is to be done. The same one has the same `id` for ever."""

    policy: str
    """Digest of the policy: see `sim_eval.policy`."""
    suite: str
    version: str
    """Of the suite."""
    task: str
    seed: int
    settings: Settings

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
        text = json.dumps([*self[:-1], asdict(self.settings)], separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Result:
    """What became of an episode: one row of the results."""

    episode: str
    """Its id."""
    policy: str
    """As it was given: a path, an address, `expert`."""
    policy_digest: str
    suite: str
    version: str
    task: str
    instruction: str
    seed: int
    replan: int
    ensemble: float | None
    outcome: Outcome
    error: str
    """One line that says what went wrong; "" for success and failure."""
    steps: int
    """Done. Of a success: until the task was solved."""
    fps: float
    """Steps a second of simulated time."""
    states: str
    """Digest over the simulation's state at every step, hexadecimal: equal for equal episodes."""
    calls: int
    """How often the policy was asked."""
    latency_mean_ms: float
    latency_max_ms: float
    """Between asking and the answer, waiting for others of the batch included."""
    seconds: float
    """From the reset to the end, on the clock."""
    attempts: int
    """1, unless the environment crashed before."""
    video: str
    """Path of its video below the results' folder, or ""."""
    time: float
    """When it ended, seconds since 1970."""
