"""The demo corpus: EgoDex's format, and a truth that agrees with what was rendered."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest

from ego_ops.errors import UserError
from ego_ops.synthetic import hand as hands
from ego_ops.synthetic import intrinsics, render_scene, sample_scene, write_clip, write_egodex
from ego_ops.synthetic.layout import TABLE

if importlib.util.find_spec("mujoco") is None:  # importing it would settle how it renders
    pytest.skip("the extra `demo` is not installed", allow_module_level=True)

SIZE = (320, 180)
SMALL = (128, 72)
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "egodex"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """One clip of each kind, `reset` and `reversible`."""
    root = tmp_path_factory.mktemp("corpus")
    told = []
    paths = write_egodex(root, clips=1, size=SMALL, on_clip=told.append)
    assert told == paths == [root / "basic_pick_and_place" / "0.hdf5"]
    return {
        "reset": paths[0],
        "reversible": write_clip(root, 3, seed=0, size=SMALL, pose_offset_s=0.010),
    }


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(1, index) for index in range(6)]


def truth_of(path):
    return np.load(path.parents[1] / "truth" / path.parent.name / f"{path.stem}.npz")


def project(points, size=SIZE):
    return points[..., :2] / points[..., 2:] * intrinsics(size)[0, 0] + np.array(size) / 2 - 0.5


def structure(file):
    """Names, types and shapes (frame count left out) of an HDF5 file's data and attributes."""
    data, attributes = {}, {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            shape = item.shape if name == "camera/intrinsic" else item.shape[1:]
            data[name] = (item.dtype, shape)

    file.visititems(visit)
    for name in file.attrs:
        stored = file.attrs.get_id(name)
        attributes[name] = (stored.dtype.kind, len(stored.shape))
    return data, attributes


def stream_of(path):
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        context = stream.codec_context
        frames = sum(1 for _ in video.decode(video=0))
        return (context.name, context.pix_fmt, stream.average_rate, stream.time_base), frames


@pytest.mark.parametrize(
    ("kind", "real"), [("reset", "basic_pick_and_place"), ("reversible", "add_remove_lid")]
)
def test_files_are_built_like_the_published_ones(corpus, kind, real):
    published = REAL / real / "0.hdf5"
    if not published.exists():
        pytest.skip("no clip of EgoDex at hand to compare with")
    with h5py.File(corpus[kind]) as ours, h5py.File(published) as theirs:
        assert structure(ours) == structure(theirs)
        assert ours.attrs["llm_type"] == theirs.attrs["llm_type"] == kind
        count = len(ours["transforms/camera"])
        field_of_view = [
            file["camera/intrinsic"][0, 2] / file["camera/intrinsic"][0, 0]
            for file in (ours, theirs)
        ]
        assert field_of_view[0] == pytest.approx(field_of_view[1], rel=1e-5)
    kind_of_video, frames = stream_of(corpus[kind].with_suffix(".mp4"))
    assert kind_of_video == stream_of(published.with_suffix(".mp4"))[0]
    assert frames == count


def test_joints_lie_along_their_bones_as_arkit_has_them(corpus):
    with h5py.File(corpus["reset"]) as file:
        poses = {name: file["transforms"][name][20].astype(float) for name in file["transforms"]}
        assert len(file["transforms"]) == len(file["confidences"]) + 1 == 69
    for pose in poses.values():
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-5)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1, abs=1e-5)
    for side, along in (("left", 1), ("right", -1)):
        for start, end in (
            ("Arm", "Forearm"),
            ("Forearm", "Hand"),
            ("IndexFingerKnuckle", "IndexFingerIntermediateBase"),
            ("ThumbIntermediateTip", "ThumbTip"),
        ):
            bone = poses[side + end][:3, 3] - poses[side + start][:3, 3]
            x = poses[side + start][:3, 0]
            assert x @ bone / np.linalg.norm(bone) == pytest.approx(along, abs=1e-4)


