"""Intrinsics of one's own camera, for `--corpus folder`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ego_ops.calibration import Calibration, calibrate
from ego_ops.errors import UserError


@dataclass(frozen=True)
class CalibrateConfig:
    """Find a camera's intrinsics from a video of a chessboard and write them for `index`."""

    video: Path
    """A video in which the camera moves about a chessboard, with the settings of the recordings."""
    out: Path = Path("camera.json")
    """The camera file; in a corpus's folder it is that of all videos there."""
    board: tuple[int, int] = (9, 6)
    """Inner corners of the chessboard, across and down."""
    model: Literal["opencv", "opencv_fisheye"] = "opencv"
    """opencv_fisheye for action cameras and other lenses of more than 100 degrees."""


def run(config: CalibrateConfig) -> Calibration:
    """Calibrate, write the camera file and say how good it is.

    Raises:
        UserError: the board is not one, is not seen well enough, or the file cannot be written.
        ClipError: the video cannot be read.
    """
    across, down = config.board
    if min(across, down) < 3 or (across + down) % 2 == 0:
        raise UserError(
            f"--board {across} {down}: needs 3 inner corners or more each way, one number odd and "
            "one even, so that the board's way up is known"
        )
    found = calibrate(str(config.video), config.board, config.model)
    try:
        found.write(str(config.out))
    except OSError as error:
        raise UserError(f"--out {config.out}: {error.strerror}") from error
    camera = found.camera
    print(
        f"wrote {config.out}: focal length {camera['fx']:.1f} {camera['fy']:.1f}, centre "
        f"{camera['cx']:.1f} {camera['cy']:.1f} pixels, from {found.views} views that cover "
        f"{found.coverage:.0%} of the picture; corners are off by {found.error:.2f} pixels (rms)"
    )
    if found.error > 1.0 or found.coverage < 0.5:
        print("that is poor: film the board sharper, slower, and into all corners of the picture")
    return found
