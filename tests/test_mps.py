"""Aria MPS folders: made-up ones with a known truth, and one of HOT3D's."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops.corpora import mps
from ego_ops.corpora.mps_lines import SortedLines
from ego_ops.errors import AnnotationError, MissingFileError
from ego_ops.lens import T_SENSOR_UPRIGHT, AriaLens
from tests import mps_files
from tests.mps_files import START_US, T_DEVICE_CAMERA, device_at

START_NS = START_US * 1000
CLOCK = mps.Clock(np.array([0.0, 1.0]), START_NS + np.array([10**9, 2 * 10**9]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return mps_files.folder(tmp_path_factory.mktemp("mps"))


def ns(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)


# -- the clock


def test_a_clock_is_linear_between_its_pairs_and_beyond():
    clock = mps.Clock(np.array([1.0, 2.0, 4.0]), ns(5) + np.array([0, 10**9, 4 * 10**9]))
    seconds = np.array([0.0, 1.5, 3.0, 6.0])
    device = np.array([ns(4), ns(5.5), ns(7.5), ns(12)])
    np.testing.assert_array_equal(clock.to_device_ns(seconds), device)
    np.testing.assert_allclose(clock.to_video_s(device), seconds, atol=1e-9)
    assert clock.to_device_ns(1.25) == ns(5.25)


def test_one_pair_is_a_clock_of_the_same_rate():
    clock = mps.Clock(np.array([0.0]), np.array([ns(3)]))
    assert clock.to_device_ns(2.5) == ns(5.5)
    assert clock.to_video_s(ns(1)) == pytest.approx(-2)


@given(st.floats(-10, 5000), st.integers(0, 10**17))
def test_a_time_comes_back_to_the_nanosecond(t, first):
    clock = mps.Clock(np.array([0.0, 3600.0]), np.array([first, first + 3_600_180_000_000]))
    assert clock.to_video_s(clock.to_device_ns(t)) == pytest.approx(t, abs=1e-9)


@pytest.mark.parametrize(
    ("video", "device"),
    [([], []), ([0, 1], [5]), ([0, np.nan], [5, 6]), ([0, 0], [5, 6]), ([0, 1], [6, 5])],
)
def test_what_is_no_clock(video, device):
    with pytest.raises(AnnotationError):
        mps.Clock(np.array(video, float), np.array(device, float))


# -- the trajectory


@pytest.mark.parametrize(("t0", "t1"), [(0.0, 0.5), (1.2345, 2.3456), (3.2, 3.999), (2.0, 2.0)])
def test_poses_of_a_window(folder, t0, t1):
    times, poses = mps.trajectory(folder, ns(t0), ns(t1))
    np.testing.assert_array_equal(np.diff(times), 1_000_000)
    assert ns(t0) - 1_000_000 <= times[0] <= ns(t0)
    assert ns(t1) <= times[-1] <= ns(t1) + 1_000_000
    expected = device_at(times / 1000)
    np.testing.assert_allclose(poses.as_matrix(), expected.as_matrix(), atol=1e-9)


def test_files_without_geography_and_with_utc(tmp_path):
    text = mps_files.trajectory(1.0, geo=False, utc=1708609946151602175)
    (tmp_path / "closed_loop_trajectory.csv").write_text(text.replace("\n", "\r\n"))
    times, poses = mps.trajectory(str(tmp_path), ns(0.1), ns(0.9))
    np.testing.assert_allclose(poses.as_matrix(), device_at(times / 1000).as_matrix(), atol=1e-9)


def test_columns_are_found_by_name(tmp_path):
    lines = [line.split(",") for line in mps_files.trajectory(1.0, geo=False).splitlines()]
    order = np.random.default_rng(1).permutation(len(lines[0]))
    text = "\n".join(",".join(line[i] for i in order) for line in lines)
    (tmp_path / "closed_loop_trajectory.csv").write_text(text)
    times, poses = mps.trajectory(str(tmp_path), ns(0.1), ns(0.9))
    np.testing.assert_allclose(poses.as_matrix(), device_at(times / 1000).as_matrix(), atol=1e-9)


def test_a_window_of_a_long_file_reads_little_of_it(tmp_path, monkeypatch):
    """An hour and more than a hundred megabytes; the reads of one clip are counted."""
    head, *rows = mps_files.trajectory(1.0).splitlines()
    with (tmp_path / "closed_loop_trajectory.csv").open("w") as file:
        file.write(head + "\n")
        for second in range(600):
            moved = [row.split(",", 2) for row in rows]
            file.writelines(f"{a},{int(t) + second * 1_000_000},{b}\n" for a, t, b in moved)
        size = file.tell()
    assert size > 100e6
    read = []
    local = fsspec.implementations.local.LocalFileSystem
    cat = local.cat_file
    monkeypatch.setattr(local, "cat_file", lambda *a, **k: read.append(cat(*a, **k)) or read[-1])
    times, _ = mps.trajectory(str(tmp_path), ns(432.1), ns(434.1))
    assert len(times) == 2003
    assert sum(map(len, read)) < 2e6
    assert len(read) < 80


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_lines_around_any_window_are_those_of_a_full_scan(seed):
    """Lines of every length, with untimed ones between them, against a plain filter."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 2000, rng.integers(1, 400)))
    widths = rng.choice([1, 30, 3000, 40000], size=len(times), p=[0.3, 0.5, 0.19, 0.01])
    lines = [b"%d %s\n" % (t, b"x" * w) for t, w in zip(times, widths, strict=True)]
    lines = [b"untimed\n" if rng.random() < 0.1 else line for line in lines]

    def time_of(line: bytes) -> float:
        return float("nan") if line.startswith(b"untimed") else float(line.split()[0])

    fsspec.filesystem("memory").pipe("/lines/any.txt", b"head\n" + b"".join(lines))
    lo, hi = sorted(rng.integers(-100, 2100, 2))
    timed = [line for line in lines if not line.startswith(b"untimed")]
    inside = [line for line in timed if lo <= time_of(line) <= hi]
    before = [line for line in timed if time_of(line) < lo][-1:]
    after = [line for line in timed if time_of(line) > hi][:1]
    found = SortedLines("memory://lines/any.txt", header=True).around(time_of, lo, hi)
    assert found == before + inside + after


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"graph_uid": dict.fromkeys(range(2000, 4000), "another")}, "tracking was lost"),
        ({"quality_score": {1500: 0.02}}, "tracking was lost"),
        ({"quality_score": {1500: "nan"}}, "tracking was lost"),
        ({"tx_world_device": {1500: "nan"}}, "not finite"),
        ({"tx_world_device": {1500: "here"}}, "no number"),
        ({"qw_world_device": {1500: 7}}, "no rotation"),
        ({"tracking_timestamp_us": {1500: START_US + 1_498_500}}, "do not increase"),
    ],
)
def test_what_is_wrong_within_the_clip_is_said(tmp_path, changes, message):
    text = mps_files.trajectory(changes=changes)
    (tmp_path / "closed_loop_trajectory.csv").write_text(text)
    with pytest.raises(AnnotationError, match=message) as caught:
        mps.trajectory(str(tmp_path), ns(1.0), ns(3.0))
    assert "closed_loop_trajectory.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    mps.trajectory(str(tmp_path), ns(0.2), ns(1.2))  # the rest of the recording can be used


