"""Decoding a window: every step gets the frame nearest to it, or the reason why not is said."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ego_ops.video import Frames, decode_window
from tests.video_files import (
    CLOSED_GOP,
    HEIGHT,
    OPEN_GOP,
    WIDTH,
    cut_by_edit_list,
    frame_number,
    full_decode,
    picture,
    set_matrix,
    write_video,
)

N = 96
EVEN = np.arange(N) / 30
UNEVEN = np.cumsum(np.random.default_rng(3).uniform(0.005, 0.06, N))

VIDEOS = {
    "b_frames.mp4": {"options": CLOSED_GOP},
    "long_gop.mp4": {"options": CLOSED_GOP, "gop": 1000},
    "open_gop.mp4": {"options": OPEN_GOP},
    "open_gop.ts": {"options": OPEN_GOP, "time_base": Fraction(1, 90000)},
    "transport.ts": {"options": CLOSED_GOP, "time_base": Fraction(1, 90000)},
    "mpeg4.mp4": {"codec": "mpeg4", "gop": 12},
    "vp9.webm": {"codec": "libvpx-vp9", "time_base": Fraction(1, 1000)},
    "uneven.mkv": {"times": UNEVEN, "options": CLOSED_GOP, "time_base": Fraction(1, 1000)},
    "uneven.mp4": {"times": UNEVEN, "options": CLOSED_GOP},
    "begins_late.mp4": {"times": EVEN + 2, "options": CLOSED_GOP},
    "cut_mid_gop.mp4": {"options": CLOSED_GOP},
    "fragments.mp4": {"options": CLOSED_GOP, "muxing": {"movflags": "frag_keyframe+empty_moov"}},
    "with_sound.mp4": {"options": CLOSED_GOP, "audio_seconds": 5.0},
    "slow.mp4": {"times": np.arange(48) / 15, "options": CLOSED_GOP, "rate": 15},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    made = {
        name: write_video(folder / name, **{"times": EVEN, **recipe})
        for name, recipe in VIDEOS.items()
    }
    cut_by_edit_list(made["cut_mid_gop.mp4"], 10 * 512)
    return made


@pytest.fixture(scope="module")
def truth(videos: dict[str, Path]) -> dict[str, tuple[np.ndarray, list[int]]]:
    return {name: full_decode(path) for name, path in videos.items()}


def shown(frames: Frames) -> list[int]:
    return [frame_number(image) for image in frames.images]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.floats(0, 0.9), length=st.floats(0.2, 1.5), fps=st.sampled_from([3, 10, 20, 24]))
@example(where=0.0, length=1.0, fps=20)
@example(where=0.125, length=0.3, fps=20)
@pytest.mark.parametrize("name", [name for name in VIDEOS if name != "slow.mp4"])
def test_every_step_gets_the_nearest_frame_of_a_full_decode(
    videos, truth, name: str, where: float, length: float, fps: int
) -> None:
    pts, numbers = truth[name]
    start = where * pts[-1]
    end = min(start + length, pts[-1])
    frames = decode_window(str(videos[name]), start, end, fps=fps)
    steps = np.array([t for t in start + np.arange(100) / fps if t < end - 1e-6])
    np.testing.assert_allclose(frames.times, steps, atol=1e-9)
    distances = np.abs(pts - steps[:, None])
    best = (distances <= distances.min(axis=1, keepdims=True) + 1e-6).argmax(axis=1)
    np.testing.assert_allclose(frames.pts, pts[best], atol=1e-9)
    assert shown(frames) == [numbers[k] for k in best]


@settings(max_examples=20, deadline=None)
@given(start=st.floats(0, 2.0), length=st.floats(0.1, 1.1), fps=st.sampled_from([15, 20, 60]))
def test_a_slower_video_gives_its_own_frames_once(videos, truth, start, length, fps) -> None:
    pts, numbers = truth["slow.mp4"]
    inside = (pts >= start - 1e-3) & (pts < start + length - 1e-3)
    frames = decode_window(str(videos["slow.mp4"]), start, start + length, fps=fps)
    np.testing.assert_allclose(frames.times, pts[inside], atol=1e-9)
    np.testing.assert_array_equal(frames.pts, frames.times)
    assert shown(frames) == [number for number, is_in in zip(numbers, inside, strict=True) if is_in]
    assert frames.fps == frames.source_fps == pytest.approx(15)


def test_ties_go_to_the_earlier_frame(videos) -> None:
    frames = decode_window(str(videos["b_frames.mp4"]), 0.0, 0.4, fps=20)
    assert shown(frames) == [0, 1, 3, 4, 6, 7, 9, 10]  # steps fall on frames 0, 1.5, 3, 4.5, …


def test_second_zero_is_the_first_displayed_frame(videos) -> None:
    assert shown(decode_window(str(videos["begins_late.mp4"]), 0, 0.1, fps=10)) == [0]
    assert shown(decode_window(str(videos["cut_mid_gop.mp4"]), 0, 0.1, fps=10)) == [10]
    assert shown(decode_window(str(videos["cut_mid_gop.mp4"]), 1, 1.1, fps=10)) == [40]


def test_a_window_past_the_end_is_clipped(videos) -> None:
    video_end = N / 30
    frames = decode_window(str(videos["b_frames.mp4"]), 3.0, video_end + 0.45, fps=20)
    np.testing.assert_allclose(frames.times, [3.0, 3.05, 3.1, 3.15])
    assert shown(frames) == [90, 91, 93, 94]
    native = decode_window(str(videos["slow.mp4"]), 3.0, video_end + 0.45)
    assert shown(native) == [45, 46, 47]


def coded(name: str) -> np.ndarray:
    return {
        "none": picture(777),
        "90": np.rot90(picture(777), 1),  # players turn it clockwise
        "180": np.rot90(picture(777), 2),
        "270": np.rot90(picture(777), 3),
        "mirrored": picture(777)[:, ::-1],
        "upside down": picture(777)[::-1],
        "transposed": picture(777).swapaxes(0, 1),
    }[name]


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("none", (1, 0, 0, 1)),
        ("90", (0, 1, -1, 0)),
        ("180", (-1, 0, 0, -1)),
        ("270", (0, -1, 1, 0)),
        ("mirrored", (-1, 0, 0, 1)),
        ("upside down", (1, 0, 0, -1)),
        ("transposed", (0, 1, 1, 0)),
    ],
)
@pytest.mark.parametrize("max_side", [None, 96])
def test_images_are_upright(tmp_path, name: str, matrix, max_side) -> None:
    path = write_video(
        tmp_path / "turned.mp4", EVEN[:4], draw=lambda _: np.ascontiguousarray(coded(name))
    )
    set_matrix(path, *matrix)
    frames = decode_window(str(path), 0, 0.1, max_side=max_side)
    assert frames.source_size == (WIDTH, HEIGHT)
    assert frames.images.shape[1:] == ((HEIGHT, WIDTH, 3) if max_side is None else (64, 96, 3))
    assert set(shown(frames)) == {777}
    step = 1 if max_side is None else 2
    difference = np.abs(frames.images[0].astype(float) - picture(777)[::step, ::step])
    assert np.median(difference) < 6


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le"])
def test_colours_survive(tmp_path, pixels: str) -> None:
    path = write_video(tmp_path / "colour.mp4", EVEN[:4], pixels=pixels)
    for max_side in (None, 96):
        image = decode_window(str(path), 0, 0.1, max_side=max_side).images[0].astype(int)
        scale = image.shape[1] / WIDTH
        for (x, y), colour in {(16, 64): (200, 30, 30), (120, 10): (30, 30, 200)}.items():
            assert np.abs(image[int(y * scale), int(x * scale)] - colour).max() < 12


def test_shrinking_averages(tmp_path: Path) -> None:
    stripes = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stripes[:, ::2] = 255
    path = write_video(
        tmp_path / "fine.mp4", EVEN[:4], options={"crf": "1"}, draw=lambda _: stripes
    )
    image = decode_window(str(path), 0, 0.1, max_side=WIDTH // 2).images[0].astype(int)
    assert np.abs(image[4:-4, 4:-4] - 127).max() < 16


def test_gray_is_the_luma_of_the_images(videos) -> None:
    frames = decode_window(str(videos["b_frames.mp4"]), 0, 0.2)
    luma = frames.images @ np.array([0.299, 0.587, 0.114])
    assert np.abs(frames.gray() - luma).max() <= 1


def test_a_long_window_is_whole(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", np.arange(700) / 60, options=CLOSED_GOP, rate=60)
    frames = decode_window(str(path), 0, 700 / 60, fps=60, max_side=96)
    assert shown(frames) == list(range(700))


class CountingFileSystem(MemoryFileSystem):
    """Files in memory, and how many bytes of them were read."""

    protocol = "counting"
    store: ClassVar = {}
    bytes_read = 0

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("counting:/")

    def _open(self, path, mode="rb", **options):
        file = super()._open(path, mode, **options)
        read = file.read

        def counted(size=-1):
            data = read(size)
            CountingFileSystem.bytes_read += len(data)
            return data

        file.read = counted
        return file


def test_a_url_gives_the_same_frames_and_reads_only_the_window(tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    path = write_video(
        tmp_path / "long.mp4", np.arange(600) / 30, options={"preset": "ultrafast"},
        draw=lambda k: np.roll(noise, k, axis=1), muxing={"movflags": "faststart"},
    )  # fmt: skip
    fsspec.register_implementation("counting", CountingFileSystem, clobber=True)
    fsspec.filesystem("counting").pipe("/long.mp4", path.read_bytes())
    remote = decode_window("counting://long.mp4", 10.0, 11.0)
    local = decode_window(str(path), 10.0, 11.0)
    np.testing.assert_array_equal(remote.images, local.images)
    np.testing.assert_array_equal(remote.pts, local.pts)
    assert CountingFileSystem.bytes_read < 0.2 * path.stat().st_size


def test_memory_of_a_large_window_stays_small(tmp_path) -> None:
    gradient = np.linspace(0, 255, 1408 * 1408 * 3).reshape(1408, 1408, 3).astype(np.uint8)
    path = write_video(
        tmp_path / "large.mp4", np.arange(121) / 30, options={"preset": "ultrafast"},
        draw=lambda k: np.roll(gradient, 8 * k, axis=0),
    )  # fmt: skip
    code = (
        "import sys\n"
        "from ego_ops.video import decode_window\n"
        "shape = decode_window(sys.argv[1], 0, 4, max_side=960).images.shape\n"
        "status = open('/proc/self/status').read()\n"
        "print(*shape, int(status.split('VmHWM:')[1].split()[0]) // 1024)"
    )
    run = [sys.executable, "-c", code, str(path)]
    *shape, peak_mib = subprocess.run(
        run, check=True, capture_output=True, text=True
    ).stdout.split()
    assert shape == ["80", "960", "960", "3"]
    assert int(peak_mib) < 450  # of which 211 are the images


EGODEX = Path(__file__).resolve().parents[2] / "shared" / "data" / "egodex"


@pytest.mark.parametrize("clip", ["basic_pick_and_place/0.mp4", "add_remove_lid/0.mp4"])
@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_a_real_clip_matches_its_full_decode(clip: str, backend: str) -> None:
    path = EGODEX / clip
    if not path.exists():
        pytest.skip("the EgoDex sample clips are not here")
    if backend == "decord":
        pytest.importorskip("decord")
    frames = decode_window(str(path), 1.0, 1.5, fps=30, max_side=960, backend=backend)
    with av.open(str(path)) as container:
        decoded = [frame for frame, _ in zip(container.decode(video=0), range(45), strict=False)]
    assert frames.source_size == (1920, 1080)
    assert frames.images.shape == (15, 540, 960, 3)
    for image, source in zip(frames.images, decoded[30:], strict=True):
        full = source.to_ndarray(format="rgb24")
        halved = full.reshape(540, 2, 960, 2, 3).mean(axis=(1, 3))
        errors = [np.abs(image - halved).mean(), np.abs(np.roll(image, 2, axis=1) - halved).mean()]
        assert errors[0] < min(2.0, errors[1])
