"""A chessboard filmed by a known camera gives that camera back."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ego_ops.corpora import camera_file
from ego_ops.errors import UserError
from tests.video_files import write_video
from workflows.calibrate import CalibrateConfig, run

BOARD = (9, 6)
SIZE = (640, 480)
K = np.array([[420.0, 0, 331], [0, 425.0, 228], [0, 0, 1]])
LENSES = {"opencv": [-0.22, 0.06, 0.001, -0.0015, 0.0], "opencv_fisheye": [0.03, -0.01, 0.002, 0.0]}
SQUARE = 40
"""Pixels of the printed board."""


def printed() -> np.ndarray:
    """The board with a white border of one square."""
    y, x = np.mgrid[: (BOARD[1] + 3) * SQUARE, : (BOARD[0] + 3) * SQUARE] // SQUARE
    inside = (x > 0) & (y > 0) & (x < BOARD[0] + 2) & (y < BOARD[1] + 2)
    return np.where(inside & ((x + y) % 2 == 0), 20, 235).astype(np.uint8)


def filmed(model: str, turn: Rotation, shift: np.ndarray) -> np.ndarray:
    """What the camera sees of a board at a pose (squares are 1 wide): each pixel's ray meets it."""
    pixels = np.stack(np.meshgrid(*map(np.arange, SIZE)), -1).reshape(-1, 1, 2).astype(float)
    undistort = cv2.undistortPoints if model == "opencv" else cv2.fisheye.undistortPoints
    rays = undistort(pixels, K, np.array(LENSES[model])).reshape(-1, 2)
    rays = np.column_stack([rays, np.ones(len(rays))])
    normal = turn.as_matrix()[:, 2]
    meets = rays * ((normal @ shift) / (rays @ normal))[:, None]
    at = turn.inv().apply(meets - shift)[:, :2]
    at = (at + 2) * SQUARE - 0.5  # the first inner corner is two squares from the border
    maps = at.reshape(SIZE[1], SIZE[0], 2).astype(np.float32)
    return cv2.remap(printed(), maps, None, cv2.INTER_LINEAR, borderValue=110)


def film(path, model: str, views: int) -> None:
    rng = np.random.default_rng(3)
    pictures = []
    for k in range(views):
        turn = Rotation.from_euler("xyz", [*rng.uniform(-0.5, 0.5, 2), rng.uniform(-0.2, 0.2)])
        aside = np.array([(k % 3 - 1) * 4.2, (k // 3 % 3 - 1) * 3.0, rng.uniform(11, 14)])
        gray = filmed(model, turn, aside - turn.apply([4, 2.5, 0]))
        pictures.append(cv2.cvtColor(cv2.GaussianBlur(gray, (0, 0), 0.6), cv2.COLOR_GRAY2RGB))
    times = np.arange(views) * 0.4
    write_video(path, times, options={"crf": "12"}, draw=lambda k: pictures[k])


@pytest.mark.parametrize("model", ["opencv", "opencv_fisheye"])
def test_a_known_camera_is_found(tmp_path, capsys, model):
    film(tmp_path / "board.mp4", model, 24)
    found = run(CalibrateConfig(tmp_path / "board.mp4", tmp_path / "camera.json", BOARD, model))
    assert "wrote" in capsys.readouterr().out
    assert found.views >= 15
    assert found.error < 0.3
    camera, lens = camera_file.read(str(tmp_path / "camera.json"))
    assert lens is not None
    rays = np.stack(np.meshgrid([-0.5, 0.0, 0.5], [-0.35, 0.0, 0.35], [1.0]), -1).reshape(-1, 1, 3)
    project = cv2.projectPoints if model == "opencv" else cv2.fisheye.projectPoints
    truth, _ = project(rays, np.zeros(3), np.zeros(3), K, np.array(LENSES[model]))
    assert np.abs(lens.stored(rays.reshape(-1, 3)) - truth.reshape(-1, 2)).max() < 1.0
    assert abs(camera.fx / K[0, 0] - 1) < 0.005


def test_too_few_views_say_what_to_do(tmp_path):
    film(tmp_path / "board.mp4", "opencv", 4)
    out = tmp_path / "camera.json"
    with pytest.raises(UserError, match="different views, 10 are needed"):
        run(CalibrateConfig(tmp_path / "board.mp4", out, BOARD))
    assert not out.exists()
    with pytest.raises(UserError, match="one number odd"):
        run(CalibrateConfig(tmp_path / "board.mp4", out, (8, 6)))


def test_the_file_is_json_that_another_program_reads(tmp_path):
    film(tmp_path / "board.mp4", "opencv", 14)
    run(CalibrateConfig(tmp_path / "board.mp4", tmp_path / "camera.json", BOARD))
    content = json.loads((tmp_path / "camera.json").read_text())
    assert (content["width"], content["height"], content["model"]) == (*SIZE, "opencv")
