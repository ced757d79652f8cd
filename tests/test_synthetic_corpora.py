"""The demo's corpora: their files against the readers, Project Aria's own tools and the truth.

Writers and readers were written apart from the published descriptions, so each checks the other.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
from collections import Counter

import numpy as np
import pytest

from ego_ops.camera import PosePath, rigid
from ego_ops.clip import Clip

if importlib.util.find_spec("mujoco") is None:  # importing it would settle how it renders
    pytest.skip("the extra `demo` is not installed", allow_module_level=True)

from ego_ops.synthetic import imu, mps
from ego_ops.synthetic.aria_device import SIZE, T_UPRIGHT_SENSOR, aria_camera, glasses
from ego_ops.synthetic.scene import sample_scene
from ego_ops.synthetic.take import Take
from ego_ops.synthetic.video import write_h264
from tests import rendered_corpora
from tests.rendered_corpora import SCALE


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A corpus of one small video each."""
    return lambda name: rendered_corpora.corpus(tmp_path_factory, name)


def indexed(name, root):
    found = list(importlib.import_module(f"ego_ops.corpora.{name}").index(str(root)))
    clips = [one for one in found if isinstance(one, Clip)]
    reasons = Counter()
    for one in found:
        if not isinstance(one, Clip):
            reasons[one.reason] += one.count
    return clips, reasons


def truth_of(root, clip):
    return np.load(root / "truth" / f"{clip.video_uid}.npz")


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("ego4d", {"looks", "moves_about", "unsure", "other_person", "duplicate", "no_video"}),
        ("egoexo4d", {"looks", "moves_about", "unsure", "other_person", "duplicate", "no_video"}),
        ("hdepic", {"moves_about", "same_movement", "no_video"}),
        ("nymeria", {"looks", "moves_about", "no_video"}),
    ],
)
def test_readers_find_the_manipulation_and_nothing_else(written, name, dropped):
    root = written(name)
    (clip,), reasons = indexed(name, root)
    truth = truth_of(root, clip)
    assert set(reasons) == dropped
    assert clip.object == str(truth["object_name"])
    assert clip.t_start < truth["contact_time"] < truth["release_time"] < clip.t_end
    assert clip.t_end <= truth["times"][-1] + 0.1


@pytest.mark.parametrize("name", ["egoexo4d", "hdepic", "nymeria"])
def test_recorded_paths_are_the_true_ones(written, name):
    root = written(name)
    (clip,), _ = indexed(name, root)
    truth = truth_of(root, clip)
    found = importlib.import_module(f"ego_ops.corpora.{name}").recording(clip)
    times = np.linspace(clip.t_start, clip.t_end, 50)
    true = PosePath(truth["times"], rigid(truth["T_world_camera"])).held(times)
    apart = true.inv() * found.path.at(times)
    # The truth is interpolated between frames; a frame off would be 5 mm.
    assert np.linalg.norm(apart.translation, axis=1).max() < 2e-4
    assert np.degrees(apart.rotation.magnitude()).max() < 0.03
    assert len(found.landmarks) > 1000


def test_pictures_show_what_the_published_calibration_says(tmp_path):
    """Outlines of the carried thing in rendered pictures, against Project Aria's own projection."""
    tools = pytest.importorskip("projectaria_tools.core.mps", reason="the extra `aria` is absent")
    take = Take(sample_scene(2, 0), 30.0, 3, begins=0.1, clock=500.0)
    worn = glasses(3)
    mps.write_calibration(tmp_path / "c.jsonl", take, worn)
    camera = tools.read_online_calibration(str(tmp_path / "c.jsonl"))[0].get_camera_calib(
        "camera-rgb"
    )
    np.testing.assert_allclose(camera.get_projection_params(), worn.params, rtol=1e-12)
    world_device = worn.device(take.camera(np.array([0.1])))[0]
    device_camera = rigid(camera.get_transform_device_camera().to_matrix())
    to_camera = (world_device * device_camera).inv()
    corners = take.object(np.array([0.1]))[0].apply(take.scene.thing.mesh.vertices)
    pixels = np.array([camera.project_no_checks(point) for point in to_camera.apply(corners)])
    for upright in (False, True):
        with aria_camera(take, worn, upright) as film:
            (box,) = film.boxes(np.zeros(1))
        turned = np.stack((SIZE - 1 - pixels[:, 1], pixels[:, 0]), -1) if upright else pixels
        outline = [*(turned.min(axis=0) - 0.5), *(turned.max(axis=0) + 0.5)]
        # A rendered pixel is up to 1.6 of the lens's.
        np.testing.assert_allclose(np.array(box) - 0.5, outline, atol=2.0)


