"""Policies that need no server: the scripted expert, chance, a recording.

Each gives chunks of one action, so it is asked at every step, and neither the replan horizon nor
temporal ensembling makes a difference to it. None looks at pictures, so none are rendered for it.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sim_eval.episode import Episode
from sim_eval.policies.names import Named
from sim_eval.policies.replay import Replay
from sim_eval.policy import LocalPolicy, Request
from sim_eval.suite import Environment, Floats, Observation, Suite

_MOVE_M, _TURN_RAD = 0.02, 0.1
_POSE = 9
"""Numbers of a step of a pose, see `ego_ops.geometry.actions`."""
_UNSEEN = Observation({}, np.empty(0), "")


class Expert:
    """The suite's script, which knows where all things are."""

    sees = False

    def act(self, environment: Environment, request: Request | None) -> Floats:
        """(1, action_size). Raises UserError: the suite has no script."""
        return np.asarray(environment.expert(), np.float64)[None]


class Random:
    """Steps by chance, which follow from the episode's id and the step alone.

    Steps of a pose (9 numbers, or 10 with the gripper's opening) move by about 2 cm and 0.1 rad;
    other robots' numbers are taken to be controls between -1 and 1.
    """

    sees = False

    def __init__(self, episode: str, action_size: int):
        self._episode, self._size, self._step = episode, action_size, 0

    def act(self, environment: Environment, request: Request | None) -> Floats:
        """(1, action_size)."""
        chance = Request(_UNSEEN, self._episode, self._step).generator()
        self._step += 1
        if self._size not in (_POSE, _POSE + 1):
            return chance.uniform(-1, 1, (1, self._size))
        turn = Rotation.from_rotvec(chance.normal(scale=_TURN_RAD, size=3)).as_matrix()
        move = chance.normal(scale=_MOVE_M, size=3)
        opening = chance.uniform(size=self._size - _POSE)
        return np.concatenate([move, turn[:, 0], turn[:, 1], opening])[None]


def open_local(policy: Named, suite: Suite, episode: Episode) -> LocalPolicy:
    """See `sim_eval.policies.open_local`."""
    if policy.kind == "expert":
        return Expert()
    if policy.kind == "random":
        return Random(episode.id, suite.action_size)
    return Replay(policy.place, suite, episode.task, episode.seed)
