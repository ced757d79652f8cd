"""The tabletop as an arm that is led to poses at any time, for simulation in real time.

The base frame is the world's: the table is at z = 0, its normal is z.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ego_ops.synthetic.render import load_mujoco
from sim_eval.suite import Floats, Image
from sim_eval.suites.tabletop import CAMERAS, robot, variation
from sim_eval.suites.tabletop.environment import HOLD, TabletopEnvironment
from sim_eval.suites.tabletop.poses import Pose, inverse, quat_of, times, turn_of
from sim_eval.suites.tabletop.robot import LOWER, SQUEEZE, TRAVEL, UPPER, Gripper, shortened
from sim_eval.suites.tabletop.tasks import Chore


class LiveTabletop:
    """See `robot.robots.simulated.Simulation`.

    Args:
        cameras: those that are rendered.
        draw: what differs between episodes: one of `variation`'s.
    """

    timestep = robot.TIMESTEP

    def __init__(
        self,
        cameras: tuple[str, ...] = CAMERAS[:1],
        draw: Callable[[Chore, int], variation.Layout] = variation.draw,
    ):
        self._environment, self._cameras = TabletopEnvironment(cameras, draw), cameras
        self._mujoco = load_mujoco()
        self._steps = self._solved = 0

    def reset(self, task: str, seed: int) -> None:
        """Begin an episode. Raises UserError: there is no such task or seed."""
        self._environment.reset(task, seed)
        self._gripper = Gripper(self._environment.model, self._environment.data)
        self._steps = self._solved = 0

    def position(self) -> Floats:
        """(8,) T_world_gripper as measured, and the opening that the fingers are told to have: what
        they hold keeps them from it."""
        return _command(self._gripper.pose, self._gripper.grip)

    def target(self) -> Floats:
        """(8,) T_world_gripper and the opening that the gripper is led to: steps of a policy begin
        there, here as in the suite."""
        return _command(self._gripper.target, self._gripper.grip)

    def lead(self, command: Floats) -> None:
        """Have the gripper go to a pose and an opening, (8,): no further than the suite allows from
        where it is, and within its bounds."""
        here, leash = self._gripper.pose, robot.MAX_MOVE + robot.LEASH
        turn = turn_of(times(inverse(here.quat), np.roll(command[3:7], 1)))
        turn = shortened(turn, robot.MAX_TURN + robot.LEASH_TURN)
        place = here.place + shortened(command[:3] - here.place, leash)
        data = self._environment.data
        data.mocap_pos[0] = np.clip(place, LOWER, UPPER)
        data.mocap_quat[0] = times(here.quat, quat_of(turn))
        data.ctrl[:] = min(max(command[7], 0.0), 1.0) * (TRAVEL + SQUEEZE) - SQUEEZE

    def advance(self, steps: int) -> None:
        """Go on by so many physics steps; whether the task is done is looked at every tenth of a
        second, as often as the suite does."""
        environment = self._environment
        self._mujoco.mj_step(environment.model, environment.data, nstep=steps)
        before, self._steps = self._steps, self._steps + steps
        if self._steps // robot.SUBSTEPS > before // robot.SUBSTEPS:
            self._mujoco.mj_fwdPosition(environment.model, environment.data)
            self._solved = self._solved + 1 if environment.sight.done() else 0

    def solved(self) -> bool:
        """Whether the task has been done for as long as the suite wants."""
        return self._solved >= HOLD

    def proprioception(self) -> Floats:
        """(10,) as the suite's states."""
        return self._environment.proprioception()

    def state(self) -> bytes:
        """See `TabletopEnvironment.state`."""
        return self._environment.state()

    def restore(self, state: bytes) -> None:
        """See `TabletopEnvironment.restore`."""
        self._environment.restore(state)

    def pictures(self) -> dict[str, Image]:
        """(224, 224, 3) RGB by camera."""
        images = self._environment.observe().images
        return {camera: images[camera].copy() for camera in self._cameras}

    def close(self) -> None:
        """Let go of renderers."""
        self._environment.close()


def plain(cameras: tuple[str, ...]) -> LiveTabletop:
    """The arm of the suite `tabletop_plain`: one look and one camera for all episodes."""
    return LiveTabletop(cameras, variation.plain)


def _command(pose: Pose, opening: float) -> Floats:
    return np.concatenate([pose.place, np.roll(pose.quat, -1), [opening]])
