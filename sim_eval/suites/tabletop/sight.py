"""What is true of a scene right now: where things are and what touches what."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_eval.suites.tabletop.poses import Pose
from sim_eval.suites.tabletop.robot import Gripper
from sim_eval.suites.tabletop.tasks import Chore
from sim_eval.suites.tabletop.things import Thing, make

Floats = NDArray[np.float64]

TOUCH = 0.0005
"""Things touch whose surfaces are nearer than this, metres."""
STILL, STILL_TURN = 0.03, 0.6
"""A thing lies still below these, metres and radians a second."""


class Sight:
    """A scene as its success and the script see it. Valid as long as the model and data are."""

    def __init__(self, chore: Chore, model: Any, data: Any, gripper: Gripper):
        self._model, self._data = model, data
        self.gripper = gripper
        self.thing_made: Thing = make(chore.thing)
        self.goal_made: Thing = make(chore.goal)
        self._thing, self._goal = model.body(chore.thing).id, model.body(chore.goal).id
        self._fingers = [model.body(name).id for name in ("finger_left", "finger_right")]
        self._hand = [model.body("gripper").id, *self._fingers]
        first = model.body_dofadr[self._thing]
        self._motion = slice(first, first + 6)

    @property
    def thing(self) -> Pose:
        """T_world_thing."""
        return self._pose(self._thing)

    @property
    def goal(self) -> Pose:
        """T_world_goal."""
        return self._pose(self._goal)

    def touching(self, body: int | None = None) -> set[int]:
        """Bodies that one touches, by default the thing; the table is 0."""
        body = self._thing if body is None else body
        contact = self._data.contact
        pairs = self._model.geom_bodyid[contact.geom.reshape(-1, 2)]
        ours = (pairs == body).any(1) & (contact.dist < TOUCH)
        return set(pairs[ours].ravel().tolist()) - {body}

    def held(self) -> bool:
        """Whether both fingers touch the thing."""
        return set(self._fingers) <= self.touching()

    def scraping(self) -> bool:
        """Whether a finger touches the table or the goal."""
        return any(self.touching(finger) & {0, self._goal} for finger in self._fingers)

    def offset(self) -> Floats:
        """(3,) from the goal to the thing, in the goal's frame."""
        return self.goal.inverse().apply(self.thing.place)

    def over(self) -> bool:
        """Whether the thing's middle is above the goal, at whatever height."""
        return bool((np.abs(self.offset()[:2]) <= self.goal_made.room).all())

    def height(self) -> float:
        """How far the thing's middle is above where it is when it lies flat on the goal, metres."""
        return float(self.thing.place[2] - self.goal_made.surface - self.thing_made.rest)

    def done(self) -> bool:
        """Whether the thing lies still on or in its goal and neither the robot nor the table
        touches it."""
        touched = self.touching()
        if self._goal not in touched or touched & {0, *self._hand} - {self._goal}:
            return False
        motion = self._data.qvel[self._motion]
        still = np.linalg.norm(motion[:3]) < STILL and np.linalg.norm(motion[3:]) < STILL_TURN
        return bool(still) and self.over() and abs(self.height()) < self._slack()

    def _slack(self) -> float:
        """How much higher than flat a thing may lie: in a basket it may lean on a wall."""
        tall = self.goal_made.top - self.goal_made.surface
        return max(0.008, 0.5 * tall)

    def _pose(self, body: int) -> Pose:
        return Pose(self._data.xpos[body].copy(), self._data.xquat[body].copy())