def test_a_gap_in_the_tracking(tmp_path):
    head, *rows = mps_files.trajectory().splitlines()
    (tmp_path / "closed_loop_trajectory.csv").write_text(
        "\n".join([head, *rows[:1500], *rows[1700:]])
    )
    with pytest.raises(AnnotationError, match="tracking was lost"):
        mps.trajectory(str(tmp_path), ns(1.0), ns(3.0))


@pytest.mark.parametrize(("t0", "t1"), [(-1, 1), (3, 5), (10, 12), (-5, -3)])
def test_a_window_that_is_not_covered(folder, t0, t1):
    with pytest.raises(AnnotationError, match="the clip needs"):
        mps.trajectory(folder, ns(t0), ns(t1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column tracking_timestamp_us"),
        ("a,b,c\n1,2,3\n", "no column tracking_timestamp_us"),
        (mps_files.HEADER + "\n", "no poses"),
        (mps_files.trajectory(0.5) + "x,1\n", "cannot be read"),
        (mps_files.trajectory(0.5).replace(",-1,", ","), "cannot be read"),
    ],
)
def test_what_is_no_trajectory(tmp_path, text, message):
    (tmp_path / "closed_loop_trajectory.csv").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        mps.trajectory(str(tmp_path), ns(0), ns(2))


# -- the calibration


