from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.geometry.actions import IDENTITY, actions


def test_a_screw_motion_is_the_same_action_at_every_step():
    turn = Rotation.from_rotvec([0, 0, 0.1])
    step = RigidTransform.from_components([0.01, 0, 0.02], turn)
    poses = [RigidTransform.from_components([1, 2, 3], Rotation.from_rotvec([0.3, -0.2, 0.9]))]
    for _ in range(5):
        poses.append(poses[-1] * step)
    found = actions(
        np.stack([p.translation for p in poses]), np.stack([p.rotation.as_quat() for p in poses])
    )
    cos, sin = np.cos(0.1), np.sin(0.1)
    expected = [0.01, 0, 0.02, cos, sin, 0, -sin, cos, 0]
    np.testing.assert_allclose(found[:-1], np.tile(expected, (5, 1)), atol=1e-12)
    np.testing.assert_array_equal(found[-1], IDENTITY)


def test_a_quarter_turn_written_out():
    # The object has its x axis along world y; it moves by 2 along world y: forward in its frame.
    turned = Rotation.from_euler("z", 90, degrees=True).as_quat()
    found = actions(np.array([[0.0, 0, 0], [0, 2, 0]]), np.stack([turned, [0, 0, 0, 1.0]]))
    np.testing.assert_allclose(found[0], [2, 0, 0, 0, -1, 0, 1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_composing_the_actions_gives_the_trajectory_back(count):
    random = np.random.default_rng(count)
    position, rotation = random.normal(size=(count, 3)), Rotation.random(count, rng=random)
    found = actions(position, rotation.as_quat())
    assert found.shape == (count, 9)
    at, turn = position[0], rotation[0].as_matrix()
    for t in range(count - 1):
        x, y = found[t, 3:6], found[t, 6:9]
        at = at + turn @ found[t, :3]
        turn = turn @ np.stack([x, y, np.cross(x, y)], axis=1)
        np.testing.assert_allclose(at, position[t + 1], atol=1e-9)
        np.testing.assert_allclose(turn, rotation[t + 1].as_matrix(), atol=1e-9)
