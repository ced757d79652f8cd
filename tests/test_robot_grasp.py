"""Steps of a thing that is held, as the gripper's: the thing goes where it is to go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from ego_ops.geometry.actions import IDENTITY, actions
from ego_ops.synthetic.render import load_mujoco
from robot.grasp import gripper_steps, numbers, transforms

seeds = st.integers(0, 2**32 - 1)


def poses(rng: np.random.Generator, count: int) -> RigidTransform:
    return RigidTransform.from_components(
        rng.uniform(-1, 1, (count, 3)), Rotation.random(count, rng=rng)
    )


def apart(a: RigidTransform, b: RigidTransform) -> float:
    return float(np.abs(a.as_matrix() - b.as_matrix()).max())


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_the_thing_goes_its_recorded_path(seed):
    """Actions as shards have them, done by a gripper that holds it anyhow, seen from anywhere."""
    rng = np.random.default_rng(seed)
    path, grasp, camera = poses(rng, 12), poses(rng, 1)[0], poses(rng, 1)[0]
    steps = actions(path.translation, path.rotation.as_quat())
    found = transforms(gripper_steps(steps, grasp))
    gripper = camera * path[0] * grasp.inv()  # T_base_gripper, though the path is in the camera's
    for t in range(11):
        gripper = gripper * found[t]
        assert apart(gripper * grasp, camera * path[t + 1]) < 1e-12
    assert gripper_steps(steps, grasp)[-1] == pytest.approx(IDENTITY, abs=1e-12)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_back_again_and_what_follows_is_left(seed):
    rng = np.random.default_rng(seed)
    steps = np.concatenate([numbers(poses(rng, 5)), rng.uniform(size=(5, 2))], axis=1)
    grasp = poses(rng, 1)[0]
    there = gripper_steps(steps, grasp)
    assert there[:, 9:].tobytes() == steps[:, 9:].tobytes()
    assert gripper_steps(there, grasp.inv()) == pytest.approx(steps, abs=1e-12)


def test_by_hand():
    """A stick held at one end, 0.2 m from its middle: to turn it about its middle the hand goes
    round, and a hand that holds it at the middle but turned about sees other axes."""
    turn = Rotation.from_rotvec([0, 0, np.pi / 2])
    about_middle = numbers(RigidTransform.from_rotation(Rotation.concatenate([turn])))
    end = RigidTransform.from_translation([0.2, 0, 0])
    found = transforms(gripper_steps(about_middle, end))[0]
    assert found.translation == pytest.approx([0.2, -0.2, 0])
    assert found.rotation.as_rotvec() == pytest.approx([0, 0, np.pi / 2])
    along_x = np.array([[0.01, 0, 0, *IDENTITY[3:]]])
    turned = RigidTransform.from_rotation(turn)
    assert gripper_steps(along_x, turned)[0, :3] == pytest.approx([0, 0.01, 0])


def test_a_weld_of_a_simulator_agrees():
    """MuJoCo moves a body with another that is fixed to it."""
    mujoco = load_mujoco()
    rng = np.random.default_rng(8)
    grasp, path = poses(rng, 1)[0], poses(rng, 8)
    place, turn = grasp.translation, grasp.rotation.as_quat()[[3, 0, 1, 2]]
    model = mujoco.MjModel.from_xml_string(f"""<mujoco><worldbody>
      <body name="gripper" mocap="true"><geom size="0.1"/><body name="thing"
      pos="{" ".join(map(str, place))}" quat="{" ".join(map(str, turn))}"><geom size="0.1"/>
      </body></body></worldbody></mujoco>""")
    data = mujoco.MjData(model)
    gripper = path[0] * grasp.inv()
    steps = transforms(gripper_steps(actions(path.translation, path.rotation.as_quat()), grasp))
    for t in range(8):
        data.mocap_pos[0] = gripper.translation
        data.mocap_quat[0] = gripper.rotation.as_quat()[[3, 0, 1, 2]]
        mujoco.mj_kinematics(model, data)
        thing = data.body("thing")
        assert thing.xpos == pytest.approx(path[t].translation, abs=1e-9)
        assert thing.xmat.reshape(3, 3) == pytest.approx(path[t].rotation.as_matrix(), abs=1e-9)
        gripper = gripper * steps[t]


def test_columns_that_are_nearly_a_rotations():
    turn = Rotation.from_rotvec([0.3, -0.2, 0.5])
    axes = turn.as_matrix()
    rough = np.array([[0.1, 0.2, 0.3, *1.4 * axes[:, 0], *0.7 * axes[:, 1] + 0.3 * axes[:, 0]]])
    found = transforms(rough)[0]
    assert found.rotation.as_matrix() == pytest.approx(axes, abs=1e-12)
    assert found.translation.tolist() == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({4: np.nan}, "step 1: .*must be finite"),
        ({3: 0.0}, "step 1: columns .* are those of no rotation"),
        ({6: 1.0, 7: 0.0}, "are those of no rotation"),
    ],
)
def test_steps_that_are_none(change, words):
    steps = np.tile(IDENTITY, (3, 1))
    steps[1, list(change)] = list(change.values())
    with pytest.raises(UserError, match=words):
        gripper_steps(steps, RigidTransform.identity())
    for wrong in (np.zeros((2, 8)), np.zeros(9), np.zeros((0, 9))):
        with pytest.raises(UserError, match=r"must be \(H, 9\) or more"):
            transforms(wrong)
