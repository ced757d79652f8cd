"""Policies of one's own for tests of `egoscaler serve`: --policy tests.served_policies:Echo."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robot.policy import Answer, PolicyError, Request


class Echo:
    """Answers with the state, in every row of its chunk, and with its process's number."""

    batch = 4
    metadata: Mapping[str, Any] = {"policy": "echo", "pid": os.getpid()}
    cost_s = 0.0

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        time.sleep(self.cost_s)
        return [self._answer(request) for request in requests]

    def forget(self, client: str) -> None:
        return

    def close(self) -> None:
        return

    def _answer(self, request: Request) -> Answer | PolicyError:
        state = request.observation.get("observation/state")
        if not isinstance(state, np.ndarray):
            return PolicyError("no observation/state in the message", "bad_request")
        return Answer(np.tile(state, (3, 1)), {"pid": os.getpid()})


class Slow(Echo):
    """Takes a second for every call."""

    cost_s = 1.0


class Hangs(Echo):
    """Never answers a request that says so."""

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        while any(request.observation.get("hang") for request in requests):
            time.sleep(1)
        return super().infer(requests)


class Broken(Echo):
    """Cannot be made."""

    def __init__(self) -> None:
        raise ValueError("no weights\nanywhere")


class Crash(Echo):
    """Its process ends while it is made."""

    def __init__(self) -> None:
        os.abort()
