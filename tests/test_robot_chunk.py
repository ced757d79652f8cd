"""Chunks as targets in time, against a circle that is known, and where one follows another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from robot import grasp as grasps
from robot.chunk import Chunk, targets
from robot.limits import Limits
from robot.plan import JOINS, Plan
from robot.safety import Safety
from tests.robot_arms import HOME, Circle, off_circle


def circle(begin: float = 0.0, id: int = 1, position: np.ndarray = HOME, count: int = 20) -> Chunk:
    """`count` steps of 0.05 s on the circle."""
    steps = np.tile(Circle().steps(HOME)[0], (count, 1))
    return Chunk(id, begin, 20.0, steps, targets(steps, "pose_step", position), "pose")


def pose(command: np.ndarray) -> RigidTransform:
    return RigidTransform.from_components(command[:3], Rotation.from_quat(command[3:7]))


def test_steps_go_round_a_circle() -> None:
    """63 steps of a tenth of a radian: arcs of a known circle, its tangent ahead."""
    step = Circle(fps=10.0, radius=0.1, speed=0.1).steps(HOME)[0]
    found = targets(np.tile(step, (63, 1)), "pose_step", HOME)
    assert found.shape == (64, 8)
    assert off_circle(found).max() < 1e-9
    angle = Rotation.from_quat(found[:, 3:7]).as_rotvec()[:, 2]
    np.testing.assert_allclose(np.unwrap(angle), 0.1 * np.arange(64), atol=1e-9)
    np.testing.assert_array_equal(found[0], HOME)


def test_steps_turn_with_the_gripper() -> None:
    """Ahead is along the gripper's own x axis, wherever that points; columns are made right."""
    turned = HOME.copy()
    turned[3:7] = Rotation.from_euler("z", 90, degrees=True).as_quat()
    ahead = [0.02, 0, 0, 2.0, 0, 0, 0.3, 0.5, 0]
    found = targets([ahead, ahead], "pose_step", turned)
    np.testing.assert_allclose(found[2, :3] - HOME[:3], [0, 0.04, 0], atol=1e-12)
    np.testing.assert_allclose(np.abs(found[2, 3:7]), np.abs(turned[3:7]), atol=1e-12)
    np.testing.assert_array_equal(found[:, 7], 0.5)


def test_steps_of_a_thing_keep_it_in_the_hand() -> None:
    """The thing goes where its own steps lead it, and T_gripper_object stays."""
    rng = np.random.default_rng(3)
    grasp = RigidTransform.from_components([0.02, -0.03, 0.1], Rotation.random(rng=rng))
    steps = RigidTransform.from_components(
        rng.normal(0, 0.02, (6, 3)), Rotation.from_rotvec(rng.normal(0, 0.2, (6, 3)))
    )
    found = targets(grasps.numbers(steps), "object_step", HOME, grasp)
    thing = pose(HOME) * grasp
    for command, step in zip(found[1:], steps, strict=True):
        thing = thing * step
        np.testing.assert_allclose(
            (pose(command) * grasp).as_matrix(), thing.as_matrix(), atol=1e-9
        )


def test_interpolation() -> None:
    """Between two actions along a line and at a constant rate of turning; the opening too."""
    quarter = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    step = np.concatenate([[0.1, 0, 0], quarter[:, 0], quarter[:, 1], [1.0]])
    chunk = Chunk(1, 5.0, 10.0, step[None], targets([step], "pose_step", HOME), "pose")
    half = chunk.at(5.05)
    np.testing.assert_allclose(half[:3], HOME[:3] + [0.05, 0, 0], atol=1e-12)
    np.testing.assert_allclose(Rotation.from_quat(half[3:7]).as_rotvec(), [0, 0, np.pi / 4])
    assert half[7] == pytest.approx(0.75)
    assert chunk.end == pytest.approx(5.1)
    np.testing.assert_array_equal(chunk.at(4.0), chunk.at(5.0))
    np.testing.assert_allclose(chunk.at(9.0)[:3], HOME[:3] + [0.1, 0, 0])


def test_joints() -> None:
    now = np.array([0.1, 0.2, 0.3])
    chunk = Chunk(1, 0.0, 2.0, np.ones((2, 3)), targets(np.ones((2, 3)), "joints", now), "joints")
    np.testing.assert_allclose(chunk.at(0.25), (now + 1) / 2)
    np.testing.assert_array_equal(chunk.at(0.75), np.ones(3))


def test_what_is_left() -> None:
    chunk = circle(begin=10.0)
    assert [len(chunk.left(10 + s)) for s in (0.0, 0.02, 0.03, 0.5, 2.0)] == [20, 20, 19, 10, 0]


