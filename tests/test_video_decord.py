"""The decord backend: the same frames as PyAV, or a refusal."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ego_ops.errors import DecodeError, UserError
from ego_ops.video import decode_window
from tests.video_files import (
    CLOSED_GOP,
    OPEN_GOP,
    cut_by_edit_list,
    frame_number,
    overwrite,
    packet_bytes,
    picture,
    set_matrix,
    skip_frame,
    write_video,
)

N = 96
EVEN = np.arange(N) / 30


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """60 frames of MPEG-4, a keyframe every 12."""
    return write_video(tmp_path / "clip.mp4", EVEN[:60], "mpeg4", gop=12)


def same_as_pyav(path: Path, start: float, end: float, **options: int) -> None:
    pytest.importorskip("decord")
    ours = decode_window(str(path), start, end, **options)
    theirs = decode_window(str(path), start, end, backend="decord", **options)
    np.testing.assert_array_equal(theirs.times, ours.times)
    np.testing.assert_array_equal(theirs.pts, ours.pts)
    assert theirs.images.shape == ours.images.shape
    assert (theirs.fps, theirs.source_size, theirs.source_fps) == (
        ours.fps, ours.source_size, ours.source_fps,
    )  # fmt: skip
    difference = np.abs(theirs.images.astype(float) - ours.images)
    assert difference.mean() < 3
    assert [*map(frame_number, theirs.images)] == [*map(frame_number, ours.images)]


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("mpeg4.mp4", {"codec": "mpeg4", "gop": 12}),
        ("b_frames.mp4", {"options": CLOSED_GOP}),
        ("uneven.mkv", {"options": CLOSED_GOP, "time_base": Fraction(1, 1000)}),
        ("begins_late.mp4", {"options": CLOSED_GOP}),
    ],
)
def test_decord_gives_the_same_frames(tmp_path: Path, name: str, recipe: dict) -> None:
    times = EVEN + 2 if name == "begins_late.mp4" else EVEN
    if name == "uneven.mkv":
        times = np.cumsum(np.random.default_rng(5).uniform(0.01, 0.05, N))
    path = write_video(tmp_path / name, times, **recipe)
    same_as_pyav(path, 0, 1)
    same_as_pyav(path, 1.37, 2.6, fps=10, max_side=96)
    same_as_pyav(path, 2.0, 2.5, fps=60)


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
def test_decord_gives_upright_images(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    turns = {(0, 1, -1, 0): 1, (-1, 0, 0, -1): 2, (0, -1, 1, 0): 3}[matrix]
    path = write_video(
        tmp_path / "turned.mp4", EVEN[:12],
        draw=lambda k: np.ascontiguousarray(np.rot90(picture(k), turns)),
    )  # fmt: skip
    set_matrix(path, *matrix)
    same_as_pyav(path, 0, 0.4, max_side=96)


def test_decord_is_refused_where_its_count_is_wrong(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("decord")
    skip_frame(clip, packet_bytes(clip)[23][1])
    with pytest.raises(DecodeError, match="gives no frame"):
        decode_window(str(clip), 0.5, 1.5, backend="decord")
    transport = write_video(
        tmp_path / "clip.ts", EVEN, options=CLOSED_GOP, time_base=Fraction(1, 90000)
    )
    with pytest.raises(DecodeError, match="use the pyav backend"):
        decode_window(str(transport), 1.0, 2.0, backend="decord")
    cut = write_video(tmp_path / "cut.mp4", EVEN, options=CLOSED_GOP)
    cut_by_edit_list(cut, 10 * 512)
    with pytest.raises(DecodeError, match="use the pyav backend"):
        decode_window(str(cut), 0.0, 0.5, backend="decord")


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_decord_is_right_or_refused_in_open_groups(tmp_path: Path, codec: str) -> None:
    options = OPEN_GOP if codec == "libx264" else {"x265-params": "log-level=none:keyint=12"}
    path = write_video(tmp_path / "open.mp4", EVEN, codec, options=options)
    outcomes = set()
    for start in np.arange(0.0, 2.5, 0.1):
        try:
            same_as_pyav(path, start, start + 0.5, fps=30)
            outcomes.add("same")
        except DecodeError:
            outcomes.add("refused")
    assert "same" in outcomes


def test_decord_refuses_a_broken_packet(clip: Path) -> None:
    pytest.importorskip("decord")
    overwrite(clip, where := packet_bytes(clip)[28][1], bytes(where.stop - where.start))
    with pytest.raises(DecodeError, match=r"clip\.mp4"):
        decode_window(str(clip), 0.5, 1.5, backend="decord")


def test_backends_that_cannot_be_used(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="known: pyav, decord"):
        decode_window(str(clip), 0, 1, backend="opencv")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="local files only"):
        decode_window("memory://clip.mp4", 0, 1, backend="decord")
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(UserError, match=r"pip install 'egoscaler-ray\[decord\]'"):
        decode_window(str(clip), 0, 1, backend="decord")
