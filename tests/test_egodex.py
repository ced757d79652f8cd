"""The EgoDex reader, against hand-made files and the real ones."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ego_ops import corpora
from ego_ops.clip import Clip
from ego_ops.corpora import Skipped, egodex
from ego_ops.errors import AnnotationError, MissingFileError, UserError
from tests.egodex_files import recording

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "egodex"


def only(root: Path) -> Clip | Skipped:
    (entry,) = egodex.index(str(root))
    return entry


def test_a_recording_becomes_a_clip(tmp_path: Path) -> None:
    recording(tmp_path)
    clip = only(tmp_path)
    assert isinstance(clip, Clip)
    assert (clip.video_path, clip.annotation_path) == ("pick_cup/0.mp4", "pick_cup/0.hdf5")
    assert (clip.t_start, clip.t_end) == (0.0, 1.0)
    assert (clip.narration, clip.verb, clip.object) == (
        "Pick up the red cup from the table.",
        "pick",
        "cup",
    )


def test_indexing_does_not_open_the_video(tmp_path: Path) -> None:
    path = recording(tmp_path, video=False)
    path.with_suffix(".mp4").write_bytes(b"not a video")
    assert isinstance(only(tmp_path), Clip)


def test_a_reversible_task_is_described_in_the_direction_recorded(tmp_path: Path) -> None:
    both = {
        "llm_description": "Put the lid on.",
        "llm_description2": "Take the lid off.",
        "which_llm_description": "2",
        "llm_verbs": np.array(["add", "remove"], dtype=object),
        "llm_objects": np.array(["lid"], dtype=object),
    }
    recording(tmp_path, attributes=both)
    clip = only(tmp_path)
    assert (clip.narration, clip.verb) == ("Take the lid off.", "remove")


def test_an_id_survives_a_move_of_the_corpus_and_its_parts(tmp_path: Path) -> None:
    recording(tmp_path / "a")
    recording(tmp_path / "b" / "part1")
    a, b = only(tmp_path / "a"), only(tmp_path / "b")
    assert a.clip_id == b.clip_id
    assert a.video_path != b.video_path


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    recording(tmp_path / "disk", "pick_cup/0")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "part1").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "corpus")
    (tmp_path / "corpus" / "lost.hdf5").symlink_to(tmp_path / "nowhere.hdf5")
    (tmp_path / "corpus" / "lost.mp4").write_bytes(b"")
    found = list(egodex.index(str(tmp_path / "corpus")))
    clips = [entry for entry in found if isinstance(entry, Clip)]
    assert [clip.video_path for clip in clips] == ["part1/pick_cup/0.mp4"]
    assert Path(clips[0].annotation).exists()
    assert [s.where for s in found if isinstance(s, Skipped)] == ["lost.hdf5"]


def test_attributes_may_be_bytes_or_missing(tmp_path: Path) -> None:
    recording(tmp_path, attributes={"llm_description": b"Fold the towel.", "llm_verbs": "fold"})
    clip = only(tmp_path)
    assert (clip.narration, clip.verb, clip.object) == ("Fold the towel.", "fold", "")


def test_what_cannot_be_a_clip_is_named(tmp_path: Path) -> None:
    recording(tmp_path, "ok/0")
    recording(tmp_path, "silent/0", attributes={})
    recording(tmp_path, "unseen/0", video=False)
    recording(tmp_path, "empty/0", frames=0, video=False)
    (tmp_path / "empty/0.mp4").write_bytes(b"")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/0.hdf5").write_bytes(recording(tmp_path, "x/0").read_bytes()[:900])
    (tmp_path / "torn/0.mp4").write_bytes(b"")
    found = list(egodex.index(str(tmp_path)))
    skipped = {s.where: s.reason for s in found if isinstance(s, Skipped)}
    assert skipped == {
        "silent/0.hdf5": "no_description",
        "unseen/0.hdf5": "no_video",
        "empty/0.hdf5": "bad_annotation",
        "torn/0.hdf5": "bad_annotation",
    }
    assert sum(isinstance(entry, Clip) for entry in found) == 2


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_root_without_recordings_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="--root"):
        list(egodex.index(str(tmp_path / name)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no EgoDex recordings"):
        list(egodex.index(str(tmp_path / "empty")))


def test_a_misspelt_corpus_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean egodex"):
        corpora.get("egodx")


def test_the_recording_has_camera_path_and_hands(tmp_path: Path) -> None:
    recording(tmp_path)
    found = egodex.recording(only(tmp_path))
    assert (found.camera.width, found.camera.height) == (192, 108)
    assert found.path.poses.translation[-1, 0] == pytest.approx(0.1)
    assert [hand.side for hand in found.hands] == ["left", "right"]
    assert found.hands[0].joints.shape == (30, 5, 3)
    thumb = found.hands[1].joints[0, found.hands[1].tips[0]]
    assert thumb == pytest.approx([0.01, 0.1, 0.5])  # the thumb comes first
    assert len(found.hands[1].tips) == 3


def replaced(file: h5py.File, data: np.ndarray) -> None:
    file["transforms"].pop("camera")
    file["transforms/camera"] = data


BREAK = {
    "no transforms": lambda f: f.pop("transforms"),
    "no camera": lambda f: f["transforms"].pop("camera"),
    "no intrinsics": lambda f: f.pop("camera"),
    "NaN intrinsics": lambda f: f["camera/intrinsic"].write_direct(np.full((3, 3), np.nan, "f4")),
    "endless focal length": lambda f: f["camera/intrinsic"].__setitem__((0, 0), 1e30),
    "no numbers": lambda f: replaced(f, np.array([b"x"] * 30)),
    "flat poses": lambda f: replaced(f, np.zeros((30, 3, 4))),
    "NaN pose": lambda f: f["transforms/camera"].__setitem__((3, 0, 0), np.nan),
    "skewed pose": lambda f: f["transforms/camera"].__setitem__((3, 0, 0), 2.0),
    "mirrored pose": lambda f: f["transforms/camera"].__setitem__((3, 0, 0), -1.0),
}


@pytest.mark.parametrize("damage", BREAK)
def test_a_broken_recording_says_which_file(tmp_path: Path, damage: str) -> None:
    path = recording(tmp_path)
    clip = only(tmp_path)
    with h5py.File(path, "a") as file:
        BREAK[damage](file)
    with pytest.raises(AnnotationError, match=r"0\.hdf5"):
        egodex.recording(clip)


def test_a_recording_that_went_missing_says_so(tmp_path: Path) -> None:
    path = recording(tmp_path)
    clip = only(tmp_path)
    path.unlink()
    with pytest.raises(MissingFileError, match=r"0\.hdf5"):
        egodex.recording(clip)


def test_hands_of_another_length_are_left_out(tmp_path: Path) -> None:
    path = recording(tmp_path)
    clip = only(tmp_path)
    with h5py.File(path, "a") as file:
        for name in [n for n in file["transforms"] if n.startswith("left")]:
            data = file["transforms"].pop(name)[:7]
            file[f"transforms/{name}"] = data
    assert [hand.side for hand in egodex.recording(clip).hands] == ["right"]


def test_joints_that_are_no_poses_are_left_out(tmp_path: Path) -> None:
    path = recording(tmp_path)
    clip = only(tmp_path)
    with h5py.File(path, "a") as file:
        file["transforms"].pop("leftHand")
        file["transforms/leftHand"] = np.zeros(30)
    assert [hand.joints.shape[1] for hand in egodex.recording(clip).hands] == [4, 5]


def test_the_real_clips_are_read() -> None:
    if not REAL.is_dir():
        pytest.skip("the real EgoDex clips are not beside this checkout")
    clips = {clip.video_uid: clip for clip in egodex.index(str(REAL))}
    stapler = clips["basic_pick_and_place/0"]
    assert (stapler.verb, stapler.object) == ("pick", "stapler")
    assert clips["add_remove_lid/0"].verb == "remove"
    found = egodex.recording(stapler)
    assert found.camera.fx == pytest.approx(736.634, abs=1e-3)
    assert len(found.path.times) == 126
    assert all(len(hand.tips) == 5 for hand in found.hands)
