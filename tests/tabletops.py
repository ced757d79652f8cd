"""Episodes of the tabletop for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from sim_eval.suite import Floats
from sim_eval.suites.tabletop import Tabletop
from sim_eval.suites.tabletop.environment import TabletopEnvironment
from sim_eval.suites.tabletop.tasks import CHORES

STAY = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0, 1.0])
"""The action that does nothing, the gripper open."""


def environments() -> Iterator[TabletopEnvironment]:
    environment = Tabletop().environment()
    assert isinstance(environment, TabletopEnvironment)
    yield environment
    environment.close()


def steps_of(environment: TabletopEnvironment, act: Callable[[], Floats], task: str) -> int | None:
    """Steps until an episode that goes on now is solved; None if its horizon passes first."""
    for step in range(CHORES[task].task.horizon):
        if environment.step(act()):
            return step + 1
    return None


def solved(environment: TabletopEnvironment, action: Floats, steps: int) -> bool:
    """Whether a task counts as solved at any of these steps of the same action."""
    return True in [environment.step(action) for _ in range(steps)]


def wild(rng: np.random.Generator) -> Floats:
    """An action far beyond what the robot can do."""
    return np.concatenate([rng.normal(size=9), rng.uniform(size=1)])


def jitter(rng: np.random.Generator) -> Floats:
    """An action of about the size of the script's."""
    return STAY + np.append(rng.normal(scale=0.02, size=3), rng.normal(scale=0.1, size=7))


def history(environment: TabletopEnvironment, task: str, seed: int, steps: int = 15) -> str:
    """Digest of all states of an episode of the script with a few actions by chance."""
    environment.reset(task, seed)
    rng = np.random.default_rng(seed)
    digest = hashlib.sha256(environment.state())
    for step in range(steps):
        environment.step(jitter(rng) if step % 3 == 2 else environment.expert())
        digest.update(environment.state())
    return digest.hexdigest()
