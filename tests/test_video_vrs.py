"""Aria recordings as videos: real VRS files, whole, cut short and damaged."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ego_ops.errors import DecodeError, MissingFileError, UserError
from ego_ops.video import decode_window
from ego_ops.video_vrs import vrs_calibration, vrs_start_ns

ARIA = Path(__file__).resolve().parents[2] / "shared" / "data" / "aria"
EVERYDAY = str(ARIA / "everyday_activities" / "recording.vrs")
TWIN = str(ARIA / "digital_twin" / "video.vrs")

pytest.importorskip("projectaria_tools", reason="no projectaria-tools")
real = pytest.mark.skipif(not ARIA.is_dir(), reason="the real Aria files are not here")


@pytest.fixture(scope="module")
def truth():
    """(capture times in ns, pictures) of the eight RGB frames, as projectaria-tools reads them."""
    from projectaria_tools.core import data_provider
    from projectaria_tools.core.stream_id import StreamId

    provider, stream = data_provider.create_vrs_data_provider(EVERYDAY), StreamId("214-1")
    stamps, pictures = [], []
    for k in range(8):
        image, record = provider.get_image_data_by_index(stream, k)
        stamps.append(record.capture_timestamp_ns)
        pictures.append(image.to_numpy_array().copy())  # the next picture takes its memory
    return np.array(stamps), pictures


@real
def test_every_frame_at_its_capture_time(truth):
    stamps, pictures = truth
    frames = decode_window(EVERYDAY, 0.0, 0.4, fps=30)
    assert vrs_start_ns(EVERYDAY) == stamps[0]
    np.testing.assert_allclose(frames.pts, (stamps - stamps[0]) / 1e9, atol=1e-9)
    np.testing.assert_array_equal(frames.times, frames.pts)
    assert (frames.images == np.array(pictures)).all()
    assert frames.source_size == (1408, 1408)
    assert frames.source_fps == pytest.approx(20, rel=1e-3)


@real
def test_a_window_scaled_at_a_lower_rate(truth):
    stamps, pictures = truth
    frames = decode_window(EVERYDAY, 0.12, 0.34, fps=10, max_side=352)
    np.testing.assert_allclose(frames.times, [0.12, 0.22, 0.32])
    nearest = [2, 4, 6]
    np.testing.assert_allclose(frames.pts, (stamps[nearest] - stamps[0]) / 1e9, atol=1e-9)
    assert frames.images.shape == (3, 352, 352, 3)
    for image, k in zip(frames.images, nearest, strict=True):
        small = cv2.resize(pictures[k], (352, 352), interpolation=cv2.INTER_AREA)
        assert np.abs(image.astype(int) - small).mean() < 1


@real
def test_only_the_window_is_decoded(monkeypatch):
    from ego_ops import video_vrs

    seen = []
    picture = video_vrs.VrsVideo._picture
    monkeypatch.setattr(
        video_vrs.VrsVideo, "_picture", lambda self, k: seen.append(k) or picture(self, k)
    )
    decode_window(EVERYDAY, 0.16, 0.24, fps=20, max_side=64)
    assert set(seen) <= {2, 3, 4, 5, 6}


@real
@pytest.mark.parametrize("path", [EVERYDAY, TWIN])
def test_the_factory_calibration(path):
    from projectaria_tools.core import data_provider

    device = data_provider.create_vrs_data_provider(path).get_device_calibration()
    theirs = device.get_camera_calib("camera-rgb")
    fisheye, pose = vrs_calibration(path)
    assert (fisheye.width, fisheye.height) == (1408, 1408)
    expected = theirs.get_transform_device_camera().to_matrix()
    np.testing.assert_allclose(pose.as_matrix(), expected, atol=1e-7)
    x, y = np.meshgrid(np.arange(0, 1408, 101.0), np.arange(0, 1408, 101.0))
    for pixel in np.stack((x, y), -1).reshape(-1, 2):
        ray, ours = theirs.unproject(pixel), fisheye.unproject(pixel)
        assert (ray is None) == np.isnan(ours).any()
        if ray is not None:
            np.testing.assert_allclose(fisheye.project(ray), pixel, atol=1e-3)
            np.testing.assert_allclose(theirs.project(ours), pixel, atol=1e-3)


@real
def test_a_file_cut_short_gives_what_is_left(tmp_path):
    cut = tmp_path / "cut.vrs"
    cut.write_bytes(Path(EVERYDAY).read_bytes()[:2_000_000])
    assert len(decode_window(str(cut), 0.0, 0.2, fps=30, max_side=64).pts) == 4
    with pytest.raises(DecodeError, match="video ends at"):
        decode_window(str(cut), 0.5, 1.5)


@real
@pytest.mark.parametrize("place", [600_000, 800_000, 1_000_000, 1_600_000, 2_400_000])
def test_a_damaged_frame_costs_no_other(tmp_path, place):
    """Zeroes in the file lose one frame; the others keep their times and pictures."""
    data = bytearray(Path(EVERYDAY).read_bytes())
    data[place : place + 300] = bytes(300)
    damaged = tmp_path / "damaged.vrs"
    damaged.write_bytes(data)
    frames = decode_window(str(damaged), 0.0, 0.4, fps=30, max_side=64)
    whole = decode_window(EVERYDAY, 0.0, 0.4, fps=30, max_side=64)
    kept = np.isin(whole.pts, frames.pts)
    assert kept.sum() == len(frames.pts) == 7
    assert (frames.images == whole.images[kept]).all()


@real
@pytest.mark.parametrize("length", [0, 100, 100_000])
def test_what_is_no_recording_is_said_in_one_line(tmp_path, length, capfd):
    broken = tmp_path / "broken.vrs"
    broken.write_bytes(Path(TWIN).read_bytes()[:length])
    for read in (lambda p: decode_window(p, 0.0, 1.0), vrs_start_ns, vrs_calibration):
        with pytest.raises(DecodeError, match="broken") as caught:
            read(str(broken))
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_noise_is_no_recording(tmp_path, capfd):
    noise = tmp_path / "noise.VRS"
    noise.write_bytes(np.random.default_rng(0).bytes(100_000))
    with pytest.raises(DecodeError, match="not a readable VRS file"):
        decode_window(str(noise), 0.0, 1.0)
    assert capfd.readouterr() == ("", "")


@real
def test_a_recording_without_an_rgb_camera():
    with pytest.raises(DecodeError, match="no RGB frames"):
        decode_window(str(ARIA / "digital_twin" / "depth_images.vrs"), 0.0, 1.0)


@real
def test_nothing_is_printed(capfd):
    decode_window(EVERYDAY, 0.0, 0.1, max_side=64)
    vrs_calibration(TWIN)
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(MissingFileError, match="No such file"):
        decode_window(str(tmp_path / "none.vrs"), 0.0, 1.0)
    with pytest.raises(MissingFileError):
        vrs_start_ns(str(tmp_path / "none.vrs"))
    with pytest.raises(UserError, match="local"):
        decode_window("s3://bucket/a.vrs", 0.0, 1.0)
    with pytest.raises(UserError, match="decord"):
        decode_window("a.vrs", 0.0, 1.0, backend="decord")


def test_without_projectaria_tools_the_extra_is_named(tmp_path):
    """In a process of its own, in which the package cannot be imported."""
    code = (
        "import sys; sys.modules['projectaria_tools'] = None\n"
        "from ego_ops.errors import UserError\n"
        "from ego_ops.video import decode_window\n"
        "try: decode_window('a.vrs', 0.0, 1.0)\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert "pip install 'egoscaler-ray[aria]'" in done.stdout
    assert done.stdout.count("\n") == 1