def test_recorded_poses_are_those_of_a_third_of_a_frame_earlier(corpus):
    path = corpus["reset"]
    truth = truth_of(path)
    with h5py.File(path) as file:
        recorded = file["transforms/camera"][()].astype(float)
    true = truth["T_world_camera"]
    later = recorded[:-1] + 0.3 * (recorded[1:] - recorded[:-1])  # read 0.3 frame later
    as_is = np.abs(recorded - true)[:-1, :3, 3].max()
    shifted = np.abs(later - true[:-1])[:, :3, 3].max()
    assert as_is > 2e-4
    assert shifted < as_is / 20
    scene = sample_scene(0, 0)
    earlier = scene.camera(truth["times"] - 0.010).as_matrix()
    np.testing.assert_allclose(recorded, earlier, atol=1e-6)


def test_truth_agrees_with_what_is_rendered():
    scene = sample_scene(0, 2)
    times = np.array([0.2, scene.contact + 0.1, (scene.contact + scene.release) / 2])
    cameras, things = scene.camera(times), scene.object(times)
    surface = scene.thing.mesh.vertices
    focal, centre = intrinsics(SIZE)[0, 0], np.array(SIZE) / 2 - 0.5
    for k, shot in enumerate(render_scene(scene, times, SIZE, depth=True)):
        to_camera = cameras[k].inv() * things[k]
        rows, columns = np.nonzero(shot.whole)
        outline = project(to_camera.apply(surface))
        box = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
        np.testing.assert_allclose([*outline.min(0), *outline.max(0)], box, atol=1.0)
        # Away from its edge, each pixel of the thing's mask lies on the thing's surface. Half a
        # pixel off in the intrinsics would make 0.8 mm.
        inner = cv2.erode(shot.mask.astype(np.uint8), np.ones((3, 3), np.uint8))
        rows, columns = np.nonzero(inner)
        depth = shot.depth[rows, columns].astype(float)
        rays = (np.column_stack([columns, rows]) - centre) / focal
        seen = np.column_stack([rays * depth[:, None], depth])
        off = np.abs(scene.thing.distance(to_camera.inv().apply(seen)))
        assert len(off) > 200
        assert np.median(off) < 2e-4
        assert (shot.mask & ~shot.whole).sum() == 0
        assert shot.visible_fraction > 0.6


def test_written_truth_is_the_rendered_scene(corpus):
    truth = truth_of(corpus["reset"])
    true_camera, thing = truth["T_world_camera"], truth["T_world_object"]
    count = len(truth["times"])
    to_camera = np.linalg.inv(true_camera) @ thing
    points = np.einsum("nij,pj->npi", to_camera[:, :3, :3], truth["object_points"])
    points += to_camera[:, None, :3, 3]
    np.testing.assert_allclose(truth["mean_depth"], points[..., 2].mean(axis=1), atol=1e-6)
    assert truth["visible_fraction"].shape == (count,)
    before = truth["times"] < truth["contact_time"] - 0.7
    assert truth["visible_fraction"][before].min() > 0.98  # nothing in the way yet
    held = (truth["times"] > truth["contact_time"]) & (truth["times"] < truth["release_time"])
    assert 0.4 < truth["visible_fraction"][held].mean() < 0.98  # the hand hides a part
    assert str(truth["object_name"]) == "box"


def test_recorded_finger_tips_are_on_the_rendered_fingers(corpus):
    path = corpus["reversible"]
    scene = sample_scene(0, 3)
    frames = np.arange(0, scene.frames, 12)
    with h5py.File(path) as file:
        recorded = {
            name: file["transforms"][name][()].astype(float)
            for name in file["transforms"]
            if name.startswith("right") and name.endswith(("Tip", "Knuckle", "Hand"))
        }
        camera = file["transforms/camera"][()].astype(float)
    on, seen = 0, 0
    for k, shot in zip(
        frames, render_scene(scene, frames / 30 - 0.010, SIZE, depth=True), strict=True
    ):
        for pose in recorded.values():
            x = np.linalg.solve(camera[k], pose[k][:, 3])[:3]
            u, v = np.rint(project(x)).astype(int) if x[2] > 0.1 else (-1, -1)
            # A joint lies inside its finger: what is seen there is a hand, just before it.
            if 0 <= u < SIZE[0] and 0 <= v < SIZE[1] and shot.depth[v, u] > x[2] - 0.03:
                seen += 1
                on += bool(shot.hands[v, u])
    assert seen > 60
    assert on / seen > 0.97


