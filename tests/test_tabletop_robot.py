"""The tabletop's robot and camera: frames, limits, grip, and what can be seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.geometry.actions import actions
from ego_ops.synthetic.render import load_mujoco
from sim_eval.suites.tabletop import robot, scene, variation
from sim_eval.suites.tabletop.tasks import CHORES
from tests import tabletops
from tests.tabletops import STAY, wild

environment = pytest.fixture(scope="module")(tabletops.environments)
TASKS = list(CHORES)


def _pose(state: np.ndarray) -> RigidTransform:
    """T_camera_gripper of a state."""
    x, y = state[3:6], state[6:9]
    axes = np.stack([x, y, np.cross(x, y)], axis=1)
    return RigidTransform.from_components(state[:3], Rotation.from_matrix(axes))


def _pixel(point: np.ndarray) -> np.ndarray:
    """Where a point in the camera's frame is in the picture: a pinhole, written out anew."""
    focal = scene.SIZE / 2 / np.tan(np.radians(scene.FOVY) / 2)
    return focal * point[:2] / point[2] + (scene.SIZE - 1) / 2


def _segmented(environment) -> np.ndarray:
    """(H, W) body seen at each pixel, -1 for none."""
    with load_mujoco().Renderer(environment.model, scene.SIZE, scene.SIZE) as renderer:
        option = load_mujoco().MjvOption()
        option.geomgroup[:] = [1, 1, 0, 0, 0, 0]
        renderer.enable_segmentation_rendering()
        renderer.update_scene(environment.data, "base_0_rgb", option)
        geoms = renderer.render()[..., 0]
    return np.append(environment.model.geom_bodyid, -1)[geoms]


def test_actions_are_those_of_a_shard(environment):
    """The poses in the states, taken as a shard's trajectory, have the actions that were done."""
    environment.reset("stack_cube", 2)
    rng = np.random.default_rng(0)
    moves, turns = rng.uniform(-0.012, 0.012, (12, 3)), rng.uniform(-0.06, 0.06, (12, 3))
    poses, done = [_pose(environment.proprioception())], []
    for move, turn in zip(moves, turns, strict=True):
        axes = Rotation.from_rotvec(turn).as_matrix()
        done.append(np.concatenate([move, axes[:, 0], axes[:, 1]]))
        environment.step(np.append(done[-1], 1.0))
        for _ in range(3):
            environment.step(STAY)
        poses.append(_pose(environment.proprioception()))
    path = RigidTransform.concatenate(poses)
    found = actions(path.translation, path.rotation.as_quat())[:-1]
    assert np.abs(found[:, :3] - np.array(done)[:, :3]).max() < 5e-4
    assert np.abs(found[:, 3:] - np.array(done)[:, 3:]).max() < 5e-3


def test_rotations_that_are_none():
    columns = Rotation.from_rotvec([0.1, -0.2, 0.1]).as_matrix()[:, :2]
    scaled = np.concatenate([3 * columns[:, 0], 0.5 * columns[:, 1] + 0.4 * columns[:, 0]])
    step, _ = robot.step_of(np.array([0, 0, 0, *scaled, 1]))
    assert np.allclose(step.axes()[:, :2], columns, atol=1e-9)
    for none in ([0] * 6, [1, 0, 0, 2, 0, 0], [0, 0, 0, 1, 0, 0]):
        step, _ = robot.step_of(np.array([0, 0, 0, *none, 1.0]))
        assert np.allclose(step.axes(), np.eye(3))


def test_steps_are_cut_to_what_the_robot_can_do():
    turn = Rotation.from_rotvec([0, 0, 3.0]).as_matrix()
    step, opening = robot.step_of(np.array([3, 4, 0, *turn[:, 0], *turn[:, 1], 7.0]))
    assert np.allclose(step.place, np.array([0.6, 0.8, 0]) * robot.MAX_MOVE)
    assert np.allclose(
        step.axes(), Rotation.from_rotvec([0, 0, robot.MAX_TURN]).as_matrix(), atol=1e-9
    )
    assert opening == 1


