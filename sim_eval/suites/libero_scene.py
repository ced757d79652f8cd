"""The simulation of one of LIBERO's tasks: exactly robosuite's, at a fraction of its time.

LIBERO's own environment loads a task's model anew at every reset, which takes seconds, renders at
every step, and computes the dynamics three times over in each of its 25 substeps. None of that
changes what happens. Here the model is loaded once, all that an episode changes in it is set back,
dynamics are computed once, and pictures are left to those who want them.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_eval.suite import Floats
from sim_eval.suites.libero_package import Place, environment_class
from sim_eval.suites.libero_view import SIDE, View

RANDOM_SEED = 7
"""Of NumPy, as openpi sets it before the first episode of a task."""
REST = 10
"""Steps before an episode, in which things come to rest; success in them counts for nothing."""
REST_ACTION = np.array([0.0] * 6 + [-1.0])


class Scene:
    """A task's simulation, for one episode after another.

    Raises:
        UserError: LIBERO cannot be imported, or there is nothing to render with.
    """

    def __init__(self, place: Place):
        make = environment_class()
        self._no_room = importlib.import_module("robosuite.utils.errors").RandomizationError
        with np.load(place.states) as recorded:
            self._initial: Floats = recorded["states"]
        chance = np.random.RandomState(RANDOM_SEED).get_state()
        with _chance(chance):
            self._outer = make(
                bddl_file_name=str(place.scene),
                camera_heights=SIDE,
                camera_widths=SIDE,
                use_camera_obs=False,
                hard_reset=False,
            )
        _forget_sources()
        atexit.register(self.close)  # before EGL is, or robosuite complains
        self._inner = self._outer.env
        self._sim = self._inner.sim
        self._model, self._data = self._sim.model._model, self._sim.data._data
        self._physics = _Physics(self._model, self._data)
        self.view = View(self._inner)
        self._fixtures = (self._model.body_pos.copy(), self._model.body_quat.copy())
        self._looks = self._model.site_rgba.copy()
        self._drawers = list(self._inner.object_property_initializers)
        self._draws: list[tuple[Any, int]] = [(chance, 1)]
        """Before each of openpi's resets so far: NumPy's chance, how often the task was loaded."""

    def reset(self, seed: int) -> None:
        """Begin the episode that starts in the recorded initial state of this number.

        Furniture is no part of those states: LIBERO places it by chance at every reset. So the
        chance of openpi's run up to this episode is gone through, once.
        """
        for number in range(min(seed, len(self._draws) - 1), seed + 1):
            chance, loads = self._draws[number]
            with _chance(chance):
                loads, chance = self._place(loads), np.random.get_state()  # noqa: NPY002
            if number + 1 == len(self._draws):
                self._draws.append((chance, loads))
        self._outer.set_init_state(self._initial[seed])
        for _ in range(REST):
            self.step(REST_ACTION)

    def step(self, action: Floats) -> bool:
        """Do an action for 1/20 s; whether the task is solved."""
        with self._physics.once(self._sim):
            return bool(self._outer.step(action)[2])

    def state(self) -> bytes:
        """Time, positions, velocities, controls and the solver's start; where furniture is."""
        return self._physics.state() + b"".join(
            poses.tobytes() for poses in (self._model.body_pos, self._model.body_quat)
        )

    def close(self) -> None:
        """Let go of the renderer and the model."""
        atexit.unregister(self.close)
        self.view.close()
        self._outer.close()

    def _place(self, loads: int) -> int:
        """What LIBERO's reset does, which loads the task, after it was loaded so many times; how
        many times it was then."""
        robot = self._inner.robots[0]
        robot.gripper.current_action = np.zeros(robot.gripper.dof)
        while True:
            loads += 1
            self._model.body_pos[:], self._model.body_quat[:] = self._fixtures
            self._model.site_rgba[:] = self._looks
            # With every load, one more draw of how far drawers are open is done at a reset.
            self._inner.object_property_initializers = self._drawers * loads
            try:
                self._inner.reset()
            except self._no_room:
                continue  # as LIBERO does
            return loads


def _forget_sources() -> None:
    """Let go of what MuJoCo keeps of a compiled model: all that it was compiled from, until it
    compiles another one, and meshes and textures as they were read. Of a scene's 2 GB it is nearly
    one, which the C library would not give back by itself."""
    import mujoco

    mujoco.MjModel.from_xml_string("<mujoco/>")
    mujoco.mj_clearCache(mujoco.mj_getCache())
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


class _Physics:
    """MuJoCo's substeps, for robosuite to take."""

    def __init__(self, model: Any, data: Any):
        import mujoco

        self._mujoco, self._model, self._data = mujoco, model, data
        self._kind = mujoco.mjtState.mjSTATE_INTEGRATION
        self._forward = False

    @contextmanager
    def once(self, sim: Any) -> Iterator[None]:
        """Within, robosuite's `forward, forward, step` computes what a single step does: the
        controls alone have changed when it steps, so the first half of the step stays as it is."""
        sim.forward, sim.step = self._first_half, self._second_half
        try:
            yield
        finally:
            del sim.forward, sim.step

    def state(self) -> bytes:
        numbers: NDArray[np.float64]
        numbers = np.empty(self._mujoco.mj_stateSize(self._model, self._kind))
        self._mujoco.mj_getState(self._model, self._data, numbers, self._kind)
        return numbers.tobytes()

    def _first_half(self) -> None:
        if not self._forward:
            self._mujoco.mj_step1(self._model, self._data)
        self._forward = True

    def _second_half(self) -> None:
        self._mujoco.mj_step2(self._model, self._data)
        self._forward = False


@contextmanager
def _chance(state: Any) -> Iterator[None]:
    """NumPy's global chance, which LIBERO draws from; before and after, that of whoever else."""
    kept = np.random.get_state()  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(kept)  # noqa: NPY002
