"""Real Aria recordings: HOT3D's MPS files, and the digital twin's pictures, poses and depth."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.corpora import mps
from ego_ops.lens import T_SENSOR_UPRIGHT, AriaLens, rectify, upright_pinhole
from ego_ops.video import decode_window
from ego_ops.video_vrs import vrs_calibration, vrs_start_ns

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TWIN = DATA / "aria" / "digital_twin"
HOT3D = DATA / "hot3d" / "Aria" / "P0003_c701bd11"
SLAM = HOT3D / "mps" / "slam"

hot3d = pytest.mark.skipif(not HOT3D.is_dir(), reason="no HOT3D sample beside the checkout")
twin = pytest.mark.skipif(not TWIN.is_dir(), reason="no Aria digital twin beside the checkout")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def numbers(rows: list[dict[str, str]], names: list[str]) -> np.ndarray:
    return np.array([[float(row[name]) for name in names] for row in rows])


POSE = [f"{name}_world_device" for name in ("tx", "ty", "tz", "qx", "qy", "qz", "qw")]


@hot3d
@pytest.mark.parametrize(("first", "last"), [(0, 1133), (17, 640), (500, 501), (900, 1133)])
def test_a_window_equals_a_reading_of_the_whole_file(first, last):
    rows = rows_of(SLAM / "closed_loop_trajectory.csv")
    ns = np.array([int(row["tracking_timestamp_us"]) for row in rows]) * 1000
    times, poses = mps.trajectory(str(SLAM), int(ns[first]), int(ns[last]))
    expected = slice(max(0, first - 1), last + 2)
    np.testing.assert_array_equal(times, ns[expected])
    truth = numbers(rows, POSE)[expected]
    np.testing.assert_allclose(poses.translation, truth[:, :3], atol=1e-12)
    error = Rotation.from_quat(truth[:, 3:]).inv() * poses.rotation
    assert error.magnitude().max() < 1e-7


@hot3d
def test_the_headsets_path_is_the_same_in_both_quaternion_orders():
    """HOT3D's own file, scalar-first and on another clock, samples the MPS trajectory."""
    rows = rows_of(HOT3D / "headset_trajectory.csv")
    place = numbers(rows, ["t_wo_x[m]", "t_wo_y[m]", "t_wo_z[m]"])
    scalar_first = numbers(rows, ["q_wo_w", "q_wo_x", "q_wo_y", "q_wo_z"])
    device = np.array([int(row["timestamp[ns]"]) for row in rows]) + 56_833_060_900_000
    times, poses = mps.trajectory(str(SLAM), int(device[0]), int(device[-1]))
    nearest = np.abs(times[:, None] - device).argmin(0)
    found = poses[nearest]
    assert np.abs(times[nearest] - device).max() < 500_000
    np.testing.assert_allclose(found.translation, place, atol=1e-6)
    truth = Rotation.from_quat(scalar_first, scalar_first=True)
    assert (truth.inv() * found.rotation).magnitude().max() < 1e-6
    confused = Rotation.from_quat(scalar_first)
    assert (confused.inv() * found.rotation).magnitude().min() > 0.5


@hot3d
def test_calibration_and_poses_equal_projectaria_tools(capfd):
    tools = pytest.importorskip("projectaria_tools.core.mps")
    trajectory = tools.read_closed_loop_trajectory(str(SLAM / "closed_loop_trajectory.csv"))
    calibrations = tools.read_online_calibration(str(SLAM / "online_calibration.jsonl"))
    capfd.readouterr()
    times, poses = mps.trajectory(str(SLAM), 113585600000000, 113586000000000)
    first = round((times[0] - 113585169151000) / 1e6)
    theirs = np.array([pose.transform_world_device.to_matrix() for pose in trajectory])
    expected = theirs[first : first + len(times)]
    np.testing.assert_allclose(poses.as_matrix(), expected, atol=1e-6)
    for entry in calibrations[::11]:
        t_ns = round(entry.tracking_timestamp.total_seconds() * 1e6) * 1000
        camera = entry.get_camera_calib("camera-rgb")
        lens, pose = mps.calibration(str(SLAM), t_ns + 3_000_000)
        ours = [lens.fu, lens.cu, lens.cv, *lens.k, *lens.p, *lens.s]
        np.testing.assert_allclose(ours, camera.get_projection_params(), rtol=1e-6)
        expected = camera.get_transform_device_camera().to_matrix()
        np.testing.assert_allclose(pose.as_matrix(), expected, atol=1e-6)


@hot3d
def test_a_recording_of_hot3d():
    clock = mps.Clock(np.array([0.0]), np.array([113585169151000]))
    found = mps.recording(str(SLAM), clock, 0.2, 0.9, turns=1)
    assert found.path.times[0] == 0.0
    assert found.path.times[-1] == pytest.approx(1.133)
    assert 580 < found.camera.fx < 630
    up = found.path.poses.rotation.apply([0, -1, 0])[:, 2]
    assert up.min() > 0.5  # in a gravity-aligned world, the top of an upright picture is up


