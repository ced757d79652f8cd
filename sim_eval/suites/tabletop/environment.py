"""The tabletop's environment: a simulation that is reset, stepped and rendered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError, hint
from ego_ops.synthetic.render import load_mujoco
from sim_eval.suite import Floats, Image, Observation
from sim_eval.suites.tabletop import expert, robot, scene, variation
from sim_eval.suites.tabletop.poses import Pose
from sim_eval.suites.tabletop.robot import Gripper
from sim_eval.suites.tabletop.sight import Sight
from sim_eval.suites.tabletop.tasks import CHORES, Chore

HOLD = 3
"""Steps for which a task has to stay solved, so that nothing passes while it falls."""
SETTLE = 150
"""Physics steps before an episode, in which things come to rest."""


class _Stage:
    """The model of one task and its data: compiled once, set anew for every episode."""

    def __init__(self, chore: Chore):
        self.chore = chore
        self.model = scene.build(chore)
        self.data = load_mujoco().MjData(self.model)
        self.gripper = Gripper(self.model, self.data)
        self.sight = Sight(chore, self.model, self.data, self.gripper)
        self.renderer: Any = None

    def picture(self, camera: str) -> Image:
        if self.renderer is None:
            mujoco = load_mujoco()
            self.renderer = mujoco.Renderer(self.model, scene.SIZE, scene.SIZE)
            self._shown = mujoco.MjvOption()
            self._shown.geomgroup[:] = [1, 1, 0, 0, 0, 0]
        self.renderer.update_scene(self.data, camera, self._shown)
        image: Image = self.renderer.render()
        return image

    def close(self) -> None:
        if self.renderer is not None:
            self.renderer.close()
        self.renderer = None


class TabletopEnvironment:
    """See `sim_eval.suite.Environment`. Models and renderers are kept from episode to episode;
    every number in them that an episode changes is set again by `reset`.

    Args:
        cameras: those that are rendered.
        draw: what differs between episodes: one of `variation`'s.

    Raises:
        UserError: MuJoCo is not installed, or there is nothing to render with.
    """

    def __init__(
        self,
        cameras: tuple[str, ...],
        draw: Callable[[Chore, int], variation.Layout] = variation.draw,
    ):
        self._mujoco = load_mujoco()
        self._cameras, self._draw = cameras, draw
        self._stages: dict[str, _Stage] = {}
        self._stage: _Stage | None = None
        self._solved = 0
        self._eye = Pose(np.zeros(3), np.array([1.0, 0, 0, 0]))

    def reset(self, task: str, seed: int) -> None:
        if task not in CHORES:
            raise UserError(f"tabletop has no task {task}: {hint(task, CHORES)}")
        if seed < 0:
            raise UserError(f"seed {seed}: seeds are 0 or more")
        if task not in self._stages:
            self._stages[task] = _Stage(CHORES[task])
        self._stage = stage = self._stages[task]
        layout = self._draw(stage.chore, seed)
        self._mujoco.mj_resetData(stage.model, stage.data)
        variation.apply(layout, stage.chore, stage.model, stage.data)
        self._mujoco.mj_step(stage.model, stage.data, nstep=SETTLE)
        stage.data.time = 0.0
        self._mujoco.mj_forward(stage.model, stage.data)
        self._solved, self._eye = 0, Pose.of(layout.camera.inv())

    def observe(self) -> Observation:
        stage = self._playing()
        images = {camera: stage.picture(camera) for camera in self._cameras}
        return Observation(images, self.proprioception(), stage.chore.task.instruction)

    @property
    def task(self) -> str:
        """Of the episode that goes on."""
        return self._playing().chore.task.name

    @property
    def model(self) -> Any:
        """MuJoCo's model of the task."""
        return self._playing().model

    @property
    def data(self) -> Any:
        """MuJoCo's data: the state of the episode that goes on."""
        return self._playing().data

    @property
    def sight(self) -> Sight:
        """What is true of the scene now."""
        return self._playing().sight

    def proprioception(self) -> Floats:
        """(10,) T_camera_gripper, as in a shard's states, and the opening."""
        gripper = self._playing().gripper
        pose = self._eye @ gripper.pose
        matrix = pose.axes()
        return np.concatenate([pose.place, matrix[:, 0], matrix[:, 1], [gripper.opening]])

    def picture(self) -> Image:
        return self._playing().picture("base_0_rgb")

    def step(self, action: Floats) -> bool:
        stage = self._playing()
        data, each = stage.data, robot.SUBSTEPS // robot.PIECES
        for pose, control in stage.gripper.path(action):
            data.mocap_pos[0], data.mocap_quat[0], data.ctrl[:] = *pose, control
            self._mujoco.mj_step(stage.model, data, nstep=each)
        self._mujoco.mj_fwdPosition(stage.model, data)  # poses and contacts of now, not of before
        self._solved = self._solved + 1 if stage.sight.done() else 0
        return self._solved >= HOLD

    def state(self) -> bytes:
        stage = self._playing()
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        numbers: NDArray[np.float64] = np.empty(self._mujoco.mj_stateSize(stage.model, kind))
        self._mujoco.mj_getState(stage.model, stage.data, numbers, kind)
        return numbers.tobytes() + bytes([min(self._solved, HOLD)])

    def restore(self, state: bytes) -> None:
        """Go on from another moment of the same task and seed: what comes is, to the bit, what came
        where the state was taken.

        Args:
            state: of `state`; its last byte, for how long the task has been solved, may be missing.

        Raises:
            UserError: it is none of this task, or not finite; nothing is changed then.
        """
        stage = self._playing()
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        size = self._mujoco.mj_stateSize(stage.model, kind)
        if len(state) not in (8 * size, 8 * size + 1):
            raise UserError(f"a state of {self.task} has {8 * size + 1} bytes, this {len(state)}")
        numbers = np.frombuffer(state, np.float64, size).copy()  # MuJoCo wants it writeable
        if not np.isfinite(numbers).all():
            raise UserError("a state that is not finite")
        self._mujoco.mj_setState(stage.model, stage.data, numbers, kind)
        self._mujoco.mj_fwdPosition(stage.model, stage.data)
        self._solved = state[8 * size] if len(state) > 8 * size else 0

    def expert(self) -> Floats:
        return expert.act(self._playing().sight)

    def close(self) -> None:
        for stage in self._stages.values():
            stage.close()

    def _playing(self) -> _Stage:
        if self._stage is None:
            raise RuntimeError("no episode: call reset first")
        return self._stage
