"""Ego-Exo4D's reader against hand-made files in the published form."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from ego_ops import manifest
from ego_ops.clip import Clip
from ego_ops.corpora import egoexo4d
from ego_ops.errors import AnnotationError, MissingFileError, UserError
from tests.aria_corpora_files import annotator, description, device_time, dump, take, write_take

START = 50.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two takes of one capture: the first described by two annotators, the second by one."""
    dump(tmp_path / "takes.json", [take("cmu_bike01_1", "t1"), take("cmu_bike01_2", "t2")])
    first = annotator(
        "a1",
        description("C picks up the wrench from the floor.", 5.0),
        description("C walks to the bike.", 9.0),
        description("C turns the bolt with the wrench in his right hand.", 12.0),
    )
    second = annotator("a2", description("C picks the wrench up from the floor.", 5.4))
    dump(
        tmp_path / "annotations" / "atomic_descriptions_train.json",
        {
            "ds": "2024",
            "take_cam_id_map": {"t1": {"1": "cam01"}},
            "annotations": {"t1": [first, second]},
        },
    )
    other = annotator("a3", description("C lifts the wheel.", 3.0))
    dump(
        tmp_path / "annotations" / "atomic_descriptions_val.json", {"annotations": {"t2": [other]}}
    )
    write_take(tmp_path, "cmu_bike01_1", start_s=START)
    write_take(tmp_path, "cmu_bike01_2", start_s=START)
    return tmp_path


def read(root: Path) -> tuple[list[Clip], Counter[str]]:
    found = list(egoexo4d.index(str(root)))
    left = Counter[str]()
    for one in found:
        if not isinstance(one, Clip):
            left[one.reason] += one.count
    return [one for one in found if isinstance(one, Clip)], left


def describe(root: Path, *annotators: object, **more: object) -> tuple[list[Clip], Counter[str]]:
    """What these annotations of the first take give."""
    (root / "annotations" / "atomic_descriptions_val.json").unlink()
    data = {"annotations": {"t1": list(annotators)}} | more
    dump(root / "annotations" / "atomic_descriptions_train.json", data)
    return read(root)


def test_clips_of_two_annotators(root: Path) -> None:
    clips, left = read(root)
    assert [(clip.verb, clip.object) for clip in clips] == [
        ("pick up", "wrench"),
        ("turn", "bolt"),
        ("lift", "wheel"),
    ]
    assert left == {"duplicate": 1, "moves_about": 1}
    first = clips[0]
    assert (first.t_start, first.t_end, first.interval) == (3.0, 7.0, "narrated")
    assert first.video_path == "takes/cmu_bike01_1/frame_aligned_videos/aria01_214-1.mp4"
    assert (first.video_uid, first.corpus, first.root) == ("t1", "egoexo4d", str(root))
    assert len({clip.clip_id for clip in clips}) == 3


def test_ids_are_of_the_annotations_alone(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = [clip.clip_id for clip in read(root)[0]]
    elsewhere = tmp_path_factory.mktemp("other") / "corpus"
    shutil.copytree(root, elsewhere)
    for video in list(elsewhere.rglob("*_214-1.mp4")):
        small = video.parent / "downscaled" / "448"
        small.mkdir(parents=True)
        video.rename(small / video.name)
    clips, _ = read(elsewhere)
    assert [clip.clip_id for clip in clips] == before
    assert "/downscaled/448/aria01_214-1.mp4" in clips[0].video_path
    assert device_time(egoexo4d.recording(clips[0]), 5.0) == pytest.approx(START + 5.0, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subject": "O"}, "other_person"),
        ({"unsure": True}, "unsure"),
        ({"unsure": "1"}, "unsure"),
        ({"ego_visible": False}, "not_visible"),
        ({"ego_visible": "0"}, "not_visible"),
        ({"ego_visible": "1", "unsure": "0"}, ""),
        ({"ego_visible": None, "unsure": None}, ""),
        ({"timestamp": None}, "bad_interval"),
        ({"timestamp": "12.5"}, ""),
        ({"timestamp": 99.0}, "bad_interval"),
        ({"text": None}, "no_manipulation"),
    ],
)
@pytest.mark.parametrize("spelling", ["subject", "narration_subject"])
def test_fields_in_both_spellings(root: Path, fields: dict, reason: str, spelling: str) -> None:
    said = description("C picks up a cup.", 8.0) | fields
    said = {spelling if key == "subject" else key: value for key, value in said.items()}
    clips, left = describe(root, annotator("a1", said))
    assert (len(clips), dict(left)) == ((0, {reason: 1}) if reason else (1, {}))


def test_annotators_that_are_rejected_or_broken(root: Path) -> None:
    good = annotator("a1", description("C picks up a cup.", 8.0), "no object", None)
    rejected = annotator("a2", description("C opens the box.", 2.0), rejected=True)
    clips, left = describe(
        root, good, rejected, "nothing", annotator("a4") | {"descriptions": None}
    )
    assert [clip.object for clip in clips] == ["cup"]
    assert left == {"rejected": 1}