def test_nothing_moves_or_cuts_where_it_should_not(scenes):
    for scene in scenes:
        times = scene.times
        thing, cameras = scene.object(times), scene.camera(times)
        poses = thing.as_matrix()
        before, after = times <= scene.contact, times >= scene.release
        np.testing.assert_array_equal(poses[before], np.broadcast_to(poses[0], poses[before].shape))
        np.testing.assert_allclose(
            poses[after], poses[after][:1].repeat(after.sum(), 0), atol=1e-12
        )
        turned = (thing[0].inv() * thing).rotation.magnitude()
        assert 14 < np.degrees(turned.max()) < 95
        assert np.ptp(thing.translation, axis=0).max() > 0.05
        world = np.stack([pose.apply(scene.thing.mesh.vertices) for pose in thing])
        assert world[..., 1].min() > TABLE - 1e-6
        for placed in scene.clutter:
            inside = placed.thing.distance(placed.pose.inv().apply(world[::4].reshape(-1, 3)))
            assert inside.min() > 0.01
        travelled = np.linalg.norm(cameras.translation - cameras.translation[0], axis=1)
        assert travelled[before].max() > 0.05
        seen = cameras.inv() * thing
        assert 0.33 < seen.translation[:, 2].min() < seen.translation[:, 2].max() < 0.6
        inside_picture = project(seen.translation, (960, 540))
        assert (inside_picture > 60).all()
        assert (inside_picture < [900, 480]).all()


def test_the_hand_holds_the_thing_and_cuts_nothing(scenes):
    for scene in scenes:
        times = scene.times
        side = scene.recipe.hand
        centres, radii = hands.spheres(scene.joints(times, side), side)
        shape = centres.shape[:2]
        into = scene.object(times).inv()
        local = np.stack([pose.apply(points) for pose, points in zip(into, centres, strict=True)])
        gap = scene.thing.distance(local.reshape(-1, 3)).reshape(shape) - radii
        assert gap.min() > -0.006
        digits = gap[:, :75].reshape(len(times), 5, 15).min(axis=2)
        held = (times > scene.contact) & (times < scene.release)
        assert (np.sort(digits[held], axis=1)[:, 2] < 0.002).all()  # three digits or more touch
        assert digits[held, 0].max() < 0.004  # the thumb among them
        assert gap[times < scene.contact - 0.7].min() > 0.01
        for placed in scene.clutter:
            apart = placed.thing.distance(placed.pose.inv().apply(centres.reshape(-1, 3)))
            assert (apart.reshape(shape) - radii).min() > 0


def test_the_same_seed_writes_the_same_bytes(corpus, tmp_path):
    first = corpus["reset"]  # written by another process
    second = write_clip(tmp_path, 0, seed=0, size=SMALL, pose_offset_s=0.010)
    for suffix in (".mp4", ".hdf5"):
        assert first.with_suffix(suffix).read_bytes() == second.with_suffix(suffix).read_bytes()
    truths = truth_of(first), truth_of(second)
    for name in truths[0].files:
        np.testing.assert_array_equal(truths[0][name], truths[1][name])
    assert {path.suffix for path in tmp_path.rglob("*.*")} == {".mp4", ".hdf5", ".npz"}
    start = sample_scene(1, 0).camera(np.zeros(1)).as_matrix()[0]
    assert np.abs(start - truths[0]["T_world_camera"][0]).max() > 1e-3


def test_odd_size_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="even"):
        write_egodex(tmp_path, clips=1, size=(321, 180))


def test_no_way_to_render_is_one_clear_line():
    code = "from ego_ops.synthetic import render; render.load_mujoco()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = run.stderr.strip().splitlines()[-1]
    assert "UserError" in last
    assert "MUJOCO_GL=nonsense" in last
    assert "libegl1" in last
    assert "libosmesa6" in last