@pytest.mark.parametrize("task", TASKS)
def test_nothing_explodes(environment, task):
    """Whatever it is told, the gripper stays in bounds, things stay whole and the table is hard."""
    environment.reset(task, 9)
    rng = np.random.default_rng(9)
    down = STAY + [0, 0, 0.3, *[0] * 6, -1]
    for step in range(100):
        environment.step(wild(rng) if step < 70 else down)
        place = environment.sight.gripper.pose.place
        assert (place > robot.LOWER - 0.02).all()
        assert (place < robot.UPPER + 0.02).all()
        assert np.abs(environment.data.qvel).max() < 40
    assert not environment.data.warning.number.any()


@pytest.mark.parametrize("task", TASKS)
def test_grip_is_firm(environment, task):
    """Lifted and shaken for three seconds, a thing slips by less than 3 mm in the gripper."""
    environment.reset(task, 21)
    sight = environment.sight
    for _ in range(60):
        environment.step(environment.expert())
        if lifted := sight.held() and sight.height() > 0.025:
            break
    assert lifted
    hold = STAY * [*[1] * 9, 0]
    environment.step(hold)
    before = sight.gripper.pose.inverse().apply(sight.thing.place)
    for step in range(30):
        shake = 0.02 * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])[step // 2 % 3]
        environment.step(hold + np.append(shake * (1 if step % 2 else -1), [0] * 7))
        assert sight.held()
    after = sight.gripper.pose.inverse().apply(sight.thing.place)
    assert np.linalg.norm(after - before) < 0.003


@pytest.mark.parametrize("task", TASKS)
def test_camera_is_where_the_layout_says(environment, task):
    """The goal's middle falls on the goal's pixels, or on the robot's before it."""
    shown = []
    for seed in range(4):
        environment.reset(task, seed)
        camera = variation.draw(CHORES[task], seed).camera
        sight, bodies = environment.sight, environment.model.body
        x, y = np.round(_pixel(camera.inv().apply(sight.goal.place))).astype(int)
        at = _segmented(environment)[y, x]
        shown.append(at == bodies(CHORES[task].goal).id)
        robots = [bodies(name).id for name in ("gripper", "finger_left", "finger_right")]
        assert shown[-1] or at in robots, f"seed {seed}"
        in_world = camera * _pose(environment.proprioception())
        assert np.allclose(in_world.translation, sight.gripper.pose.place, atol=1e-9)
        assert np.allclose(in_world.rotation.as_matrix(), sight.gripper.pose.axes(), atol=1e-9)
    assert sum(shown) >= 2


def test_gripper_is_seen_where_the_state_says(environment):
    """Closed, both fingers meet at the gripper's origin: there the picture shows a finger."""
    for seed in range(4):
        environment.reset("spoon_on_towel", seed)
        for _ in range(6):
            environment.step(STAY * [*[1] * 9, 0])
        x, y = np.round(_pixel(environment.proprioception()[:3])).astype(int)
        fingers = [environment.model.body(f"finger_{side}").id for side in ("left", "right")]
        assert _segmented(environment)[y, x] in fingers, f"seed {seed}"


@pytest.mark.parametrize("task", TASKS)
def test_episodes_differ_and_can_be_seen(task):
    """Over many seeds, all things lie within the picture, apart, and everything varies."""
    layouts = [variation.draw(CHORES[task], seed) for seed in range(60)]
    for layout in layouts:
        for x, y, _ in (layout.thing, layout.goal):
            pixel = _pixel(layout.camera.inv().apply([x, y, 0.0]))
            assert (pixel > 10).all()
            assert (pixel < scene.SIZE - 10).all()
    assert len({layout.table for layout in layouts}) == 6
    for numbers in (
        [layout.thing for layout in layouts],
        [layout.goal for layout in layouts],
        [layout.camera.translation for layout in layouts],
        [layout.sun for layout in layouts],
        [layout.tints[CHORES[task].thing] for layout in layouts],
    ):
        assert len(np.unique(np.round(numbers, 6), axis=0)) == len(layouts)
