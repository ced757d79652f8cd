"""An openpi websocket server as a policy: it is sent what openpi's clients of the robot send it.

Several requests are in flight, each in a connection of its own. A server's own chance (π0 begins
from noise that openpi's server draws, call by call) cannot be set from here: an episode that such a
server plays is not the same the second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robot.encoding import pack, unpack
from sim_eval.policies.connection import ANSWER_S, PATIENCE_S, Connections
from sim_eval.policies.names import Named
from sim_eval.policy import PolicyError, Request
from sim_eval.suite import Floats, Suite


class ServerPolicy:
    """See `sim_eval.policy.BatchPolicy`. Args as those of `Connections`.

    Raises:
        PolicyError: no server answers.
    """

    def __init__(
        self,
        policy: Named,
        suite: Suite,
        patience_s: float = PATIENCE_S,
        answer_s: float = ANSWER_S,
    ):
        self.digest, self.batch = policy.digest, policy.compute.batch
        self._message = suite.message
        self._connections = Connections(policy.place, patience_s, answer_s, policy.access)
        try:
            self._connections.metadata()
        except PolicyError:
            self._connections.close()
            raise

    def act(self, requests: Sequence[Request]) -> list[Floats | PolicyError]:
        """See `BatchPolicy.act`; chunks are what the server calls `actions`."""
        messages = [pack(self._message(request.observation)) for request in requests]
        return [self._chunk(answer) for answer in self._connections.ask(messages)]

    def close(self) -> None:
        """Hang up."""
        self._connections.close()

    def _chunk(self, answer: bytes | PolicyError) -> Floats | PolicyError:
        if isinstance(answer, PolicyError):
            return answer
        try:
            said: Any = unpack(answer)
            return np.asarray(said["actions"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return PolicyError(
                f"{self._connections.address}: the answer has no actions that can be read "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            )