def test_the_device_clock_follows_the_rows_of_the_capture(root: Path) -> None:
    """Every seventh cell is empty, and so are those at the start of the capture."""
    for clip in read(root)[0]:
        recording = egoexo4d.recording(clip)
        for t in (clip.t_start, clip.t_end):
            assert device_time(recording, t) == pytest.approx(START + t, abs=1e-3)
        assert recording.lens is not None
        assert recording.lens.turns == 1
        assert recording.landmarks is not None


def test_the_wearers_camera_is_looked_up(root: Path) -> None:
    entry = take("cmu_bike01_1", "t1", camera="aria03")
    bystander = take("cmu_bike01_1", "t1", camera="aria01")["frame_aligned_videos"]
    entry["frame_aligned_videos"] |= {"aria01": bystander["aria01"]}
    entry["capture"]["cameras"].insert(0, {"cam_id": "aria01", "is_ego": "False"})
    dump(root / "takes.json", [entry])
    shutil.rmtree(root / "takes" / "cmu_bike01_1")
    write_take(root, "cmu_bike01_1", camera="aria03", start_s=70.0)
    clip = read(root)[0][0]
    assert clip.video_path.endswith("/aria03_214-1.mp4")
    assert device_time(egoexo4d.recording(clip), 4.0) == pytest.approx(74.0, abs=1e-3)


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        ("takes/cmu_bike01_1/frame_aligned_videos", "no_video"),
        ("takes/cmu_bike01_1/trajectory", "no_trajectory"),
        ("takes/cmu_bike01_1/trajectory/online_calibration.jsonl", "no_calibration"),
        ("captures/cmu_bike01/timesync.csv", "no_timesync"),
    ],
)
def test_what_is_not_downloaded_is_named(root: Path, lost: str, reason: str) -> None:
    before = [clip.clip_id for clip in read(root)[0]]
    kept = root / "kept"
    shutil.move(root / lost, kept)
    found = list(egoexo4d.index(str(root)))
    named = [one for one in found if not isinstance(one, Clip)]
    assert named[0].reason == reason
    assert named[0].count == 4
    assert "t1" in named[0].where
    assert Path(lost).name in named[0].detail
    clips = [one for one in found if isinstance(one, Clip)]
    if reason == "no_timesync":  # of both takes
        assert not clips
    else:
        assert [clip.clip_id for clip in clips] == before[2:]
    shutil.move(kept, root / lost)
    assert [clip.clip_id for clip in read(root)[0]] == before


def test_indexing_again_after_a_download(root: Path, tmp_path: Path) -> None:
    videos = root / "takes" / "cmu_bike01_1" / "frame_aligned_videos"
    videos.rename(root / "later")
    out = str(tmp_path / "manifest")
    first = manifest.write(out, read(root)[0])
    (root / "later").rename(videos)
    again = manifest.write(out, read(root)[0])
    assert (first.new, again.new, again.known) == (1, 2, 1)
    stored = manifest.Manifest(out)
    clips = [
        clip
        for bucket in range(stored.buckets)
        for clip in stored.clips(bucket, "0" * 16, "f" * 16)
    ]
    assert {clip.clip_id: clip for clip in clips} == {clip.clip_id: clip for clip in read(root)[0]}


def test_takes_that_are_not_as_documented(root: Path) -> None:
    blind = take("cmu_bike01_1", "t1", frame_aligned_videos={"cam01": {"0": {"stream_id": "0"}}})
    dump(root / "takes.json", [blind, "no take", {"take_name": "without uid"}])
    assert read(root)[1] == {"no_ego_video": 4, "unknown_take": 1}
    short = take(
        "cmu_bike01_1", "t1", duration_sec=None, capture=None
    )  # the name tells the capture
    dump(root / "takes.json", [short, take("cmu_bike01_2", "t2", timesync_start_idx=None)])
    clips, left = read(root)
    assert len(clips) == 2
    assert left["no_timesync"] == 1


def test_no_corpus_there(tmp_path: Path, root: Path) -> None:
    for missing in (root / "nowhere", tmp_path / "annotations"):
        with pytest.raises(UserError, match=r"no Ego-Exo4D here \(looked for takes.json"):
            next(egoexo4d.index(str(missing)))
    whole = (root / "takes.json").read_bytes()
    (root / "takes.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"takes\.json: not JSON"):
        next(egoexo4d.index(str(root)))


def test_a_clip_whose_files_went_wrong(root: Path) -> None:
    clip = read(root)[0][0]
    sheet = root / "captures" / "cmu_bike01" / "timesync.csv"
    whole = sheet.read_text()

    def replaced(text: str) -> None:
        sheet.write_text(text)
        egoexo4d._capture_times.cache_clear()

    replaced(whole.replace("aria01_214-1", "aria09_214-1"))
    with pytest.raises(AnnotationError, match="has no column aria01_214-1_capture_timestamp_ns"):
        egoexo4d.recording(clip)
    replaced("\n".join(whole.splitlines()[:130]))
    with pytest.raises(AnnotationError, match="no frame around the clip has a capture time"):
        egoexo4d.recording(clip)
    replaced("")
    with pytest.raises(AnnotationError, match="not a table"):
        egoexo4d.recording(clip)
    sheet.unlink()
    egoexo4d._capture_times.cache_clear()
    with pytest.raises(MissingFileError, match="no such file"):
        egoexo4d.recording(clip)