@pytest.mark.parametrize(("t", "number"), [(-3, 0), (0.04, 0), (0.06, 1), (2.01, 20), (9.0, 39)])
def test_the_nearest_calibration(folder, t, number):
    lens, pose = mps.calibration(folder, ns(t))
    assert lens.fu == pytest.approx(600 + number / 100)
    assert (lens.width, lens.height) == (1408, 1408)
    np.testing.assert_allclose(pose.as_matrix(), T_DEVICE_CAMERA.as_matrix(), atol=1e-12)


def test_the_sensors_full_picture_and_its_crop(tmp_path):
    """As projectaria-tools converts a calibration of one to the other."""
    tools = pytest.importorskip("projectaria_tools.core.calibration")
    from projectaria_tools.core.sophus import SE3

    full = (1218.7, 1445.1, 1441.3, *mps_files.PARAMS[3:])
    model = tools.CameraModelType.FISHEYE624
    theirs = tools.CameraCalibration(
        "camera-rgb", model, np.array(full), SE3(), 2880, 2880, None, np.pi, ""
    ).rescale(np.array([1408, 1408]), 0.5, np.array([32.0, 32.0]))
    path = tmp_path / "online_calibration.jsonl"
    path.write_text(mps_files.calibration_line(START_US, full))
    whole, _ = mps.calibration(str(tmp_path), ns(0), size=(2880, 2880))
    assert (whole.width, whole.fu, whole.cu, whole.cv) == (2880, 1218.7, 1445.1, 1441.3)
    crop, _ = mps.calibration(str(tmp_path), ns(0))
    centre = theirs.get_principal_point()
    assert (crop.width, crop.height) == (1408, 1408)
    np.testing.assert_allclose([crop.cu, crop.cv], centre, atol=1e-9)
    assert crop.fu == pytest.approx(theirs.get_focal_lengths()[0])
    path.write_text(mps_files.calibration_line(START_US, (crop.fu, crop.cu, crop.cv, *full[3:])))
    back, _ = mps.calibration(str(tmp_path), ns(0), size=(2880, 2880))
    np.testing.assert_allclose([back.fu, back.cu, back.cv], full[:3], atol=1e-9)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no calibration"),
        ("not json", "no calibration"),
        ('{"tracking_timestamp_us": 1}', "no usable calibration of camera-rgb"),
        (mps_files.calibration_line(START_US)[:-60], "no usable calibration"),
        (mps_files.calibration_line(START_US, Label="camera-et"), "no usable calibration"),
        (mps_files.calibration_line(START_US, (600.0, 704.0)), "15 or 16"),
        (mps_files.calibration_line(START_US, (float("nan"),) * 15), "not finite"),
        (
            mps_files.calibration_line(START_US, Projection={"Name": "KB3", "Params": [1.0] * 8}),
            "model KB3",
        ),
        (
            mps_files.calibration_line(
                START_US,
                T_Device_Camera={"Translation": [0, 0, 0], "UnitQuaternion": [0, [0, 0, 0]]},
            ),
            "no usable calibration",
        ),
    ],
)
def test_what_is_no_calibration(tmp_path, line, message):
    (tmp_path / "online_calibration.jsonl").write_text(line + "\n")
    with pytest.raises(AnnotationError, match=message) as caught:
        mps.calibration(str(tmp_path), ns(0))
    assert "online_calibration.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


# -- the points


def test_well_measured_points_of_the_worlds_frame(tmp_path):
    rows = [("a", k / 10, 1, 2, 0.0005, 0.01) for k in range(50)]
    rows += [("a", 9, 9, 9, 0.002, 0.01), ("a", 9, 9, 9, 0.0005, 0.06)]
    rows += [("b", 7, 7, 7, 0.0005, 0.01), ("a", "nan", 1, 2, 0.0005, 0.01)]
    (tmp_path / "semidense_points.csv.gz").write_bytes(mps_files.points(rows))
    found = mps.landmarks(str(tmp_path), "a")
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], [r[1:4] for r in rows[:50]])
    assert len(mps.landmarks(str(tmp_path))) == 51


def test_projectaria_tools_keeps_the_same_points(tmp_path, capfd):
    tools = pytest.importorskip("projectaria_tools.core.mps")
    from projectaria_tools.core.mps.utils import filter_points_from_confidence

    rng = np.random.default_rng(3)
    spread = np.stack((rng.uniform(0, 0.002, 400), rng.uniform(0, 0.1, 400)), -1).round(5)
    rows = [
        ("a", *p, *s) for p, s in zip(rng.uniform(0, 9, (400, 3)).round(3), spread, strict=True)
    ]
    path = tmp_path / "semidense_points.csv.gz"
    path.write_bytes(mps_files.points(rows))
    theirs = tools.read_global_point_cloud(str(path))
    kept = [point.position_world for point in filter_points_from_confidence(theirs)]
    capfd.readouterr()
    ours = mps.landmarks(str(tmp_path))
    np.testing.assert_allclose(np.sort(ours, axis=0), np.sort(kept, axis=0), atol=1e-6)


