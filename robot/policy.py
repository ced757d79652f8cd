"""What a server serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError

Floats = NDArray[np.floating]


class PolicyError(UserError):
    """A policy that has no answer to a request; `code` is for programs, the message for people.

    Args:
        code: of `robot.protocol.CODES`.
    """

    def __init__(self, message: str, code: str = "policy_error"):
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[PolicyError], tuple[str, str]]:
        return type(self), (str(self), self.code)


class Request(NamedTuple):
    """A policy is asked what to do."""

    observation: Mapping[str, Any]
    """As the client sent it, decoded: arrays, numbers, text; pictures (H, W, 3) uint8 RGB."""
    client: str
    """Whose it is: states of clients (a noise's seed, a history) are kept apart by it."""
    fresh: bool
    """Whether an episode begins with it: what was kept of this client is to be forgotten."""
    prefix: Floats | None = None
    """(P, A) actions, in the policy's units, of the chunk that the robot does meanwhile, from the
    one that is due as this observation is made: see `robot.protocol.Ask`."""
    delay: int = 0
    """How many of them will be done before the answer is."""


class Answer(NamedTuple):
    """What a policy says."""

    actions: Floats
    """(H, A)."""
    extra: Mapping[str, Any] = {}
    """Other keys of the answer's map, e.g. `state`."""


class Policy(Protocol):
    """A policy that answers several requests at once. All calls come from one thread."""

    metadata: Mapping[str, Any]
    """What the server says of it as a client connects: openpi's clients hand it on."""
    batch: int
    """Most requests of a call."""

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        """An answer for each of 1 to `batch` requests, or why there is none for it.

        Raises:
            PolicyError: there is no answer for any.
        """

    def forget(self, client: str) -> None:
        """The client is gone."""

    def close(self) -> None:
        """Let go of memory."""
