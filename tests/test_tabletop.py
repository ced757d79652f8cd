"""The tabletop's tasks: what counts as solved, who solves them, and that episodes repeat."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ego_ops.errors import UserError
from sim_eval import suites
from sim_eval.suites.tabletop import variation
from sim_eval.suites.tabletop.tasks import CHORES
from tests import tabletops
from tests.tabletops import STAY, history, jitter, solved, steps_of

environment = pytest.fixture(scope="module")(tabletops.environments)
TASKS = list(CHORES)


def test_naming_suites_loads_no_simulator():
    code = (
        "import sys; from sim_eval import suites; suites.get('tabletop').tasks; "
        "sys.exit(any(m in sys.modules for m in ('mujoco', 'torch', 'ray', 'libero')))"
    )
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_unknown_names_end_in_a_hint(environment):
    with pytest.raises(UserError, match="did you mean tabletop"):
        suites.get("tabeltop")
    with pytest.raises(UserError, match="did you mean stack_cube"):
        environment.reset("stack_cubes", 0)
    with pytest.raises(UserError, match="0 or more"):
        environment.reset("stack_cube", -1)


def test_actions_of_other_sizes():
    suite = suites.get("tabletop")
    chunk = np.random.default_rng(0).normal(size=(5, 10))
    assert np.array_equal(suite.padded(chunk), chunk)
    padded = suite.padded(chunk[:, :9])
    assert np.array_equal(padded[:, :9], chunk[:, :9])
    assert (padded[:, 9] == 1).all()
    with pytest.raises(UserError, match="actions of 7 numbers"):
        suite.padded(chunk[:, :7])


@pytest.mark.parametrize("name", ["tabletop", "tabletop_wrist", "tabletop_plain"])
def test_observations_are_what_the_suite_says(name):
    suite = suites.get(name)
    playing = suite.environment()
    playing.reset("spoon_on_towel", 3)
    seen = playing.observe()
    assert tuple(seen.images) == suite.cameras
    for image in [*seen.images.values(), playing.picture()]:
        assert image.shape == (224, 224, 3)
        assert image.dtype == np.uint8
        assert image.std() > 10
    assert seen.state.shape == (suite.state_size,)
    sent = suite.message(seen)
    assert sent["prompt"] == "put the spoon on the towel"
    assert np.array_equal(sent["observation/image"], seen.images["base_0_rgb"])
    assert ("observation/wrist_image" in sent) == (name == "tabletop_wrist")
    playing.close()


def test_plain_episodes_look_alike_and_lie_otherwise():
    one, other = (variation.plain(CHORES["stack_cube"], seed) for seed in (3, 4))
    assert one.thing == variation.draw(CHORES["stack_cube"], 3).thing
    assert one.thing != other.thing
    assert one.camera.as_matrix() == pytest.approx(other.camera.as_matrix(), abs=0)
    assert (one.table, one.ambient) == (other.table, other.ambient)
    assert all(np.array_equal(one.tints[name], other.tints[name]) for name in one.tints)


@pytest.mark.parametrize("task", TASKS)
def test_script_solves(environment, task):
    for seed in range(1000, 1004):
        environment.reset(task, seed)
        steps = steps_of(environment, environment.expert, task)
        assert steps, f"seed {seed}"
        assert steps < CHORES[task].task.horizon / 2, f"seed {seed}"


@pytest.mark.parametrize("task", TASKS)
def test_script_goes_on_from_anywhere(environment, task):
    rng = np.random.default_rng(5)
    environment.reset(task, 77)
    for _ in range(15):
        environment.step(jitter(rng))
    sight = environment.sight
    for _ in range(60):
        environment.step(environment.expert())
        if carries := sight.held() and sight.height() > 0.03:
            break
    assert carries
    for _ in range(2):
        environment.step(STAY)  # opens: the thing falls
    assert not sight.held()
    assert steps_of(environment, environment.expert, task)


@pytest.mark.parametrize("task", TASKS)
def test_chance_solves_nothing(environment, task):
    for seed in range(2):
        environment.reset(task, seed)
        rng = np.random.default_rng(seed)
        assert steps_of(environment, lambda rng=rng: jitter(rng), task) is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("task", TASKS)
def test_hundred_seeds(environment, task):
    solved = chance = 0
    for seed in range(100):
        environment.reset(task, seed)
        solved += steps_of(environment, environment.expert, task) is not None
        environment.reset(task, seed)
        rng = np.random.default_rng(seed)
        chance += steps_of(environment, lambda rng=rng: jitter(rng), task) is not None
    assert solved >= 95
    assert chance <= 2


def _put(environment, shift, lift=0.0) -> bool:
    """Whether a task is solved once its thing was put above its goal, `shift` (x, y) and `lift`
    metres off, and has come to rest."""
    data, sight = environment.data, environment.sight
    place = sight.goal.place + [*shift, 0]
    place[2] = sight.goal_made.surface + sight.thing_made.rest + lift + 0.001
    joint = data.joint(CHORES[environment.task].thing)
    joint.qpos[:] = [*place, *sight.goal.quat]
    joint.qvel[:] = 0
    return solved(environment, STAY, 12)


@pytest.mark.parametrize("task", TASKS)
def test_solved_is_lying_on_the_goal(environment, task):
    environment.reset(task, 11)
    assert not solved(environment, STAY, 5)
    assert _put(environment, (0, 0))
    environment.reset(task, 11)
    assert not _put(environment, (0.16, 0.0)), "beside the goal"


@pytest.mark.parametrize(
    ("task", "shift"),
    [
        ("spoon_on_towel", (0.09, 0)),  # its middle is beyond the edge
        ("carrot_on_plate", (0.085, 0)),  # leans on the rim
        ("stack_cube", (0.025, 0)),  # falls off
    ],
)
def test_solved_is_not_half_way(environment, task, shift):
    environment.reset(task, 11)
    assert not _put(environment, shift)


def test_a_thing_on_the_rim_is_not_in_the_basket(environment):
    environment.reset("eggplant_in_basket", 11)
    assert not _put(environment, (0.10, 0), lift=0.06)


@pytest.mark.parametrize("task", TASKS)
def test_solved_only_when_let_go(environment, task):
    """Held down on the goal for as long as one likes, it is not solved."""
    environment.reset(task, 4)
    for _ in range(60):
        action = environment.expert()
        letting_go = environment.sight.held() and environment.sight.over() and action[9] > 0
        if letting_go:
            break
        assert not environment.step(action)
    assert letting_go
    closed = STAY * [*[1] * 9, 0]
    assert not solved(environment, closed, 10)
    assert steps_of(environment, environment.expert, task)


def test_episodes_repeat(environment):
    """In an environment used before, in a new one, and in another process."""
    wanted = [(task, seed) for seed in (0, 1) for task in TASKS]
    first = [history(environment, task, seed) for task, seed in wanted]
    again = [history(environment, task, seed) for task, seed in reversed(wanted)][::-1]
    assert again == first
    assert len(set(first)) == len(first)
    code = (
        "from tests import tabletops; e = next(tabletops.environments())\n"
        f"for task, seed in {wanted[5:]}: print(tabletops.history(e, task, seed))"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == first[5:]


def test_pictures_repeat(environment):
    seen = []
    for _ in range(2):
        environment.reset("carrot_on_plate", 3)
        seen.append(environment.observe().images["base_0_rgb"])
        environment.reset("carrot_on_plate", 4)
        assert not np.array_equal(environment.picture(), seen[-1])
    assert np.array_equal(*seen)
