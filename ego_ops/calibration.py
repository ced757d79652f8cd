"""Intrinsics of one's own camera, from a video of a chessboard (Zhang 2000, as OpenCV has it)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops import video_pyav
from ego_ops.errors import UserError

Array = NDArray[np.float32]

EVERY_S = 0.3
"""Between two frames that are looked at."""
MOVED = 0.03
"""Share of the picture's width that the board moves between two views that are kept."""
MOST, LEAST = 60, 10
"""Views to calibrate from."""
BLURRED = 3.0
"""A view whose error is so many times the median is left out."""


@dataclass(frozen=True)
class Calibration:
    """A camera, and how well it is known."""

    camera: dict[str, Any]
    """What a camera file holds: see `ego_ops.corpora.camera_file`."""
    error: float
    """Root mean square distance of the corners from where the camera sees them, pixels."""
    views: int
    coverage: float
    """Share of the picture that the boards reached; what is outside is extrapolated."""

    def write(self, path: str) -> None:
        """Write the camera file, whole or not at all."""
        aside = f"{path}.part"
        with open(aside, "w") as file:
            json.dump(self.camera, file, indent=1)
        os.replace(aside, path)


def calibrate(video: str, board: tuple[int, int], model: str = "opencv") -> Calibration:
    """Calibrate from a video in which the camera moves about a chessboard.

    Args:
        board: inner corners across and down; both sides different, one odd and one even, so that
            the board has one way up.
        model: `opencv` or `opencv_fisheye`, see `ego_ops.lens_opencv`.

    Raises:
        DecodeError, MissingFileError: the video cannot be read.
        UserError: the board is not seen in enough views, or they do not fix a camera.
    """
    corners, size = _views(video, board)
    if len(corners) < LEAST:
        raise UserError(
            f"{video}: a board of {board[0]} x {board[1]} inner corners was found in "
            f"{len(corners)} different views, {LEAST} are needed: film it larger, sharper, and "
            "from more sides"
        )
    shape = np.zeros((board[0] * board[1], 3), np.float32)
    shape[:, :2] = np.mgrid[: board[0], : board[1]].T.reshape(-1, 2)
    try:
        matrix, distortion, errors = _solve(shape, corners, size, model)
        kept = [c for c, e in zip(corners, errors, strict=True) if e < BLURRED * np.median(errors)]
        if len(kept) < len(corners):
            matrix, distortion, errors = _solve(shape, kept, size, model)
    except cv2.error as error:
        raise UserError(
            f"{video}: the views do not fix a camera ({error.err or error}): tilt the board more"
        ) from error
    camera = {
        "width": size[0], "height": size[1],
        "fx": matrix[0, 0], "fy": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2],
        "model": model, "distortion": distortion.ravel().tolist(),
    }  # fmt: skip
    rms = float(np.sqrt(np.mean(errors**2)))
    return Calibration(camera, rms, len(kept), _coverage(kept, size))


def _views(video: str, board: tuple[int, int]) -> tuple[list[Array], tuple[int, int]]:
    """Corners (N, 1, 2) of views that differ, and the size (width, height) of the picture."""
    scaler = video_pyav.Scaler(None)
    found: list[Array] = []
    due = 0.0
    with video_pyav.open_video(video, video) as source:
        for pts, frame in source.frames_from(0.0):
            if pts < due:
                continue
            due = pts + EVERY_S
            gray = cv2.cvtColor(scaler(frame), cv2.COLOR_RGB2GRAY)
            seen, corners = cv2.findChessboardCornersSB(gray, board)
            if not seen:
                continue
            corners = corners.astype(np.float32).reshape(-1, 1, 2)
            if not found or _moved(corners, found) > MOVED * gray.shape[1]:
                found.append(corners)
            if len(found) == MOST:
                break
    return found, scaler.source_size


def _moved(corners: Array, found: list[Array]) -> float:
    """Pixels by which a view differs, on average over corners, from the nearest one before."""
    return min(float(np.linalg.norm(corners - other, axis=-1).mean()) for other in found)


def _solve(
    shape: Array, corners: list[Array], size: tuple[int, int], model: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Matrix (3, 3), distortion, and each view's root mean square error in pixels."""
    if model == "opencv":
        shapes = [shape] * len(corners)
        found = cv2.calibrateCameraExtended(shapes, corners, size, None, None)
        return found[1], found[2], found[7].ravel()
    names: Any = cv2 if hasattr(cv2, "CALIB_FIX_SKEW") else cv2.fisheye  # OpenCV 5, OpenCV 4
    flags = names.CALIB_RECOMPUTE_EXTRINSIC | names.CALIB_FIX_SKEW
    points = [shape[None].astype(np.float64)] * len(corners)
    pixels = [view.reshape(1, -1, 2).astype(np.float64) for view in corners]
    _, matrix, distortion, turns, shifts = cv2.fisheye.calibrate(
        points, pixels, size, None, None, flags=flags
    )
    errors = []
    for view, turn, shift in zip(pixels, turns, shifts, strict=True):
        expected, _ = cv2.fisheye.projectPoints(points[0], turn, shift, matrix, distortion)
        gaps = (expected.reshape(-1, 2) - view.reshape(-1, 2)) ** 2
        errors.append(np.sqrt(gaps.sum(-1).mean()))
    return matrix, distortion, np.array(errors)


def _coverage(corners: list[Array], size: tuple[int, int]) -> float:
    hull = cv2.convexHull(np.concatenate(corners))
    return float(cv2.contourArea(hull) / (size[0] * size[1]))
