"""What is seen of a LIBERO scene: the pictures and numbers that LIBERO's environment would give.

robosuite looks by a clock of its own, after 24 of a step's 25 substeps: the fingers' joints that it
shows are 2 ms older than the simulation, pictures and poses 4 ms. Policies are trained on that;
here the same moment is kept at every step, and rendered only if wanted.
"""

from __future__ import annotations

import importlib
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_eval.suite import Floats, Image

SIDE = 256
"""Pixels of a picture as openpi renders it: that of the demonstrations."""
CAMERAS = {"base_0_rgb": "agentview", "left_wrist_0_rgb": "robot0_eye_in_hand"}
_SHOWN = (
    *("qpos", "xpos", "xquat", "xmat", "xipos", "ximat", "geom_xpos", "geom_xmat"),
    *("site_xpos", "site_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir"),
)
"""Of MuJoCo's data, what a picture is made from; qpos for the fingers."""


class View:
    """Looks at a robosuite environment when its clock says so.

    Args:
        environment: robosuite's, freshly made, without cameras among its observations. Its
            observables are replaced by the clock, so it gives no observations any more.
    """

    def __init__(self, environment: Any):
        import mujoco

        watching = importlib.import_module("robosuite.utils.observables")
        self._environment, sim = environment, environment.sim
        self._sim, self._model, self._data = sim, sim.model._model, sim.data._data
        self._seen = mujoco.MjData(self._model)
        self._looks = self._model.site_rgba.copy()

        @watching.sensor(modality="clock")
        def look(_: object) -> float:
            self._look()
            return 0.0

        clock = watching.Observable("clock", look, sampling_rate=environment.control_freq)
        environment._observables = {"clock": clock}

    def picture(self, camera: str) -> Image:
        """(256, 256, 3) what a camera (π0's name) saw, upright. Rendered upside down and mirrored,
        as OpenGL and LIBERO have it, thus turned by 180 degrees as openpi does."""
        context = self._sim._render_context_offscreen
        context.gl_ctx.make_current()
        now, looks = context.data, self._model.site_rgba.copy()
        context.data, self._model.site_rgba[:] = SimpleNamespace(_data=self._seen), self._looks
        try:
            image: Image = self._sim.render(SIDE, SIDE, camera_name=CAMERAS[camera])
        finally:
            context.data, self._model.site_rgba[:] = now, looks
        return np.ascontiguousarray(image[::-1, ::-1])

    def proprioception(self) -> Floats:
        """(8,) the gripper's position, its rotation as axis-angle, its fingers' joints."""
        robot = self._environment.robots[0]
        hand = self._sim.model.body_name2id(robot.robot_model.eef_name)
        return np.concatenate(
            [
                self._seen.site_xpos[robot.eef_site_id],
                axis_angle(np.roll(self._seen.xquat[hand], -1)),
                self._seen.qpos[robot._ref_gripper_joint_pos_indexes],
            ]
        )

    def close(self) -> None:
        """Free what the renderer holds. robosuite would do so whenever Python collects it, and then
        free whatever has the same number in the OpenGL context that is current by then."""
        context = self._sim._render_context_offscreen
        context.gl_ctx.make_current()
        context.con.free()
        context.gl_ctx.free()

    def _look(self) -> None:
        for name in _SHOWN:
            getattr(self._seen, name)[:] = getattr(self._data, name)
        self._looks[:] = self._model.site_rgba


def axis_angle(quaternion: NDArray[np.float64]) -> Floats:
    """(3,) axis times angle, radians, of a quaternion x y z w of length 1.

    It is robosuite's formula, which openpi uses too: w is not made positive, so angles go to 2π;
    policies have learned it so.
    """
    w = min(max(float(quaternion[3]), -1.0), 1.0)
    length = math.sqrt(1.0 - w * w)
    if math.isclose(length, 0.0):
        return np.zeros(3)
    return quaternion[:3] * 2.0 * math.acos(w) / length


def scaled(image: Image, side: int = 224) -> Image:
    """A square picture for a policy, as openpi's `resize_with_pad` makes it: Pillow's bilinear
    filter, which averages over what a pixel covers."""
    from PIL import Image as Pillow

    return np.asarray(Pillow.fromarray(image).resize((side, side), Pillow.Resampling.BILINEAR))
