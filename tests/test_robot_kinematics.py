"""Inverse kinematics: against the chain of rotations written out, and there and back."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from robot.arm_model import load
from robot.kinematics import REACH_M, REACH_RAD, Kinematics
from tests.arm_models import CHAIN, TOOL, compiled, panda, seven

JOINTS = [f"joint{number}" for number in range(1, 8)]
BENT = np.array([0, 0.5, 0, 1.0, 0, 0.5, 0])
READY = np.array([0, -0.4, 0, -2.2, 0, 1.9, 0.8])
MM, DEGREE = 1e-3, np.pi / 180


@cache
def arm(kind: str) -> tuple[Kinematics, np.ndarray]:
    if kind == "seven":
        return Kinematics(compiled(seven()), "tool", JOINTS, "foot"), BENT
    return Kinematics(panda(), "right_hand", JOINTS), READY


def chained(q: np.ndarray) -> RigidTransform:
    """T_foot_tool of the arm of seven joints, from its links."""
    pose, along = RigidTransform.identity(), 0.0
    for angle, (axis, length, _) in zip(q, CHAIN, strict=True):
        turn = Rotation.from_rotvec(angle * np.array(axis))
        pose = pose * RigidTransform.from_components([0, 0, along], turn)
        along = length
    place, turn = TOOL
    return pose * RigidTransform.from_components(place, Rotation.from_euler("XYZ", turn))


def apart(a: RigidTransform, b: RigidTransform) -> tuple[float, float]:
    """Metres and radians from one pose to another."""
    return float(np.linalg.norm(a.translation - b.translation)), float(
        (a.rotation * b.rotation.inv()).magnitude()
    )


def test_forward_is_the_chain_of_its_links():
    kinematics, _ = arm("seven")
    rng = np.random.default_rng(1)
    for _ in range(20):
        q = rng.uniform(kinematics.low, kinematics.high)
        assert apart(kinematics.forward(q), chained(q)) == pytest.approx((0, 0), abs=1e-7)


@pytest.mark.parametrize("kind", ["seven", "panda"])
def test_there_and_back_over_all_that_is_in_reach(kind):
    kinematics, home = arm(kind)
    rng = np.random.default_rng(2)
    found = []
    for _ in range(200):
        target = kinematics.forward(rng.uniform(kinematics.low, kinematics.high))
        solution = kinematics.solve(target, home, restarts=10)
        off, angle = apart(kinematics.forward(solution.q), target)
        assert (solution.error_m, solution.error_rad) == pytest.approx((off, angle), abs=1e-6)
        assert (solution.q >= kinematics.low).all()
        assert (solution.q <= kinematics.high).all()
        assert solution.reached == (off <= REACH_M and angle <= REACH_RAD)
        found.append(off < MM and angle < 0.5 * DEGREE)
    assert np.mean(found) >= 0.99


@pytest.mark.parametrize("kind", ["seven", "panda"])
def test_from_near_it_goes_to_the_near_solution(kind):
    kinematics, _ = arm(kind)
    rng = np.random.default_rng(3)
    middle, half = (kinematics.high + kinematics.low) / 2, (kinematics.high - kinematics.low) / 2
    for _ in range(100):
        q = middle + half * rng.uniform(-0.9, 0.9, 7)
        target = kinematics.forward(q + rng.uniform(-0.02, 0.02, 7))
        solution = kinematics.solve(target, q)
        assert solution.reached
        assert np.abs(solution.q - q).max() < 0.1


def test_a_path_through_a_singularity_bounds_the_speed_of_joints():
    """Straight out until the arm is stretched, on beyond its reach, and back."""
    kinematics, home = arm("seven")
    begin = kinematics.forward(home)
    outward = begin.translation / np.linalg.norm(begin.translation)
    most, q = 0.05, home
    reached, beyond = [], []
    for share in [*np.sin(np.linspace(0, np.pi, 300)), *np.zeros(30)]:
        there = RigidTransform.from_translation(0.6 * share * outward) * begin
        solution = kinematics.solve(there, q, most=most)
        assert np.abs(solution.q - q).max() <= most + 1e-12
        assert (solution.q >= kinematics.low).all()
        assert (solution.q <= kinematics.high).all()
        q = solution.q
        reached.append(solution.reached)
        beyond.append(np.linalg.norm(there.translation) > 1.4)
    assert reached[0]
    assert not np.array(reached)[beyond].any()
    assert np.sum(beyond) > 50
    assert reached[-1]  # it came back


def test_out_of_reach_is_said_and_the_arm_stretches_towards_it():
    kinematics, home = arm("seven")
    target = RigidTransform.from_translation([3.0, 0, 0.3])
    solution = kinematics.solve(target, home, restarts=2)
    assert not solution.reached
    assert solution.error_m == pytest.approx(
        apart(kinematics.forward(solution.q), target)[0], abs=1e-6
    )
    # As near as its length lets it come, or nearly: what is wrong with the rotation counts too.
    longest = sum(length for _, length, _ in CHAIN[1:]) + CHAIN[0][1]
    assert 3 - longest - 0.05 < solution.error_m < 3 - longest + 0.5


def test_what_the_pose_leaves_free_goes_to_the_posture():
    kinematics, home = arm("seven")
    rng = np.random.default_rng(4)
    target = kinematics.forward(home)
    for _ in range(5):
        posture = home + rng.uniform(-0.8, 0.8, 7)
        q, plain = home, kinematics.solve(target, home).q
        for _ in range(40):
            solution = kinematics.solve(target, q, posture=posture)
            assert solution.reached
            q = solution.q
        assert np.abs(plain - home).max() < 1e-3
        assert np.linalg.norm(q - posture) < np.linalg.norm(plain - posture) - 0.01
        # No way along which the pose stays leads nearer to it.
        step = 1e-5
        slopes = [
            (chained(q + step * one).translation - chained(q - step * one).translation) / step / 2
            for one in np.eye(7)
        ]
        turns = [
            (chained(q + step * one).rotation * chained(q - step * one).rotation.inv()).as_rotvec()
            / step / 2
            for one in np.eye(7)
        ]  # fmt: skip
        free = np.linalg.svd(np.concatenate([slopes, turns], axis=1).T)[2][-1]
        assert abs(free @ (posture - q)) < 0.05


def test_slides_and_other_joints():
    text = """<mujoco><worldbody><body name="gantry">
      <joint name="x" type="slide" axis="1 0 0" range="-1 1" limited="true"/>
      <geom size="0.01"/><body><joint name="y" type="slide" axis="0 1 0"/><geom size="0.01"/>
      <body name="hand" pos="0 0 0.5"><joint name="turn" axis="0 0 1"/><geom size="0.01"/></body>
      </body></body></worldbody></mujoco>"""
    kinematics = Kinematics(compiled(text), "hand", ["turn", "x", "y"])
    assert kinematics.low.tolist() == [-np.inf, -1, -np.inf]
    target = RigidTransform.from_components([0.7, -3, 0.5], Rotation.from_rotvec([0, 0, 2.5]))
    solution = kinematics.solve(target, np.zeros(3))
    assert solution.reached
    assert solution.q == pytest.approx([2.5, 0.7, -3], abs=1e-4)
    aside = kinematics.solve(RigidTransform.from_translation([1.4, 0, 0.5]), np.zeros(3))
    assert not aside.reached
    assert aside.q == pytest.approx([0, 1, 0], abs=1e-6)
    assert aside.error_m == pytest.approx(0.4, abs=1e-6)


def test_mistakes_are_told(tmp_path):
    model = compiled(seven())
    for given, words in (
        (("tol", JOINTS), "no body tol; did you mean tool"),
        (("tool", ["joint8"]), "no joint joint8; did you mean joint"),
        (("tool", ["floating"]), "joint floating: neither a hinge nor a slide"),
        (("tool", JOINTS, "feet"), "no body feet; there are world, foot"),
    ):
        with pytest.raises(UserError, match=words):
            Kinematics(model, *given)
    kinematics, home = arm("seven")
    nowhere = RigidTransform.from_translation([np.nan, 0, 0])
    with pytest.raises(UserError, match="must be finite"):
        kinematics.solve(nowhere, home)
    with pytest.raises(UserError, match="must be 7 finite numbers"):
        kinematics.forward(home[:6])
    wrong = tmp_path / "arm.xml"
    wrong.write_text("<mujoco><worldbody><bod/></worldbody></mujoco>")
    with pytest.raises(UserError, match=r"arm\.xml: no model of a robot"):
        load(wrong)


def test_kinematics_need_no_renderer(tmp_path):
    """On a robot's computer there may be nothing to render with."""
    path = tmp_path / "arm.xml"
    path.write_text(seven())
    code = f"""if True:
        import robot.arm_model as models, robot.kinematics as k, sys
        assert "mujoco" not in sys.modules
        def none():
            raise k.UserError("nothing to render with")
        models.load_mujoco = none
        arm = k.Kinematics(models.load({str(path)!r}), "tool", {JOINTS!r}, "foot")
        print(arm.solve(arm.forward([0.1] * 7), [0.0] * 7).reached)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr
