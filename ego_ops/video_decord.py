"""The optional decord backend, with every frame checked against PyAV's."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import DecodeError, UserError
from ego_ops.video_pyav import is_remote

THUMBNAIL = 96
"""Longest side in pixels of the pictures that decord's frames are compared in."""

MAX_DIFFERENCE = 2.0
"""Mean levels between the two backends' thumbnails of one frame; scaling alone makes 0.6."""

MARGIN = 0.1
"""Mean levels by which a picture may be nearer to the thumbnail of the step before or after."""

CLOCK_ERROR = 2e-7
"""Relative error of decord's time stamps, which are float32; see `_index_of`."""


def check_usable(path: str, where: str) -> None:
    """Raise UserError where decord is not installed or cannot read `path`."""
    if is_remote(path):
        raise UserError(f"{where}: decord reads local files only; use the pyav backend")
    try:
        import decord  # noqa: F401
    except ImportError as error:
        raise UserError(
            "the decord video backend is not installed: pip install 'egoscaler-ray[decord]'"
        ) from error


def read(
    path: str,
    pts: NDArray[np.float64],
    size: tuple[int, int],
    thumbnails: NDArray[np.uint8],
    decodable: list[float],
    where: str,
) -> NDArray[np.uint8]:
    """Read the frames displayed at `pts` with decord.

    decord counts packets: one that gives no picture shifts every frame after it, and a container
    without an index may be sought wrongly, both without an error. So what it returns is
    compared with what PyAV decoded, in number and in content.

    Args:
        pts: (T,) seconds from the first displayed frame, increasing, repeats allowed.
        size: (width, height) of the images, upright.
        thumbnails: (T, h, w, 3) the same frames as PyAV decodes them, small.
        decodable: pts of every frame PyAV decoded around the window.

    Returns:
        (T, height, width, 3) RGB images.

    Raises:
        DecodeError: decord fails or does not return these frames.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)  # what goes wrong is raised below
    images = np.empty((len(pts), size[1], size[0], 3), np.uint8)
    try:
        reader = decord.VideoReader(path, num_threads=1)
        stamps = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0].astype(np.float64)
        indices = _index_of(stamps, pts, where)
        _check_nothing_lost(stamps[: indices[-1] + 1], decodable, where)
        # One seek, then every frame in order: decord may jump wrongly where it skips over a
        # keyframe that is preceded, in display order, by frames coded after it.
        reader.seek_accurate(indices[0])
        for index in range(indices[0], indices[-1] + 1):
            picture = reader.next().asnumpy()
            if index in indices:
                images[indices == index] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    except decord.DECORDError as error:
        reason = str(error).strip().splitlines()[0].rsplit(": ", 1)[-1]
        raise DecodeError(f"{where}: decord cannot read the window ({reason})") from error
    _check_content(images, thumbnails, pts, where)
    return images


def _clock_error(stamps: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1e-6 + np.abs(stamps) * CLOCK_ERROR


def _index_of(
    stamps: NDArray[np.float64], pts: NDArray[np.float64], where: str
) -> NDArray[np.int64]:
    """Index of the frame that decord stamps with each of `pts`."""
    after = np.searchsorted(stamps, pts).clip(1, len(stamps) - 1)
    nearer = np.abs(stamps[after - 1] - pts) < np.abs(stamps[after] - pts)
    index = np.where(nearer, after - 1, after)
    wrong = np.abs(stamps[index] - pts) > _clock_error(pts)
    if wrong.any():
        raise DecodeError(
            f"{where}: decord knows no frame at {pts[wrong][0]:.3f} s; use the pyav backend"
        )
    return index


def _check_nothing_lost(stamps: NDArray[np.float64], decodable: list[float], where: str) -> None:
    """Raise DecodeError unless, from PyAV's first frame on, every stamp has its frame."""
    found = np.array(decodable)
    for t in stamps[stamps > found.min() - _clock_error(found.min())]:
        if np.abs(found - t).min() > _clock_error(t):
            raise DecodeError(
                f"{where}: the packet at {t:.3f} s gives no frame, which shifts decord's count; "
                "use the pyav backend"
            )


def _check_content(
    images: NDArray[np.uint8],
    thumbnails: NDArray[np.uint8],
    pts: NDArray[np.float64],
    where: str,
) -> None:
    """Raise DecodeError unless each image looks like PyAV's thumbnail of its own frame."""
    expected = np.stack([_luma(thumbnail) for thumbnail in thumbnails])
    for k, image in enumerate(images):
        small = cv2.resize(image, expected.shape[:0:-1], interpolation=cv2.INTER_AREA)
        first = max(0, k - 1)
        differences = np.abs(expected[first : k + 2] - _luma(small)).mean(axis=(1, 2))
        own = differences[k - first]
        if own > min(MAX_DIFFERENCE, differences.min() + MARGIN):
            raise DecodeError(
                f"{where}: decord returns another picture at {pts[k]:.3f} s than PyAV; "
                "use the pyav backend"
            )


def _luma(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
