"""Camera and pose path: projection, scaling, interpolation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ego_ops.camera import Camera, PosePath
from ego_ops.errors import AnnotationError
from ego_ops.recording import Hand

CAMERA = Camera(700.0, 650.0, 950.0, 530.0, 1920, 1080)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 10))
def test_projection_and_rays_are_inverse(x: float, y: float, z: float) -> None:
    point = np.array([x * z, y * z, z])
    assert np.allclose(CAMERA.rays(CAMERA.project(point)) * z, point, atol=1e-9)


def test_points_behind_the_camera_have_no_pixel() -> None:
    assert np.isnan(CAMERA.project(np.array([0.1, 0.1, -1.0]))).all()


@pytest.mark.parametrize("size", [(960, 540), (640, 640), (3840, 2160)])
def test_a_scaled_camera_sees_what_a_resized_picture_shows(size: tuple[int, int]) -> None:
    # A bright blob far larger than a pixel keeps its centre of mass under cv2's area resize.
    u = np.array([613.0, 411.0])
    y, x = np.mgrid[:1080, :1920]
    image = np.exp(-((x - u[0]) ** 2 + (y - u[1]) ** 2) / (2 * 25.0**2)).astype(np.float32)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[: size[1], : size[0]]
    centre = np.array([(small * x).sum(), (small * y).sum()]) / small.sum()
    assert np.allclose(CAMERA.scaled(*size).project(CAMERA.rays(u)), centre, atol=0.02)


def test_a_letterboxed_camera_is_centred_in_its_square() -> None:
    small = CAMERA.letterboxed(224)
    assert (small.width, small.height) == (224, 224)
    middle = CAMERA.rays(np.array([959.5, 539.5]))
    assert np.allclose(small.project(middle), [111.5, 111.5], atol=0.5)


def path(times: list[float], shifts: list[float], turns: list[float]) -> PosePath:
    matrices = np.tile(np.eye(4), (len(times), 1, 1))
    matrices[:, 0, 3] = shifts
    matrices[:, :3, :3] = Rotation.from_rotvec(np.outer(turns, [0, 0, 1])).as_matrix()
    return PosePath.from_matrices(np.array(times), matrices)


def test_a_path_is_interpolated_in_position_and_on_the_sphere() -> None:
    pose = path([0, 1], [0, 2], [0, 1.0]).at(np.array([0.25]))
    assert pose.translation[0, 0] == pytest.approx(0.5)
    assert pose.rotation.as_rotvec()[0] == pytest.approx([0, 0, 0.25])


def test_a_path_is_held_for_half_a_second_and_no_more() -> None:
    some = path([0, 1], [0, 2], [0, 0])
    assert some.at(np.array([1.4])).translation[0, 0] == pytest.approx(2)
    with pytest.raises(AnnotationError, match=r"covers 0\.00 to 1\.00 s"):
        some.at(np.array([1.6]))


@pytest.mark.parametrize(
    ("times", "matrices", "says"),
    [
        (np.arange(1), np.eye(4)[None], "two poses"),
        (np.arange(3), np.zeros((3, 3, 4)), "two poses"),
        (np.array([0, 1, 1]), np.tile(np.eye(4), (3, 1, 1)), "do not increase"),
        (np.arange(2), np.full((2, 4, 4), np.nan), "not finite"),
        (np.arange(2), np.tile(np.diag([2.0, 1, 1, 1]), (2, 1, 1)), "not a rigid"),
        (np.arange(2), np.tile(np.diag([-1.0, 1, 1, 1]), (2, 1, 1)), "not a rigid"),
    ],
)
def test_what_is_no_path_is_refused(times: np.ndarray, matrices: np.ndarray, says: str) -> None:
    with pytest.raises(AnnotationError, match=says):
        PosePath.from_matrices(times, matrices)


def test_float32_noise_in_rotations_is_made_good() -> None:
    turns = Rotation.random(50, rng=np.random.default_rng(0)).as_matrix().astype(np.float32)
    matrices = np.tile(np.eye(4), (50, 1, 1))
    matrices[:, :3, :3] = turns + np.random.default_rng(1).normal(0, 1e-4, turns.shape)
    found = PosePath.from_matrices(np.arange(50), matrices).poses.rotation.as_matrix()
    assert np.allclose(found @ found.transpose(0, 2, 1), np.eye(3), atol=1e-12)


def test_joints_are_interpolated_and_unknown_outside() -> None:
    hand = Hand("left", np.array([0.0, 1.0]), np.array([[[0, 0, 0]], [[1, 2, 3.0]]]), (0,))
    found = hand.at(np.array([0.5, 2.0]))
    assert found[0, 0] == pytest.approx([0.5, 1, 1.5])
    assert np.isnan(found[1]).all()
