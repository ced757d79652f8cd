"""Limits of an arm's commands, checked on what comes out: by differences, whatever goes in."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ego_ops.errors import UserError
from robot import limits as files
from robot.limits import Gripper, Joints, Limits, Rates, Workspace
from robot.safety import Impossible, Safety

HOME = np.array([0.1, -0.2, 0.3, 0.0, 0.0, 0.0, 1.0, 0.5])
TIGHT = Limits(
    workspace=Workspace((0.0, -0.3, 0.0), (0.2, -0.1, 0.35), table=0.25, clearance=0.01),
    translation=Rates(step=0.02, speed=0.4, acceleration=3.0, jerk=90.0, beyond=1.0),
    rotation=Rates(step=0.1, speed=1.5, acceleration=9.0, jerk=300.0, beyond=3.2),
    joints=Joints(low=(-0.3, -0.2, -1.0), high=(0.3, 0.4, 0.1), speed=(1.0, 0.5, 2.0), beyond=4.0),
    gripper=Gripper(speed=3.0),
)
"""A box so small that the arm always brakes for one of its sides."""
LOOSE = 1 + 1e-6

rates = st.sampled_from([0.01, 0.02, 0.05])
seeds = st.integers(0, 2**32 - 1)


def commands(safety: Safety, targets: np.ndarray, dt: float | np.ndarray) -> np.ndarray:
    """(T + 1, n) from where it is, for (T, n) targets."""
    times = np.broadcast_to(dt, len(targets))
    found = [safety.check(t, float(each)).target for t, each in zip(targets, times, strict=True)]
    return np.array([safety.position if not found else HOME, *found])


def differences(steps: np.ndarray, dt: float) -> list[float]:
    """Greatest speed, acceleration and jerk of displacements (T, 3) that begin at rest."""
    v = np.concatenate([np.zeros((3, *steps.shape[1:])), steps]) / dt
    found = [v, np.diff(v, axis=0) / dt, np.diff(v, 2, axis=0) / dt**2]
    return [np.linalg.norm(one, axis=-1).max() for one in found]


def turns(poses: np.ndarray) -> np.ndarray:
    """(T, 3) rotation vectors in the base frame from one pose to the next."""
    rotation = Rotation.from_quat(poses[:, 3:7])
    return (rotation[1:] * rotation[:-1].inv()).as_rotvec()


def wild(seed: int, count: int) -> np.ndarray:
    """Targets that hold for a while, jump, drift and shake, in and out of the box."""
    rng = np.random.default_rng(seed)
    targets = np.empty((count, 8))
    centre = rng.uniform([-0.1, -0.4, 0.2], [0.3, 0.0, 0.45])
    facing, opening = Rotation.identity(), 0.5
    for row in targets:
        if rng.random() < 0.15:
            centre = rng.uniform([-0.1, -0.4, 0.2], [0.3, 0.0, 0.45])
            facing = Rotation.from_rotvec(rng.normal(size=3) * rng.choice([0.1, 0.6, 2]))
            opening = rng.uniform(-0.5, 1.5)
        drift = rng.choice([0, 0.002, 0.02])
        centre = centre + drift * rng.normal(size=3)
        shaken = Rotation.from_rotvec(drift * rng.normal(size=3)) * facing
        row[:] = *centre, *shaken.as_quat() * rng.choice([-1, 1]), opening
    return targets


@given(seeds, rates)
@settings(max_examples=25, deadline=None)
def test_all_limits_of_a_pose_hold_at_once(seed, dt):
    safety = Safety(TIGHT, "pose")
    safety.reset(HOME)
    found = commands(safety, wild(seed, 80), dt)
    low, high = np.array([0, -0.3, 0.26]), np.array([0.2, -0.1, 0.35])
    assert (found[:, :3] >= low).all()
    assert (found[:, :3] <= high).all()
    assert np.linalg.norm(found[:, 3:7], axis=1) == pytest.approx(1, abs=1e-9)
    for steps, most in (
        (np.diff(found[:, :3], axis=0), TIGHT.translation),
        (turns(found), TIGHT.rotation),
    ):
        speed, acceleration, jerk = differences(steps, dt)
        assert np.linalg.norm(steps, axis=1).max() <= most.step * LOOSE
        assert speed <= most.speed * LOOSE
        assert acceleration <= most.acceleration * LOOSE
        assert jerk <= most.jerk * LOOSE
    assert (found[:, 7] >= 0).all()
    assert (found[:, 7] <= 1).all()
    assert np.abs(np.diff(found[:, 7])).max() <= TIGHT.gripper.speed * dt * LOOSE


@given(seeds, rates, st.integers(0, 60))
@settings(max_examples=25, deadline=None)
def test_it_can_stop_within_all_limits_at_any_time(seed, dt, when):
    safety = Safety(TIGHT, "pose")
    safety.reset(HOME)
    found = commands(safety, wild(seed, when), dt)
    braked = []
    while not safety.resting:
        braked.append(safety.brake(dt))
        assert len(braked) * dt < 1.2
    braked.append(safety.brake(dt))
    found = np.concatenate([found, braked]) if when else HOME[None]
    assert (found[:, :3] >= [0, -0.3, 0.26]).all()
    assert (found[:, :3] <= [0.2, -0.1, 0.35]).all()
    for steps, most in (
        (np.diff(found[:, :3], axis=0), TIGHT.translation),
        (turns(found), TIGHT.rotation),
    ):
        if len(steps):
            limits = np.array([most.speed, most.acceleration, most.jerk])
            assert (differences(steps, dt) <= limits * LOOSE).all()
    assert (braked[-1] == safety.brake(dt)).all()


@given(seeds, rates, st.floats(0.3, 0.99))
@settings(max_examples=20, deadline=None)
def test_it_brakes_for_the_wall_in_time(seed, dt, share):
    """Targets that run through a wall at speed, without a look at it."""
    rng = np.random.default_rng(seed)
    safety, most = Safety(TIGHT, "pose"), TIGHT.translation
    safety.reset(HOME)
    ahead = rng.normal(size=3)
    ahead *= share * min(most.speed, most.step / dt) / np.linalg.norm(ahead)
    times = np.arange(1, 60) * dt
    gently = np.where(times < 0.5, times**2, times - 0.25)  # from rest, in half a second
    targets = np.tile(HOME, (59, 1))
    targets[:, :3] += gently[:, None] * ahead
    near = np.abs(targets[:, :3] - HOME[:3]).max(axis=1) < 0.8
    found = commands(safety, targets[near], dt)
    assert (found[:, :3] >= [0, -0.3, 0.26]).all()
    assert (found[:, :3] <= [0.2, -0.1, 0.35]).all()
    limits = np.array([most.speed, most.acceleration, most.jerk])
    assert (differences(np.diff(found[:, :3], axis=0), dt) <= limits * LOOSE).all()


@given(seeds, rates)
@settings(max_examples=20, deadline=None)
def test_all_limits_of_joints_hold_at_once(seed, dt):
    rng = np.random.default_rng(seed)
    safety, most = Safety(TIGHT, "joints"), TIGHT.joints
    safety.reset(np.zeros(3))
    targets = np.repeat(rng.uniform(-1.2, 1.2, (20, 3)), 6, axis=0)
    targets += rng.choice([0, 0.01], (120, 1)) * rng.normal(size=(120, 3))
    found = np.array([safety.check(target, dt).target for target in targets])
    assert (found >= most.low).all()
    assert (found <= most.high).all()
    for joint in range(3):
        steps = np.diff(found[:, joint], prepend=0)[:, None]
        speed, acceleration, jerk = differences(steps, dt)
        assert speed <= min(most.speed[joint], most.step / dt) * LOOSE
        assert acceleration <= most.acceleration * LOOSE
        assert jerk <= most.jerk * LOOSE


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_box_and_speed_hold_though_the_time_of_a_step_changes(seed):
    rng = np.random.default_rng(seed)
    safety = Safety(TIGHT, "pose")
    safety.reset(HOME)
    dt = rng.choice([0.002, 0.018, 0.02, 0.021, 0.024, 0.06, 0.4], 80)
    found = commands(safety, wild(seed, 80), dt)
    assert (found[:, :3] >= [0, -0.3, 0.26]).all()
    assert (found[:, :3] <= [0.2, -0.1, 0.35]).all()
    steps = np.linalg.norm(np.diff(found[:, :3], axis=0), axis=1)
    assert (steps <= np.minimum(TIGHT.translation.speed * dt, 0.02) * LOOSE).all()
    angles = np.linalg.norm(turns(found), axis=1)
    assert (angles <= np.minimum(TIGHT.rotation.speed * dt, 0.1) * LOOSE).all()


@given(seeds, rates)
@settings(max_examples=15, deadline=None)
def test_a_clock_that_shakes_a_little_costs_little(seed, dt):
    rng = np.random.default_rng(seed)
    safety, most = Safety(TIGHT, "pose"), TIGHT.translation
    safety.reset(HOME)
    times = dt * rng.uniform(0.95, 1.05, 80)[:, None]
    found = commands(safety, wild(seed, 80), times[:, 0])
    v = np.diff(found[:, :3], axis=0) / times
    a = np.diff(v, axis=0) / times[1:]
    j = np.diff(a, axis=0) / times[2:]
    assert np.linalg.norm(a, axis=1).max() < 1.3 * most.acceleration
    assert np.linalg.norm(j, axis=1).max() < 1.5 * most.jerk


def smooth(seed: int, dt: float, share: float, most: Rates) -> np.ndarray:
    """(150, 3) displacements from where it begins, of sines that swell, which go to that share of
    one of the limits and no farther of the others."""
    rng = np.random.default_rng(seed)
    times = np.arange(1, 151) * dt
    part = np.minimum(1, times / (25 * dt))
    swell = part**4 * (35 - 84 * part + 70 * part**2 - 20 * part**3)
    path = np.zeros((150, 3))
    for frequency in rng.uniform(0.002, 0.036, 4) / dt:
        wave = np.sin(2 * np.pi * frequency * times + rng.uniform(0, 2 * np.pi)) / frequency
        path += wave[:, None] * rng.normal(size=3)
    path *= swell[:, None]
    found = differences(np.diff(path, axis=0, prepend=np.zeros((1, 3))), dt)
    limits = np.array([min(most.speed, most.step / dt), most.acceleration, most.jerk])
    return path * share / (found / limits).max()


@given(seeds, rates, st.floats(0.1, 0.99))
@settings(max_examples=20, deadline=None)
def test_a_motion_within_limits_is_passed_on_to_the_bit(seed, dt, share):
    wide = replace(TIGHT, workspace=Workspace((-9, -9, -9), (9, 9, 9), table=-9))
    wide = replace(wide, translation=replace(TIGHT.translation, beyond=9))
    safety = Safety(wide, "pose")
    safety.reset(HOME)
    places = HOME[:3] + smooth(seed, dt, share, TIGHT.translation)
    # About one axis: angles and rotation vectors are the same.
    angles = smooth(seed + 1, dt, share, TIGHT.rotation)[:, :1] * [0.6, 0, 0.8]
    for place, angle in zip(places, angles, strict=True):
        turn = Rotation.from_rotvec(angle).as_quat() * (1 + 1e-3)
        target = np.array([*place, *turn, 0.5])
        passed, clipped = safety.check(target, dt)
        assert clipped == ()
        assert passed.tobytes() == target.tobytes()


def test_one_group_that_is_clipped_leaves_the_others_alone():
    safety = Safety(Limits(), "pose")
    safety.reset(HOME)
    aside = np.array([*HOME[:3] + 1e-4, *Rotation.from_rotvec([0, 0, 0.5]).as_quat(), 0.5])
    found, clipped = safety.check(aside, 0.02)
    assert found[:3].tobytes() == aside[:3].tobytes()
    assert set(clipped) == {f"rotation {name}" for name in ("speed", "acceleration", "jerk")}
    safety = Safety(Limits(), "joints")
    safety.reset(np.zeros(8))
    target = np.array([1e-4] * 7 + [0.5])
    found, clipped = safety.check(target, 0.02)
    assert found[:7].tobytes() == target[:7].tobytes()
    assert 0 < found[7] < 0.1
    assert set(clipped) == {f"joint 7 {name}" for name in ("speed", "acceleration", "jerk")}


@given(seeds, rates)
@settings(max_examples=12, deadline=None)
def test_it_arrives_at_a_target_that_stays(seed, dt):
    """From any motion, and exactly: or at the nearest place inside, where it is outside."""
    safety = Safety(TIGHT, "pose")
    safety.reset(HOME)
    commands(safety, wild(seed, 20), dt)
    target = wild(seed + 1, 1)[0]
    for _ in range(round(6 / dt)):
        found = safety.check(target, dt).target
        if safety.resting and (found[3:7] == target[3:7]).all():
            break
    inside = np.clip(target[:3], [0, -0.3, 0.26], [0.2, -0.1, 0.35])
    assert found[:3] == pytest.approx(inside, abs=1e-9)
    apart = Rotation.from_quat(found[3:7]) * Rotation.from_quat(target[3:7]).inv()
    assert apart.magnitude() < 1e-9
    assert found[7] == pytest.approx(np.clip(target[7], 0, 1), abs=1e-12)
    assert safety.resting


def test_it_arrives_in_good_time_and_does_not_swing():
    most = Limits().translation
    safety = Safety(Limits(), "pose")
    safety.reset(HOME)
    target = HOME + [0.2, 0, 0, 0, 0, 0, 0, 0]
    found = np.array([safety.check(target, 0.02).target[0] for _ in range(100)])
    assert (np.diff(found) >= 0).all()
    assert found[-1] == target[0]
    # At the limits of speed and acceleration alone it would take 0.53 seconds.
    least = 0.2 / most.speed + most.speed / most.acceleration
    assert np.flatnonzero(found < target[0])[-1] * 0.02 < 2 * least


def test_it_catches_up_with_targets_that_go_on():
    safety = Safety(Limits(), "pose")
    safety.reset(HOME)
    targets = np.repeat(HOME[None], 200, axis=0)
    targets[:, 0] += 0.1 * np.arange(1, 201) * 0.02
    targets[50:, 1] += 0.08  # a jump, as where two chunks do not agree
    found = [safety.check(target, 0.02) for target in targets]
    off = np.array(
        [np.linalg.norm(one.target[:3] - t[:3]) for one, t in zip(found, targets, strict=True)]
    )
    assert found[49].clipped == ()
    assert off[45:50].max() == 0
    assert off[50] > 0.05
    assert off[75:].max() < 0.01
    assert off[120:].max() == 0
    assert found[-1].clipped == ()


def test_a_velocity_to_begin_with_is_gone_on_from():
    moving, still = Safety(Limits(), "pose"), Safety(Limits(), "pose")
    moving.reset(HOME, np.array([0.3, 0, 0, 0, 0, 0]))
    still.reset(HOME)
    target = HOME + [0.006, 0, 0, 0, 0, 0, 0, 0]
    assert moving.check(target, 0.02).clipped == ()
    assert "translation acceleration" in still.check(target, 0.02).clipped


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: np.nan}, r"target: \[nan, .*must be finite"),
        ({2: np.inf}, "must be finite"),
        ({0: 0.4}, "translation: target 0.3 m from the last command, must be at most 0.25"),
        ({3: 1.0, 6: 0.0}, "rotation: target 3.142 rad .* must be at most 1.2"),
        ({6: 0.0}, r"quaternion \[0.0, 0.0, 0.0, 0.0\] of length 0, must be 1"),
        ({6: 1.2}, "length 1.2, must be 1"),
        ({7: 40.0}, "opening: 40, must be from -1 to 2"),
    ],
)
def test_what_no_program_means_stops_the_arm(change, words):
    safety = Safety(Limits(), "pose")
    safety.reset(HOME)
    target = HOME.copy()
    target[list(change)] = list(change.values())
    with pytest.raises(Impossible, match=words) as caught:
        safety.check(target, 0.02)
    assert "\n" not in str(caught.value)
    assert safety.position.tobytes() == HOME.tobytes()
    assert safety.check(HOME, 0.02).clipped == ()  # nothing has changed


@pytest.mark.parametrize("wrong", [np.zeros(7), np.zeros((1, 8)), ["a"] * 8, None])
def test_a_target_of_the_wrong_form_stops_the_arm(wrong):
    safety = Safety(Limits(), "pose")
    safety.reset(HOME)
    with pytest.raises(Impossible, match="target"):
        safety.check(wrong, 0.02)
    with pytest.raises(ValueError, match="dt nan"):
        safety.check(HOME, float("nan"))


def test_joints_beyond_reason_or_outside_stop_the_arm():
    safety = Safety(Limits(), "joints")
    safety.reset(np.zeros(6))
    with pytest.raises(Impossible, match=r"joint 2: target 0.7 rad from the last command"):
        safety.check(np.array([0, 0, 0.7, 0, 0, 0]), 0.02)
    with pytest.raises(Impossible, match=r"joint 5: 4 rad, must be from -3.14159 to 3.14159"):
        safety.reset(np.array([0, 0, 0, 0, 0, 4.0]))
    with pytest.raises(Impossible, match=r"z: 0 m, must be from 0.01 to 0.7"):
        Safety(Limits(), "pose").reset(HOME * [1, 1, 0, 1, 1, 1, 1, 1])
    with pytest.raises(UserError, match=r"joints.low has 3 numbers, the arm has 6 joints"):
        Safety(TIGHT, "joints").reset(np.zeros(6))


def test_limits_of_a_file(tmp_path):
    toml, plain = tmp_path / "arm.toml", tmp_path / "arm.json"
    toml.write_text(
        "[workspace]\nlow = [0.2, -0.3, 0]\ntable = -0.02\n"
        "[translation]\nspeed = 0.1\n[joints]\nhigh = [1, 2, 3]\n"
    )
    found = files.load(toml)
    assert found.workspace.floor == (0.2, -0.3, 0)
    assert found.translation == replace(Limits().translation, speed=0.1)
    assert found.joints.high == (1, 2, 3)
    assert found.rotation == Limits().rotation
    plain.write_text(json.dumps({"gripper": {"speed": 2}}))
    assert files.load(plain).gripper == Gripper(speed=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[translatoin]\nspeed = 1", "no such limit as translatoin; did you mean translation"),
        ("[rotation]\nsped = 1", "no such limit as rotation.sped; did you mean speed"),
        ("[rotation]\nspeed = 0", "rotation.speed=0: must be more than 0"),
        ("[rotation]\njerk = nan", "rotation.jerk=nan: must be a number"),
        ("[rotation]\njerk = [1, 2]", "rotation.jerk.*: must be a number"),
        ("[gripper]\nspeed = 'fast'", "gripper.speed='fast': must be a number"),
        ("[workspace]\nlow = [0, 0]", "workspace.low.*: must be 3 numbers"),
        ("[workspace]\nlow = 1", "workspace.low=1: must be 3 numbers"),
        ("[workspace]\nhigh = [1, 1, 0]", "workspace from .* there is nothing between"),
        ("[joints]\nlow = [0, 0]\nhigh = [1, 1, 1]", "joints: 2 low, 3 high"),
        ("rotation = 3", "rotation: must be a table, this is 3"),
        ("[rotation", "neither TOML nor JSON"),
    ],
)
def test_wrong_limits_are_told(tmp_path, text, words):
    path = tmp_path / "arm.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        files.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_limits_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml"):
        files.load(tmp_path / "none.toml")
