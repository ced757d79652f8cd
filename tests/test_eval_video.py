"""Videos of episodes, read back."""

from __future__ import annotations

import io
import tempfile
import weakref
from collections.abc import Iterator

import av
import numpy as np
import pytest

from ego_ops.errors import UserError
from sim_eval import video
from sim_eval.suite import Image


def moving(height: int, width: int, count: int = 30) -> Iterator[Image]:
    """A yellow square that goes right on a blue slope."""
    slope = np.linspace(0, 80, height)[:, None] + np.linspace(0, 80, width)
    for t in range(count):
        image = np.zeros((height, width, 3), np.uint8)
        image[..., 2] = 90 + slope
        left = 4 + t * (width - 24) // count
        image[height // 2 - 8 : height // 2 + 8, left : left + 16] = (240, 200, 20)
        yield image


def decoded(data: bytes) -> tuple[list[Image], av.VideoStream]:
    with av.open(io.BytesIO(data)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)], (
            file.streams.video[0]
        )


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (224, 224)])
def test_pictures_come_back(height, width):
    found, _ = decoded(video.encode(moving(height, width), 20.0))
    assert len(found) == 30
    for image, true in zip(found, moving(height, width), strict=True):
        assert image.shape == (height + height % 2, width + width % 2, 3)
        # Colour has half the resolution, so edges of the square are off.
        error = np.abs(image[:height, :width].astype(int) - true)
        assert np.median(error) <= 3
        assert error.mean() < 5
        centre = image[
            height // 2, np.flatnonzero(true[height // 2, :, 0] > 200).mean().astype(int)
        ]
        assert np.abs(centre.astype(int) - (240, 200, 20)).max() < 16


def test_browsers_can_play_it_while_it_loads():
    data = video.encode(moving(64, 96), 12.5, {"title": "stack, seed 3"})
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as file:
        (stream,) = file.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 12.5
        assert float(stream.duration * stream.time_base) == pytest.approx(30 / 12.5)
        assert file.metadata["title"] == "stack, seed 3"
        frame = next(file.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, limited


def test_same_pictures_same_file():
    assert video.encode(moving(64, 96), 20.0) == video.encode(moving(64, 96), 20.0)


def test_memory_holds_few_pictures():
    made: list[weakref.ref[Image]] = []
    most = 0

    def watched() -> Iterator[Image]:
        nonlocal most
        for image in moving(64, 96, 300):
            made.append(weakref.ref(image))
            most = max(most, sum(one() is not None for one in made))
            yield image

    video.encode(watched(), 20.0)
    assert len(made) == 300
    assert most < 5


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "a video of no frames"),
        ([np.zeros((8, 8), np.uint8)], r"frame 0 of a video is \(8, 8\)"),
        ([np.zeros((8, 8, 3))], r"frame 0 of a video is \(8, 8, 3\) float64"),
        (
            [np.zeros((16, 16, 3), np.uint8), np.zeros((16, 18, 3), np.uint8)],
            r"frame 1 of a video is \(16, 18, 3\) uint8, not \(16, 16, 3\)",
        ),
    ],
)
def test_what_is_no_video_is_said_in_one_line(frames, message):
    with pytest.raises(UserError, match=message):
        video.encode(frames, 20.0)


def test_nothing_is_left_where_pictures_end_in_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def broken() -> Iterator[Image]:
        yield from moving(64, 96, 5)
        raise UserError("another episode the second time")

    with pytest.raises(UserError, match="another episode the second time"):
        video.encode(broken(), 20.0)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    with pytest.raises(UserError, match="cannot encode a video in /proc"):
        video.encode(moving(64, 96), 20.0)
