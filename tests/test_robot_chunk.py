"""Chunks as targets in time, against a circle that is known, and where one follows another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from robot import grasp as grasps
from robot.chunk import Chunk, actions_through, targets
from robot.limits import Limits
from robot.plan import JOINS, Plan
from robot.safety import Safety
from tests.robot_arms import HOME, Circle, off_circle


def circle(seen: float = 0.0, id: int = 1, position: np.ndarray = HOME, count: int = 20) -> Chunk:
    """`count` steps of 0.05 s on the circle."""
    steps = np.tile(Circle().steps(HOME)[0], (count, 1))
    return Chunk(id, seen, 20.0, steps, targets(steps, "pose_step", position), "pose")


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
    """Where the arm is to be, from where it is, in steps of the actions' length."""
    chunk = circle(seen=10.0)
    left = [chunk.left(10 + s, HOME) for s in (0.0, 0.02, 0.05, 0.5, 2.0)]
    assert [len(each) for each in left] == [21, 20, 20, 11, 1]
    np.testing.assert_array_equal(left[1][0], HOME)
    for each, place in enumerate(left[1][1:], 1):
        np.testing.assert_allclose(place, chunk.at(10.02 + 0.05 * each), atol=1e-12)


@pytest.mark.parametrize(
    ("what", "size"), [("pose_step", 10), ("pose_step", 9), ("object_step", 9)]
)
def test_actions_through_commands_lead_there(what: str, size: int) -> None:
    rng = np.random.default_rng(4)
    grasp = RigidTransform.from_components([0.02, -0.03, 0.1], Rotation.random(rng=rng))
    steps = RigidTransform.from_components(
        rng.normal(0, 0.02, (6, 3)), Rotation.from_rotvec(rng.normal(0, 0.2, (6, 3)))
    )
    actions = np.concatenate([grasps.numbers(steps), rng.uniform(0, 1, (6, 1))], axis=1)[:, :size]
    commands = targets(actions, what, HOME, grasp)
    np.testing.assert_allclose(actions_through(commands, what, size, grasp), actions, atol=1e-9)


def test_actions_through_joints() -> None:
    commands = np.random.default_rng(5).normal(size=(4, 3))
    np.testing.assert_array_equal(actions_through(commands, "joints", 3), commands[1:])


@pytest.mark.parametrize("delay", [0.06, 0.21])
def test_a_chunk_that_begins_with_what_is_planned_changes_nothing(delay: float) -> None:
    """Real-time chunking by a policy that keeps to its prefix to the end: asked at any time, while
    the arm still turns to its last chunk, its next chunk leads where the arm was going anyway."""
    plan, alone = (Plan("pose", "rtc", 0.2, 3.0, 0.01) for _ in range(2))
    place = HOME.copy()
    place[:3] += [0.01, -0.02, 0.03]
    place[3:7] = Rotation.from_euler("x", 20, degrees=True).as_quat()
    for each in (plan, alone):
        each.add(circle(), 0.0)
        last = each.target(0.02, 0.0, HOME)
        each.add(circle(seen=0.02, id=2, position=place), 0.02)
    seen, answer, off = 0.1, None, []
    for tick in range(2, 40):
        now = 0.02 * tick
        if answer is not None and plan.newest is not answer and now > seen + delay:
            assert plan.add(answer, now)
        both = [each.target(now, now - 0.02, last) for each in (plan, alone)]
        if answer is None and now >= seen and plan.newest is not None:
            actions = actions_through(plan.newest.left(now, both[0]), "pose_step", 10)
            made = targets(actions, "pose_step", both[0])
            answer = Chunk(3, now, 20.0, actions, made, "pose")
        off.append(np.linalg.norm(both[0][:3] - both[1][:3]))
        last = both[1]
    assert plan.newest is answer
    assert np.linalg.norm(place[:3] - HOME[:3]) > 0.03
    assert max(off) < 0.001, "chords of the way between actions"


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
    assert plan.add(circle(seen=-0.1), -0.1)
    assert plan.target(0.0, -0.02, HOME) is not None
    chunk = circle()
    assert plan.add(chunk, 0.3)
    np.testing.assert_allclose(plan.target(0.32, 0.3, HOME), _of_circle(0.32), atol=1e-9)
    assert not plan.add(circle(id=2, seen=-0.1), 0.34), "of an observation before the last"
    assert not plan.add(circle(id=3, seen=0.1, count=3), 0.34), "over"
    assert plan.add(circle(id=4, seen=0.2), 0.34)
    assert plan.newest is not None
    assert plan.newest.id == 4
    assert plan.target(1.19, 1.17, HOME) is not None
    assert plan.target(1.21, 1.19, HOME) is None
    assert plan.newest is None


def _of_circle(time: float) -> np.ndarray:
    """The command for a time of a chunk whose first action begins at 0."""
    return circle().at(time)


def test_an_arm_that_waited_leaves_nothing_out() -> None:
    """It has not moved since the observation. One that has come to a chunk's end in the meantime
    has, as the policy foresaw."""
    plan = Plan("pose", "latest", 0.0, 3.0, 0.01)
    assert plan.target(0.0, -0.02, HOME) is None
    assert plan.add(circle(seen=0.1), 0.4)
    np.testing.assert_allclose(plan.target(0.42, 0.4, HOME), _of_circle(0.02), atol=1e-9)
    assert plan.target(1.39, 1.37, HOME) is not None
    assert plan.target(1.41, 1.39, HOME) is None
    assert plan.add(circle(id=2, seen=1.3), 1.6)
    np.testing.assert_allclose(plan.target(1.62, 1.6, HOME), _of_circle(0.32), atol=1e-9)
    assert plan.target(2.31, 2.29, HOME) is None
    assert plan.add(circle(id=3, seen=2.31), 2.8)
    np.testing.assert_allclose(plan.target(2.82, 2.8, HOME), _of_circle(0.02), atol=1e-9)


def test_stale() -> None:
    plan = Plan("pose", "latest", 0.0, 0.5, 0.01)
    assert plan.add(circle(), 0.0)
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
