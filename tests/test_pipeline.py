"""The geometric pipeline from a file to a trajectory, on a rendered scene and on bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops import corpora
from ego_ops.camera import Camera, PosePath
from ego_ops.clip import Clip
from ego_ops.corpora import Corpus, egodex
from ego_ops.errors import AnnotationError, ClipError, DecodeError, MissingFileError, Rejection
from ego_ops.perception.geometric import GeometricPipeline
from ego_ops.pipeline import Extraction, load
from ego_ops.recording import Recording
from ego_ops.synthetic import render
from ego_ops.synthetic.scene import sample_scene
from tests import egodex_files, rendered_corpora

SIZE = (640, 360)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Clip]:
    root = rendered_corpora.egodex(tmp_path_factory, SIZE)
    (clip,) = egodex.index(str(root))
    return root, clip


@pytest.fixture(scope="module")
def extracted(rendered: tuple[Path, Clip]) -> Extraction:
    return run(rendered[1])


def run(clip: Clip, **options: object) -> Extraction:
    pipeline = GeometricPipeline(**options)
    return pipeline.solve(clip, pipeline.perceive(clip))


def errors(root: Path, clip: Clip, found: Extraction) -> tuple[np.ndarray, np.ndarray]:
    """Metres and degrees by which the object's displacement misses the true one."""
    truth = np.load(root / "truth" / f"{clip.video_uid}.npz")
    thing = PosePath.from_matrices(truth["times"], truth["T_world_object"]).held(found.timestamps)
    camera = PosePath.from_matrices(truth["times"], truth["T_world_camera"]).held(found.timestamps)
    first = camera[0].inv()
    true = first * thing * (first * thing[0]).inv()
    poses = RigidTransform.from_components(found.position, Rotation.from_quat(found.rotation))
    ours = poses * poses[0].inv()
    shift = np.linalg.norm(true.apply(found.position[0]) - poses.translation, axis=-1)
    return shift, np.degrees((ours.rotation.inv() * true.rotation).magnitude())


def test_a_rendered_clip_comes_out_as_it_was_made(
    rendered: tuple[Path, Clip], extracted: Extraction
) -> None:
    (root, clip), found = rendered, extracted
    shift, turn = errors(root, clip, found)
    assert np.median(shift) < 0.01
    assert shift.max() < 0.03
    assert np.median(turn) < 3
    assert found.quality["clock_offset_s"] == pytest.approx(0.010, abs=0.003)
    assert found.fps == 20
    assert np.allclose(np.diff(found.timestamps), 0.05)
    assert len(found.frames) == len(found.timestamps)
    assert found.image_size == SIZE


def test_what_surrounds_a_tight_interval_is_looked_at_and_left_out(
    rendered: tuple[Path, Clip],
) -> None:
    root, clip = rendered
    with np.load(root / "truth" / f"{clip.video_uid}.npz") as truth:
        start, end = float(truth["contact_time"]), float(truth["release_time"])
    tight = replace(clip, t_start=start, t_end=end, interval="annotated")
    found = run(tight)
    shift, turn = errors(root, tight, found)
    assert np.median(shift) < 0.01
    assert np.median(turn) < 3
    assert found.timestamps[0] == pytest.approx(start, abs=0.051)
    assert found.timestamps[-1] < end
    assert np.allclose(found.camera_position[0], 0)
    with pytest.raises(Rejection):  # in the interval alone nothing lies still
        run(replace(tight, interval="whole"))


def test_the_same_clip_gives_the_same_bytes(
    rendered: tuple[Path, Clip], extracted: Extraction
) -> None:
    a, b = extracted, run(rendered[1])
    assert (a.position == b.position).all()
    assert (a.rotation == b.rotation).all()
    assert a.frames == b.frames


class RenderedDepth:
    """Exact depth maps of the scene that was filmed."""

    def __init__(self, index: int):
        scene = sample_scene(0, index)
        shots = render.render_scene(scene, scene.times[::3], (320, 180), depth=True)
        self.maps = [shot.depth.astype(float) for shot in shots]

    def depth(self, t: float) -> np.ndarray:
        return self.maps[round(t * 10)]