def test_vrs_opens_with_its_calibration(written):
    provider = pytest.importorskip(
        "projectaria_tools.core.data_provider", reason="the extra `aria` is absent"
    )
    from projectaria_tools.core.sensor_data import TimeDomain
    from projectaria_tools.core.stream_id import StreamId

    root = written("nymeria")
    (clip,), _ = indexed("nymeria", root)
    file = provider.create_vrs_data_provider(clip.video)
    stream = StreamId("214-1")
    truth = truth_of(root, clip)
    stamps = np.array(file.get_timestamps_ns(stream, TimeDomain.DEVICE_TIME))
    np.testing.assert_allclose((stamps - stamps[0]) / 1e9, truth["times"], atol=1e-8)
    line = (root / clip.annotation_path / "online_calibration.jsonl").read_text().split("\n")[0]
    rgb = json.loads(line)["CameraCalibrations"][-1]
    found = file.get_device_calibration().get_camera_calib("camera-rgb")
    focal, *centre = found.get_projection_params()[:3]
    expected = np.array(rgb["Projection"]["Params"])
    assert focal == pytest.approx(SCALE["nymeria"] * expected[0], rel=1e-6)
    np.testing.assert_allclose(centre, (expected[1:3] + 0.5) * SCALE["nymeria"] - 0.5, atol=1e-3)
    np.testing.assert_allclose(found.get_projection_params()[3:], expected[3:], rtol=1e-6)
    image, about = file.get_image_data_by_index(stream, 40)
    side = round(SIZE * SCALE["nymeria"])
    assert image.to_numpy_array().shape == (side, side, 3)
    assert about.capture_timestamp_ns == stamps[40]
    assert image.to_numpy_array()[:8, :8].max() < 20  # the lens does not light the corners
    assert image.to_numpy_array()[side // 2 - 50 : side // 2 + 50].std() > 20


def test_boxes_and_places_of_hdepic_are_those_of_the_truth(written):
    root = written("hdepic")
    (clip,), _ = indexed("hdepic", root)
    truth = truth_of(root, clip)
    first, last = importlib.import_module("ego_ops.corpora.hdepic").endpoints(str(root), clip)
    thing = PosePath(truth["times"], rigid(truth["T_world_object"])).held(
        np.array([clip.t_start, clip.t_end])
    )
    middle = truth["object_points"].mean(axis=0)
    np.testing.assert_allclose([first, last], thing.apply(middle), atol=0.012)
    moved = thing.translation[1] - thing.translation[0]
    np.testing.assert_allclose(np.subtract(last, first), moved, atol=0.002)
    lens = importlib.import_module("ego_ops.corpora.hdepic").recording(clip).lens
    camera = PosePath(truth["times"], rigid(truth["T_world_camera"])).held(
        np.array([box.t for box in clip.boxes])
    )
    for box, pose, place in zip(clip.boxes, camera, (first, last), strict=True):
        pixel = lens.stored(pose.inv().apply(place))
        x, y = (pixel + 0.5) * SCALE["hdepic"] - 0.5
        assert box.x0 < x < box.x1
        assert box.y0 < y < box.y1


def test_hdepic_narrations_are_what_pandas_reads(written):
    pandas = pytest.importorskip("pandas")
    root = written("hdepic")
    table = pandas.read_pickle(root / "narrations-and-action-segments/HD_EPIC_Narrations.pkl")
    assert len(table.columns) == 16
    assert table["start_timestamp"].dtype == float
    assert table["narration"].dtype == object
    assert table["pairs"].iloc[1][0] == ("pick-up", "can")


def test_inertial_readings_follow_from_the_true_path(written):
    root = written("ego4d")
    (clip,), _ = indexed("ego4d", root)
    truth = truth_of(root, clip)
    with open(root / "v2" / "imu" / f"{clip.video_uid}.csv") as file:
        rows = list(csv.DictReader(file))
    times = np.array([float(row["canonical_timestamp_ms"]) for row in rows]) / 1e3
    gyro, accel = (
        np.array([[float(row[f"{kind}_{axis}"]) for axis in "xyz"] for row in rows])
        for kind in ("gyro", "accl")
    )
    head = PosePath(truth["times"], rigid(truth["T_world_camera"])).held(times) * imu.T_CAMERA_IMU
    # Half a second's turn, and what is left of gravity once the pull is put into the world.
    turns = gyro[: len(times) // 100 * 100].reshape(-1, 100, 3).mean(axis=1) * 100 / imu.RATE
    true = (head[:-100:100].inv() * head[100::100]).as_matrix()[:, :3, :3]
    angles = np.linalg.norm(turns[: len(true)], axis=1)
    expected = np.arccos(np.clip((np.trace(true, axis1=1, axis2=2) - 1) / 2, -1, 1))
    np.testing.assert_allclose(angles, expected, atol=0.02)
    pull = head.rotation.apply(accel).mean(axis=0)
    np.testing.assert_allclose(pull, [0, 0, imu.GRAVITY], atol=0.35)
    assert np.abs(accel - accel.mean(axis=0)).std() > imu.ACCEL_NOISE


def test_the_same_frames_give_the_same_file(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(8)]
    for name in ("a", "b"):
        write_h264(tmp_path / f"{name}.mp4", frames, (96, 64), 30.0)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_axes_of_the_sensor():
    """A thing to the wearer's right is further up on the sensor, one below further right."""
    lens = glasses(0).fisheye
    right, below = lens.project(
        T_UPRIGHT_SENSOR.inv().apply(np.array([[0.3, 0, 1], [0, 0.3, 1.0]]))
    )
    assert right[1] < lens.cv - 100
    assert below[0] > lens.cu + 100
