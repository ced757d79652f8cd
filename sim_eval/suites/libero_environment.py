"""LIBERO's environment: scenes by task, and what a policy is shown of them."""

from __future__ import annotations

from collections.abc import Mapping

from ego_ops.errors import UserError, hint
from sim_eval.suite import Floats, Image, Observation
from sim_eval.suites.libero_package import Place, environment_class
from sim_eval.suites.libero_scene import Scene
from sim_eval.suites.libero_view import CAMERAS, scaled

SEEDS = 50


class LiberoEnvironment:
    """See `sim_eval.suite.Environment`. One task's scene is kept: another's takes seconds to load,
    and a scene takes 1 to 2 GB of memory.

    Args:
        suite: its name, for messages.
        places: its tasks by name.

    Raises:
        UserError: LIBERO cannot be imported, or there is nothing to render with.
    """

    def __init__(self, suite: str, places: Mapping[str, Place]):
        environment_class()
        self._suite, self._places = suite, places
        self._task = ""
        self._kept: Scene | None = None

    def reset(self, task: str, seed: int) -> None:
        if task not in self._places:
            raise UserError(f"{self._suite} has no task {task}: {hint(task, self._places)}")
        if not 0 <= seed < SEEDS:
            raise UserError(f"{self._suite}, seed {seed}: seeds are 0 to {SEEDS - 1}")
        if task != self._task:
            self.close()
            self._kept, self._task = Scene(self._places[task]), task
        self._scene.reset(seed)

    def observe(self) -> Observation:
        view = self._scene.view
        images = {camera: scaled(view.picture(camera)) for camera in CAMERAS}
        return Observation(images, view.proprioception(), self._places[self._task].language)

    def picture(self) -> Image:
        return self._scene.view.picture("base_0_rgb")

    def step(self, action: Floats) -> bool:
        return self._scene.step(action)

    def state(self) -> bytes:
        return self._scene.state()

    def expert(self) -> Floats:
        raise UserError(f"{self._suite} has no script that solves its tasks: take another policy")

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
        self._kept, self._task = None, ""

    @property
    def _scene(self) -> Scene:
        if self._kept is None:
            raise RuntimeError("no episode: call reset first")
        return self._kept