def test_recorded_depth_replaces_recorded_poses(rendered: tuple[Path, Clip]) -> None:
    """No camera path, no hands: the camera's motion comes from depth and background tracks."""
    root, clip = rendered
    maps = RenderedDepth(0)

    def recording(asked: Clip) -> Recording:
        return Recording(egodex.recording(asked).camera, depth=maps)

    corpora.CORPORA["with_depth"] = Corpus(egodex.index, recording)
    try:
        short = replace(clip, corpus="with_depth")
        found = run(short, fps=10.0)
    finally:
        del corpora.CORPORA["with_depth"]
    shift, turn = errors(root, clip, found)
    assert np.median(shift) < 0.015
    assert np.median(turn) < 5
    truth = np.load(root / "truth" / f"{clip.video_uid}.npz")
    path = PosePath.from_matrices(truth["times"], truth["T_world_camera"]).held(found.timestamps)
    camera = (path[0].inv() * path).translation
    assert np.linalg.norm(camera - found.camera_position, axis=-1).max() < 0.02


def test_pipelines_are_found_by_name() -> None:
    assert isinstance(load("geometric", {"fps": 10.0}), GeometricPipeline)


# Bad input: the right class, and one line that names the file.


@pytest.fixture
def small(tmp_path: Path) -> Clip:
    egodex_files.recording(tmp_path, frames=40)
    (clip,) = egodex.index(str(tmp_path))
    return clip


def test_a_video_in_which_nothing_moves_is_rejected(small: Clip) -> None:
    with pytest.raises(Rejection) as caught:
        run(small)
    assert caught.value.reason in ("nothing_moves", "too_little_parallax", "no_rigid_group")


def test_a_clip_of_a_few_frames_is_rejected(small: Clip) -> None:
    with pytest.raises(Rejection) as caught:
        run(replace(small, t_end=0.3))
    assert caught.value.reason == "too_short"


def truncate(clip: Clip) -> None:
    data = Path(clip.video).read_bytes()
    Path(clip.video).write_bytes(data[: len(data) // 2])


def nothing(clip: Clip) -> None:
    Path(clip.video).write_bytes(b"")


def another_size(clip: Clip) -> None:
    egodex_files.write_video(Path(clip.video), 40, (128, 128))


def audio_only(clip: Clip) -> None:
    with av.open(clip.video, "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def few_poses(clip: Clip) -> None:
    with h5py.File(clip.annotation, "a") as file:
        poses = file["transforms"].pop("camera")[:6]
        file["transforms/camera"] = poses


def nan_pose(clip: Clip) -> None:
    with h5py.File(clip.annotation, "a") as file:
        file["transforms/camera"][3, 0, 3] = np.nan


BAD = {
    truncate: DecodeError,
    nothing: DecodeError,
    audio_only: DecodeError,
    another_size: AnnotationError,
    few_poses: AnnotationError,
    nan_pose: AnnotationError,
    lambda clip: Path(clip.video).unlink(): MissingFileError,
    lambda clip: Path(clip.annotation).unlink(): MissingFileError,
    lambda clip: Path(clip.annotation).write_bytes(b"\x89HDF"): AnnotationError,
}


@pytest.mark.parametrize("damage", BAD)
def test_bad_files_end_in_their_own_error(small: Clip, damage: object) -> None:
    damage(small)
    with pytest.raises(BAD[damage]) as caught:
        run(small)
    line = str(caught.value)
    assert "\n" not in line
    assert "pick_cup/0" in line


def test_an_interval_past_the_video_or_turned_round(small: Clip) -> None:
    for t_start, t_end in ((5.0, 6.0), (1.0, 0.5), (-1.0, 1.0)):
        with pytest.raises(ClipError):
            run(replace(small, t_start=t_start, t_end=t_end))


def test_hands_that_were_not_recorded_do_no_harm(rendered: tuple[Path, Clip]) -> None:
    _, clip = rendered

    def without_joints(asked: Clip) -> Recording:
        found = egodex.recording(asked)
        blind = tuple(replace(h, joints=np.full_like(h.joints, np.nan)) for h in found.hands)
        return replace(found, hands=blind)

    corpora.CORPORA["blind"] = Corpus(egodex.index, without_joints)
    try:
        with pytest.raises(Rejection):
            run(replace(clip, corpus="blind"))
    finally:
        del corpora.CORPORA["blind"]


def test_the_camera_is_that_of_the_whole_picture(rendered: tuple[Path, Clip]) -> None:
    _, clip = rendered
    camera = egodex.recording(clip).camera
    assert isinstance(camera, Camera)
    assert (camera.cx, camera.cy) == (SIZE[0] / 2 - 0.5, SIZE[1] / 2 - 0.5)