@pytest.mark.parametrize(
    ("actions", "what", "position", "said"),
    [
        (np.zeros((3, 7)), "pose_step", HOME, "7 numbers"),
        (np.zeros((3, 9)), "pose_step", HOME, "no rotation"),
        (np.full((3, 9), np.nan), "pose_step", HOME, "finite"),
        (np.zeros((0, 9)), "pose_step", HOME, "must be"),
        (np.zeros((3, 9)), "object_step", HOME, "grasp"),
        (np.zeros((3, 9)), "pose_step", HOME[:6], "commanded by 6"),
        (np.zeros((3, 7)), "joints", HOME[:6], "7 joints"),
        (np.zeros((3, 9)), "delta", HOME, "'delta'"),
    ],
)
def test_what_is_no_chunk(actions: np.ndarray, what: str, position: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=said):
        targets(actions, what, position)


def test_latest_leaves_out_what_is_over() -> None:
    """A chunk that took 0.3 s to come goes on at its seventh action; others are not taken up."""
    plan = Plan("pose", "latest", 0.0, 3.0, 0.01)
    assert plan.target(0.0, -0.02, HOME) is None
    chunk = circle()
    assert plan.add(chunk, 0.3)
    np.testing.assert_allclose(plan.target(0.32, 0.3, HOME), chunk.at(0.32))
    assert not plan.add(circle(id=2, begin=-0.1), 0.34), "of an observation before the last"
    assert not plan.add(circle(id=3, begin=0.1, count=3), 0.34), "over"
    assert plan.add(circle(id=4, begin=0.2), 0.34)
    assert plan.newest is not None
    assert plan.newest.id == 4
    assert plan.target(1.19, 1.17, HOME) is not None
    assert plan.target(1.21, 1.19, HOME) is None
    assert plan.newest is None


def test_stale() -> None:
    plan = Plan("pose", "latest", 0.0, 0.5, 0.01)
    assert plan.add(circle(), 0.1)
    assert plan.target(0.49, 0.47, HOME) is not None
    assert plan.target(0.51, 0.49, HOME) is None


def test_ensemble_weighs_by_age() -> None:
    """Three chunks that disagree by a known shift: exp(-k i), the oldest weighs most."""
    plan = Plan("pose", "ensemble", 0.0, 3.0, 0.5)
    shifts = np.array([0.0, 0.01, 0.04])
    for number, shift in enumerate(shifts):
        place = HOME.copy()
        place[2] += shift
        assert plan.add(circle(0.001 * number, number, place, 20), 0.1)
    weights = np.exp(-0.5 * np.arange(3))
    found = plan.target(0.2, 0.18, HOME)
    assert found is not None
    np.testing.assert_allclose(found[2] - HOME[2], weights @ shifts / weights.sum(), atol=1e-9)


def test_blend_begins_at_the_last_command_and_ends_on_the_chunk() -> None:
    plan = Plan("pose", "latest", 0.2, 3.0, 0.01)
    place = HOME.copy()
    place[:3] += [0.0, 0.0, 0.1]
    place[3:7] = Rotation.from_euler("x", 40, degrees=True).as_quat()
    chunk = circle(position=place)
    plan.add(chunk, 0.1)
    times = 0.1 + 0.001 * np.arange(1, 250)
    found, last = [], HOME
    for time in times:
        last = plan.target(time, time - 0.001, last)
        found.append(last)
    heights = np.array([HOME[2], *(each[2] for each in found)])
    assert np.abs(np.diff(heights)).max() < 1.6 * 0.1 / 200, "a smooth step's greatest slope is 1.5"
    np.testing.assert_allclose(found[-1], chunk.at(times[-1]), atol=1e-12)


shift = st.floats(-0.1, 0.1)
events = st.lists(st.tuples(st.integers(1, 30), shift, shift, st.integers(1, 20)), max_size=8)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(JOINS), st.sampled_from([0.0, 0.2]), events)
def test_commands_never_jump(join, blend: float, chunks: list[tuple[int, float, float, int]]):
    """Whatever chunks come, when, and wherever they begin: no command is further from the one
    before than the limits allow, in speed and acceleration, chunks' borders and holds included."""
    limits, dt, tick = Limits(), 0.02, 0
    safety, plan = Safety(limits, "pose"), Plan("pose", join, blend, 3.0, 0.01)
    safety.reset(HOME)
    commands = [HOME, HOME]
    for ticks, y, z, count in chunks:
        place = safety.position
        place[1:3] += y, z
        plan.add(circle(tick * dt, tick + 1, place, count), tick * dt)
        for _ in range(ticks):
            target = plan.target((tick + 1) * dt, tick * dt, safety.position)
            if target is None:
                commands.append(safety.brake(dt))
            else:
                commands.append(safety.check(target, dt).target)
            tick += 1
    steps = np.diff(np.array(commands)[:, :3], axis=0)
    loose = 1 + 1e-6
    rates = limits.translation
    assert np.linalg.norm(steps, axis=1).max() <= min(rates.speed * dt, rates.step) * loose
    changes = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    assert changes.max(initial=0) <= rates.acceleration * dt**2 * loose