def test_many_points_are_thinned_evenly(tmp_path):
    rng = np.random.default_rng(0)
    dense = rng.uniform(0, 0.2, (12_000, 3))
    sparse = rng.uniform(0, 10, (45_000, 3))
    rows = [("a", *p, 0.0001, 0.01) for p in np.concatenate((dense, sparse)).round(6)]
    (tmp_path / "semidense_points.csv.gz").write_bytes(mps_files.points(rows))
    found = mps.landmarks(str(tmp_path))
    assert len(found) == 40_000
    assert (found < 0.2).all(1).sum() < 8000  # one a centimetre cell, then its share
    assert mps.landmarks(str(tmp_path)) is found


def test_no_points(tmp_path):
    assert mps.landmarks(str(tmp_path)) is None
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "semidense_points.csv.gz").write_bytes(b"")
    assert mps.landmarks(str(tmp_path / "empty")) is None
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "semidense_points.csv.gz").write_bytes(mps_files.points([]))
    assert mps.landmarks(str(tmp_path / "head")) is None


@pytest.mark.parametrize(
    "data",
    [b"no gzip at all", mps_files.points([("a", 1, 2, 3, 0, 0)])[:60]],
    ids=["no gzip at all", "cut short"],  # gzip holds the time: an id of its bytes would change
)
def test_damaged_points(tmp_path, data):
    (tmp_path / "semidense_points.csv.gz").write_bytes(data)
    with pytest.raises(AnnotationError, match=r"semidense_points.csv.gz"):
        mps.landmarks(str(tmp_path))


# -- the hands


def hand_table(columns: dict[str, list[str]]) -> tuple[str, dict[str, np.ndarray]]:
    """(CSV text, world positions (30, J, 3) by side) of hands that move at 10 Hz."""
    us = START_US + np.arange(30) * 100_000 + 333
    device = device_at(us)
    names, cells, world = [], [], {}
    for k, (side, joints) in enumerate(columns.items()):
        names.append(f"{side}_tracking_confidence")
        confidence = np.ones(30)
        confidence[10:13] = -1 if side == "left" else 1
        cells.append(confidence)
        points = np.empty((30, len(joints), 3))
        for j, joint in enumerate(joints):
            t = np.arange(30) / 10
            points[:, j] = np.stack((0.1 * j + 0 * t, 0.2 + 0.1 * np.sin(t), 0.4 + k + 0 * t), -1)
            names += [f"t{axis}_{side}_{joint}_device" for axis in "xyz"]
            cells += list(points[:, j].T)
        world[side] = np.stack([device.apply(points[:, j]) for j in range(len(joints))], 1)
        world[side][confidence < 0] = np.nan
    rows = [
        ",".join(map(str, (t, *row))) for t, row in zip(us, zip(*cells, strict=True), strict=True)
    ]
    return "\n".join([",".join(("tracking_timestamp_us", *names)), *rows]) + "\n", world


FORMS = {
    "hand_tracking_results.csv": ([f"landmark_{i}" for i in range(21)], (0, 1, 2, 3, 4)),
    "wrist_and_palm_poses.csv": (["wrist", "palm"], (1,)),
}


@pytest.mark.parametrize("name", FORMS)
def test_hands_in_the_world(folder, tmp_path, name):
    joints, tips = FORMS[name]
    text, world = hand_table({"left": joints, "right": joints})
    (tmp_path / name).write_text(text)
    left, right = mps.hands(str(tmp_path), ns(0.5), ns(2.45), CLOCK, slam=folder)
    for hand, side in ((left, "left"), (right, "right")):
        assert (hand.side, hand.tips) == (side, tips)
        assert hand.joints.shape == (20, len(joints), 3)
        np.testing.assert_allclose(hand.times, np.arange(5, 25) / 10 - 1 + 333e-6, atol=1e-9)
        np.testing.assert_allclose(hand.joints, world[side][5:25], atol=1e-6)
    assert np.isnan(left.joints[5:8]).all()
    assert np.isfinite(right.joints).all()


