"""What a crew of environment workers is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sim_eval.episode import Episode, Result
from sim_eval.policy import LocalPolicy
from sim_eval.rollout import Played


class Player(NamedTuple):
    """Who is asked: actors of `workflows.policy_actor`, or policies made beside the environment."""

    name: str
    actors: Sequence[Any] = ()
    local: Callable[[Episode], LocalPolicy] | None = None


class Finished(NamedTuple):
    """An episode and what became of it."""

    result: Result
    film: bytes = b""
    """MP4, if one was asked for."""
    warning: str = ""
    """Why there is none."""


@dataclass
class Job:
    """An episode that is to be played, or that was and is to be filmed."""

    episode: Episode
    played: Played | None = None
    faults: int = 0
    """How often its environment raised an error, crashed or was stuck in it."""
    losses: int = 0
    """How often its worker died for another reason."""
    error: str = ""
    """Of the last of those."""
    avoid: int = -1
    """The worker of the last fault."""
    avoid_node: str = ""
    """Where that was."""
    actor: int = 0

    def fault(self, error: str, worker: int, node: str) -> None:
        """Its environment failed, there."""
        self.faults, self.error = self.faults + 1, error
        self.avoid, self.avoid_node = worker, node


@dataclass
class Seat:
    """One worker, and its successors."""

    number: int
    handle: Any = None
    journal: str = ""
    node: str = ""
    """Where it is; "" until it has an environment."""
    jobs: list[Job] = field(default_factory=list)