@twin
def test_the_digital_twins_path_is_read_as_mps_is(tmp_path):
    """The same table under another name, at 30 Hz and without geography."""
    path = TWIN / "aria_trajectory.csv"
    (tmp_path / "closed_loop_trajectory.csv").write_bytes(path.read_bytes())
    rows = rows_of(path)
    ns = np.array([int(row["tracking_timestamp_us"]) for row in rows]) * 1000
    times, poses = mps.trajectory(str(tmp_path), int(ns[1]) + 5, int(ns[-1]) - 5)
    np.testing.assert_array_equal(times, ns[1:])
    np.testing.assert_allclose(poses.as_matrix(), twin_poses(ns[1:]).as_matrix(), atol=1e-9)


@twin
def test_a_pixel_with_depth_lands_where_optical_flow_says():
    """From frame to frame of the digital twin: depth, poses, lens and turn together."""
    pytest.importorskip("projectaria_tools", reason="no projectaria-tools")
    video = str(TWIN / "video.vrs")
    fisheye, device_camera = vrs_calibration(video)
    lens = AriaLens(fisheye, 0)
    camera = upright_pinhole(lens)
    frames = decode_window(video, 0.0, 0.05, fps=30)
    before, after = (
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in rectify(frames.images, lens, camera)
    )
    start, moved = tracked(before, after)
    depth = depth_map(0)
    device = twin_poses(vrs_start_ns(video) + np.rint(frames.pts * 1e9))
    stored = lens.stored(camera.rays(start))
    x, y = np.rint(np.nan_to_num(stored)).astype(int).clip(0, 1407).T
    metres = depth[y, x]
    known = np.isfinite(stored).all(1) & (metres > 0.2)
    start, moved, metres = start[known], moved[known], metres[known]
    points = camera.rays(start) * metres[:, None]

    def error(turn: RigidTransform) -> float:
        pose = device * device_camera * turn
        landed = camera.project(pose[1].inv().apply(pose[0].apply(points)))
        return float(np.median(np.linalg.norm(landed - moved, axis=1)))

    assert len(start) > 200
    assert np.median(np.linalg.norm(moved - start, axis=1)) > 5
    assert error(T_SENSOR_UPRIGHT) < 1.0  # of 1408 px, from a rolling shutter
    assert error(RigidTransform.identity()) > 5
    assert error(T_SENSOR_UPRIGHT.inv()) > 5


@twin
def test_depth_of_one_frame_predicts_that_of_the_next():
    """The fisheye alone, by the recorded depth along the optical axis: to a millimetre or so."""
    pytest.importorskip("projectaria_tools", reason="no projectaria-tools")
    fisheye, device_camera = vrs_calibration(str(TWIN / "video.vrs"))
    camera = twin_poses(np.array([87551170910000, 87551204238000])) * device_camera
    x, y = (side.ravel() for side in np.meshgrid(np.arange(200, 1200, 9), np.arange(200, 1200, 9)))
    rays = fisheye.unproject(np.stack((x, y), -1))
    points = rays / rays[:, 2:] * depth_map(0)[y, x][:, None]
    points = camera[1].inv().apply(camera[0].apply(points))
    u, v = np.rint(np.nan_to_num(fisheye.project(points))).astype(int).clip(0, 1407).T
    both = (depth_map(0)[y, x] > 0.2) & (depth_map(1)[v, u] > 0.2)
    difference = np.abs(points[:, 2] - depth_map(1)[v, u])[both]
    assert both.sum() > 5000
    assert np.median(difference) < 0.0015


def tracked(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (N, 2) and where they went, those that Lucas-Kanade finds both ways."""
    corners = cv2.goodFeaturesToTrack(before, 800, 0.01, 10)
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, maxLevel=4)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, maxLevel=4)
    kept = (found[:, 0] > 0) & (again[:, 0] > 0)
    kept &= np.linalg.norm((back - corners)[:, 0], axis=1) < 0.5
    return corners[kept, 0].astype(float), there[kept, 0].astype(float)


def depth_map(k: int) -> np.ndarray:
    """(1408, 1408) metres along the optical axis of the RGB camera."""
    from projectaria_tools.core import data_provider
    from projectaria_tools.core.stream_id import StreamId

    provider = data_provider.create_vrs_data_provider(str(TWIN / "depth_images.vrs"))
    image, _ = provider.get_image_data_by_index(StreamId("345-1"), k)
    return image.to_numpy_array() / 1000.0


def twin_poses(ns: np.ndarray) -> RigidTransform:
    """Ground-truth T_world_device nearest to times in ns; its file is an MPS trajectory."""
    rows = rows_of(TWIN / "aria_trajectory.csv")
    known = np.array([int(row["tracking_timestamp_us"]) for row in rows]) * 1000
    pose = numbers(rows, POSE)[np.abs(known[:, None] - ns).argmin(0)]
    return RigidTransform.from_components(pose[:, :3], Rotation.from_quat(pose[:, 3:]))