def test_landmarks_of_projectaria_tools_have_these_tips():
    tracking = pytest.importorskip("projectaria_tools.core.mps").hand_tracking
    names = ("THUMB", "INDEX", "MIDDLE", "RING", "PINKY")
    tips = [int(getattr(tracking.HandLandmark, f"{n}_FINGERTIP")) for n in names]
    assert tuple(tips) == FORMS["hand_tracking_results.csv"][1]


@pytest.mark.filterwarnings("ignore:WristAndPalmPoses")
def test_projectaria_tools_reads_the_same_hands_from_these_files(folder, tmp_path, capfd):
    tracking = pytest.importorskip("projectaria_tools.core.mps").hand_tracking
    texts = {n: hand_table(dict.fromkeys(("left", "right"), FORMS[n][0]))[0] for n in FORMS}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    poses = [
        (hand.wrist_position_device, hand.palm_position_device)
        for row in tracking.read_wrist_and_palm_poses(str(tmp_path / "wrist_and_palm_poses.csv"))
        for hand in (row.left_hand,)
        if hand is not None
    ]
    results = tracking.read_hand_tracking_results(str(tmp_path / "hand_tracking_results.csv"))
    landmarks = [np.array(r.right_hand.landmark_positions_device) for r in results]
    capfd.readouterr()
    device = device_at(START_US + np.arange(30) * 100_000 + 333)
    left, right = mps.hands(str(tmp_path), ns(0), ns(2.95), CLOCK, slam=folder)
    theirs = [device[i].apply(points) for i, points in enumerate(landmarks)]
    np.testing.assert_allclose(right.joints, theirs, atol=1e-6)
    (tmp_path / "hand_tracking_results.csv").unlink()
    left, right = mps.hands(str(tmp_path), ns(0), ns(2.95), CLOCK, slam=folder)
    seen = np.flatnonzero(np.isfinite(left.joints).all((1, 2)))
    theirs = [device[i].apply(points) for i, points in zip(seen, poses, strict=True)]
    np.testing.assert_allclose(left.joints[seen], theirs, atol=1e-6)


def test_hands_that_were_not_tracked(folder, tmp_path):
    assert mps.hands(str(tmp_path), ns(1), ns(2), CLOCK, slam=folder) == ()
    text, _ = hand_table({"left": ["wrist", "palm"], "right": ["wrist", "palm"]})
    path = tmp_path / "wrist_and_palm_poses.csv"
    path.write_text(text)
    (right,) = mps.hands(str(tmp_path), ns(1.0), ns(1.25), CLOCK, slam=folder)
    assert right.side == "right"
    path.write_text(text.replace("palm_device", "thumb_device"))
    with pytest.raises(AnnotationError, match="has no column"):
        mps.hands(str(tmp_path), ns(1), ns(2), CLOCK, slam=folder)


# -- all of it


def test_a_recording(folder):
    found = mps.recording(folder, CLOCK, 0.5, 1.5, turns=1)
    assert found.lens == AriaLens(mps.calibration(folder, ns(2.0))[0], 1)
    assert (found.camera.width, found.camera.cx) == (1408, 703.5)
    assert found.camera.fx == found.lens.fisheye.fv
    assert found.landmarks is None
    assert found.hands == ()
    assert found.path.times[0] == pytest.approx(0.0, abs=2e-3)
    assert found.path.times[-1] == pytest.approx(2.0, abs=2e-3)
    assert np.diff(found.path.times).max() == pytest.approx(0.005, abs=1e-6)
    times = np.linspace(0.5, 1.5, 101)
    truth = device_at(START_US + (times + 1) * 1e6) * T_DEVICE_CAMERA * T_SENSOR_UPRIGHT
    error = truth.inv() * found.path.at(times)
    assert np.linalg.norm(error.translation, axis=1).max() < 1e-4
    assert error.rotation.magnitude().max() < 1e-4


def test_a_world_point_lands_where_the_sensor_sees_it(folder):
    """Through path, upright pinhole and lens, against the plain chain of the calibration."""
    found = mps.recording(folder, CLOCK, 0.5, 1.5, turns=0)
    sensor = device_at(START_US + 2e6) * T_DEVICE_CAMERA
    world = sensor.apply(np.random.default_rng(0).normal(size=(40, 3)) * 0.3 + [0, 0, 1.5])
    upright = found.path.at(np.array([1.0]))[0].inv().apply(world)
    expected = found.lens.fisheye.project(sensor.inv().apply(world))
    np.testing.assert_allclose(found.lens.stored(upright), expected, atol=0.05)


def test_a_clip_at_the_recordings_end(folder):
    found = mps.recording(folder, CLOCK, 2.0, 3.05, turns=1)  # 50 ms after the last pose
    assert found.path.times[-1] == pytest.approx(2.999)
    found.path.at(np.array([3.05]))


def test_the_path_stops_where_tracking_breaks_off_outside_the_clip(tmp_path):
    mps_files.folder(tmp_path)
    text = mps_files.trajectory(changes={"graph_uid": dict.fromkeys(range(3200, 4000), "b")})
    (tmp_path / "closed_loop_trajectory.csv").write_text(text)
    found = mps.recording(str(tmp_path), CLOCK, 1.0, 2.0, turns=1)
    assert found.path.times[-1] == pytest.approx(2.199)


def test_a_recording_on_a_remote_store(folder, tmp_path):
    rows = [("db4264cb-c10f", k / 10, 1, 2, 0.0005, 0.01) for k in range(50)]
    text, _ = hand_table({"left": ["wrist", "palm"], "right": ["wrist", "palm"]})
    remote = fsspec.filesystem("memory")
    for name in ("closed_loop_trajectory.csv", "online_calibration.jsonl"):
        remote.pipe(f"/take/slam/{name}", Path(folder, name).read_bytes())
    remote.pipe("/take/slam/semidense_points.csv.gz", mps_files.points(rows))
    remote.pipe("/take/hand_tracking/wrist_and_palm_poses.csv", text.encode())
    found = mps.recording("memory://take/slam", CLOCK, 0.5, 1.5, turns=0)
    local = mps.recording(folder, CLOCK, 0.5, 1.5, turns=0)
    assert found.lens == local.lens
    np.testing.assert_array_equal(found.path.poses.as_matrix(), local.path.poses.as_matrix())
    assert [hand.side for hand in found.hands] == ["left", "right"]
    assert found.landmarks.shape == (50, 3)


@pytest.mark.parametrize("name", ["closed_loop_trajectory.csv", "online_calibration.jsonl"])
@pytest.mark.parametrize("root", ["memory://nothing", "{tmp}"])
def test_a_missing_file_is_named(folder, tmp_path, name, root):
    where = root.format(tmp=tmp_path)
    other = {"closed_loop_trajectory.csv", "online_calibration.jsonl"} - {name}
    filesystem, place = fsspec.url_to_fs(where)
    filesystem.makedirs(place, exist_ok=True)
    for kept in other:
        filesystem.pipe(f"{place}/{kept}", Path(folder, kept).read_bytes())
    with pytest.raises(MissingFileError, match=f"{name}: no such file"):
        mps.recording(where, CLOCK, 0.5, 1.5, turns=1)
    for kept in other:
        filesystem.rm(f"{place}/{kept}")


@pytest.mark.parametrize("name", ["closed_loop_trajectory.csv", "online_calibration.jsonl"])
def test_damage_of_any_kind_is_told_in_one_line_or_does_no_harm(folder, name):
    """Flipped bytes, a cut end, a hole, zeroes: at random places of the file."""
    remote = fsspec.filesystem("memory")
    for other in ("closed_loop_trajectory.csv", "online_calibration.jsonl"):
        remote.pipe(f"/damaged/{other}", Path(folder, other).read_bytes())
    whole = mps.recording("memory://damaged", CLOCK, 0.5, 1.5, turns=1)
    rng = np.random.default_rng(0)
    told = []
    for kind in range(32):
        data = bytearray(Path(folder, name).read_bytes())
        place, length = (int(n) for n in rng.integers((len(data), 3000)))
        if kind % 4 == 0:
            data[place : place + length] = rng.bytes(len(data[place : place + length]))
        elif kind % 4 == 1:
            del data[place:]
        elif kind % 4 == 2:
            del data[place : place + length]
        else:
            data[place : place + length] = bytes(len(data[place : place + length]))
        remote.pipe(f"/damaged/{name}", bytes(data))
        try:
            found = mps.recording("memory://damaged", CLOCK, 0.5, 1.5, turns=1)
        except AnnotationError as error:
            told.append(str(error))
        else:
            error = whole.path.poses[0].inv() * found.path.at(whole.path.times[:1])[0]
            assert np.linalg.norm(error.translation) < 1e-3
    assert told
    assert all(name in text and "\n" not in text for text in told)
