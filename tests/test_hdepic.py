"""HD-EPIC's reader: its pickle, its movements, its files, hand-made and real."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ego_ops.clip import Box, Clip
from ego_ops.corpora import hdepic
from ego_ops.errors import AnnotationError, MissingFileError, UserError
from tests import hdepic_pickles
from tests.aria_corpora_files import SPEED, device_time, dump, write_kitchen
from tests.hdepic_pickles import VIDEO

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "hdepic"
OTHER = "P08-20240614-085000"
START = 500.0
ROWS = [
    # text, start, end, main action
    ("Pick up the bowl with the right hand.", 10.0, 10.8, ("pick-up", "bowl")),
    ("Put down the bowl on the counter.", 13.5, 14.2, ("put-down", "bowl")),
    ("Open the drawer.", 20.0, 21.0, ("open", "drawer:bottom")),
    ("Pick up the knife from the drawer.", 30.0, 31.0, ("pick-up", "knife")),
    ("Cut the carrot with the knife.", 35.0, 38.0, ("cut", "carrot")),
    ("Put down the knife.", 59.5, 60.5, ("put-down", "knife")),
    ("Walk to the fridge.", 40.0, 42.0, ("walk", "")),
]


def frame(rows: list[tuple[str, float, float, tuple[str, str]]] = ROWS) -> pd.DataFrame:
    whole = hdepic_pickles.table()
    made = [
        dict(whole.iloc[0])
        | {
            "unique_narration_id": f"{VIDEO}-{i}",
            "narration": text,
            "start_timestamp": start,
            "end_timestamp": end,
            "main_actions": [action] if all(action) else [],
            "pairs": [],
        }
        for i, (text, start, end, action) in enumerate(rows)
    ]
    return pd.DataFrame(made)


def mask(number: int, *box: float, at: Any = None) -> dict[str, Any]:
    return {"frame_number": number, "bbox": list(box), "3d_location": at, "fixture": "P01_hob"}


MASKS = {
    "b0": mask(300, 100, 200, 180, 260, at=[1.0, 2.0, 0.9]),
    "b1": mask(426, 500, 600, 580, 660.5, at=[1.5, 2.25, 1.0]),
    "k0": mask(905, 10, 20, 30, 40, at=[0, 0, 0]),
    "k1": mask(1810, 50, 60, 70, 80, at=None),
    "x0": mask(0, 50, 60, 50, 80),  # an empty box
    "x1": mask(0, float("nan"), 60, 70, 80),
}
TRACKS = {
    "a0": {
        "name": "bowl2",
        "tracks": [{"track_id": "tb", "time_segment": [10.0, 14.2], "masks": ["b1", "b0", "gone"]}],
    },
    "a1": {
        "name": "sharp knife",
        "tracks": [
            {"track_id": "tk", "time_segment": [30.2, 60.3], "masks": ["k0", "k1"]},
            {"track_id": "ts", "time_segment": [61.0, 61.2], "masks": []},
            {"track_id": "t?", "time_segment": [70.0, None], "masks": []},
        ],
    },
    "a2": {
        "name": "lid",
        "tracks": [{"track_id": "tl", "time_segment": [50.0, 52.5], "masks": ["x0", "x1"]}],
    },
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "hd-epic-annotations" / hdepic.TABLE
    folder.mkdir(parents=True)
    frame().to_pickle(folder / "HD_EPIC_Narrations.pkl")
    moves = tmp_path / "hd-epic-annotations" / hdepic.MOVES
    dump(moves / "assoc_info.json", {VIDEO: TRACKS})
    dump(moves / "mask_info.json", {VIDEO: MASKS})
    write_kitchen(tmp_path / "HD-EPIC", VIDEO, start_s=START)
    return tmp_path


def read(root: Path) -> tuple[list[Clip], Counter[str]]:
    found = list(hdepic.index(str(root)))
    left = Counter[str]()
    for one in found:
        if not isinstance(one, Clip):
            left[one.reason] += one.count
    return [one for one in found if isinstance(one, Clip)], left


def test_movements_and_narrations_without_one(root: Path) -> None:
    clips, left = read(root)
    assert [(c.t_start, c.t_end, c.verb, c.object) for c in clips] == [
        (10.0, 14.2, "pick up", "bowl"),
        (20.0, 21.0, "open", "bottom drawer"),
        (30.0, 31.0, "pick up", "knife"),
        (35.0, 38.0, "cut", "carrot"),
        (50.0, 52.5, "move", "lid"),
        (59.5, 60.5, "put down", "knife"),
    ]
    assert left == {"same_movement": 2, "long_movement": 1, "too_short": 1, "moves_about": 1}
    bowl, drawer, knife, carrot, lid, last = clips
    said = "Pick up the bowl with the right hand. Put down the bowl on the counter."
    assert bowl.narration == said
    assert bowl.boxes == (Box(10.0, 100, 200, 180, 260), Box(14.2, 500, 600, 580, 660.5))
    assert drawer.boxes == carrot.boxes == lid.boxes == ()
    assert knife.boxes == (Box(905 / 30, 10, 20, 30, 40),)
    assert last.boxes == (Box(1810 / 30, 50, 60, 70, 80),)
    assert {clip.interval for clip in clips} == {"annotated"}
    assert bowl.video_path == f"HD-EPIC/Videos/P01/{VIDEO}.mp4"
    assert bowl.annotation_path == "HD-EPIC/SLAM-and-Gaze/P01/SLAM/multi/3/slam"


def test_endpoints_of_whole_movements(root: Path) -> None:
    clips, _ = read(root)
    ends = [hdepic.endpoints(str(root), clip) for clip in clips]
    assert ends[0] == ((1.0, 2.0, 0.9), (1.5, 2.25, 1.0))
    assert ends[1:] == [None] * 5


def test_names_of_the_first_release(root: Path) -> None:
    before = read(root)[0]
    moves = root / "hd-epic-annotations" / hdepic.MOVES
    old = json.loads(json.dumps(TRACKS).replace('"masks"', '"all_frames"'))
    dump(moves / "assoc_info.json", {VIDEO: old})
    (moves / "mask_info.json").rename(moves / "frame_info.json")
    assert read(root)[0] == before


def test_the_device_clock_where_pictures_repeat(root: Path) -> None:
    for clip in read(root)[0]:
        recording = hdepic.recording(clip)
        assert device_time(recording, clip.t_start) == pytest.approx(START + clip.t_start, abs=2e-3)
        assert recording.lens is not None
        assert recording.lens.turns == 1
        assert recording.hands == ()


def test_hands_of_the_video(root: Path) -> None:
    clip = read(root)[0][0]
    folder = root / "HD-EPIC" / "SLAM-and-Gaze" / "P01" / "GAZE_HAND" / f"mps_{VIDEO}_vrs"
    sides = [f"{side}_tracking_confidence" for side in ("left", "right")]
    joints = [
        f"t{axis}_{side}_{part}_device"
        for side in ("left", "right")
        for part in ("wrist", "palm")
        for axis in "xyz"
    ]
    lines = [",".join(["tracking_timestamp_us", *sides, *joints])]
    cells = ",".join(["0.1", "0.2", "0.3"] * 4)
    lines += [f"{round(t * 1e6)},0.9,-1,{cells}" for t in np.arange(START, START + 60, 0.1)]
    table = folder / "hand_tracking" / "wrist_and_palm_poses.csv"
    table.parent.mkdir(parents=True)
    table.write_text("\n".join(lines) + "\n")
    (hand,) = hdepic.recording(clip).hands
    assert hand.side == "left"
    palm = hand.at(np.array([12.0]))[0, hand.tips[0]]
    np.testing.assert_allclose(palm, [0.1 + SPEED * (START + 12), 0.2, 1.9], atol=1e-3)


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("SLAM/multi/3/3/slam", f"P01/{VIDEO}.vrs"),
        ("SLAM/multi/3/slam", f"/dataset/{VIDEO}_anonymized.vrs"),
        ("SLAM/multi/3/slam", f"P01/{VIDEO[4:]}.vrs"),
        (f"SLAM/other_aligned/{VIDEO}/slam", "P01/another.vrs"),
        (f"SLAM/other_aligned/{VIDEO}", "P01/another.vrs"),
        (f"{VIDEO}/slam", "P01/another.vrs"),
    ],
)
def test_where_archives_may_have_been_unpacked(root: Path, place: str, key: str) -> None:
    before = [clip.clip_id for clip in read(root)[0]]
    home = root / "HD-EPIC" / "SLAM-and-Gaze" / "P01"
    shutil.move(home / "SLAM" / "multi" / "3" / "slam", root / "kept")
    (home / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / "kept", home / place)
    dump(home / "SLAM" / "multi" / "vrs_to_multi_slam.json", {"P01/other.vrs": "0", key: "3"})
    clips, _ = read(root)
    assert [clip.clip_id for clip in clips] == before
    assert clips[0].annotation_path.endswith(place)


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (f"Videos/P01/{VIDEO}.mp4", "no_video"),
        (f"Videos/P01/{VIDEO}_mp4_to_vrs_time_ns.csv", "no_clock"),
        ("SLAM-and-Gaze", "no_trajectory"),
        ("SLAM-and-Gaze/P01/SLAM/multi/3", "no_trajectory"),
        ("SLAM-and-Gaze/P01/SLAM/multi/3/slam/online_calibration.jsonl", "no_calibration"),
    ],
)
def test_what_is_not_downloaded_is_named(root: Path, lost: str, reason: str) -> None:
    dump(
        root / "hd-epic-annotations" / hdepic.MOVES / "assoc_info.json",
        {VIDEO: TRACKS, OTHER: TRACKS},
    )
    write_kitchen(root / "HD-EPIC", OTHER)
    before = [clip.clip_id for clip in read(root)[0]]
    assert len(before) == 8
    shutil.move(root / "HD-EPIC" / lost, root / "kept")
    clips, left = read(root)
    assert left[reason] == (11 if lost != "SLAM-and-Gaze" else 15)
    assert [clip.clip_id for clip in clips] == ([] if lost == "SLAM-and-Gaze" else before[6:])
    shutil.move(root / "kept", root / "HD-EPIC" / lost)
    assert [clip.clip_id for clip in read(root)[0]] == before


def test_an_archive_that_is_not_unpacked(root: Path) -> None:
    session = root / "HD-EPIC" / "SLAM-and-Gaze" / "P01" / "SLAM" / "multi" / "3"
    shutil.rmtree(session)
    session.with_suffix(".zip").write_bytes(b"PK")
    (named,) = (one for one in hdepic.index(str(root)) if not isinstance(one, Clip))
    assert named.reason == "no_trajectory"
    assert "3.zip is not unpacked" in named.detail


def test_annotations_that_are_missing(root: Path) -> None:
    notes = root / "hd-epic-annotations"
    (notes / hdepic.MOVES / "mask_info.json").unlink()
    clips, left = read(root)
    assert len(clips) == 6
    assert left["no_boxes"] == 1
    assert not any(clip.boxes for clip in clips)
    shutil.rmtree(notes / hdepic.TABLE)
    clips, left = read(root)
    assert [(clip.object, clip.narration) for clip in clips] == [
        ("bowl", "Move the bowl."),
        ("lid", "Move the lid."),
    ]
    assert left["no_narrations"] == 1
    shutil.rmtree(notes / hdepic.MOVES)
    with pytest.raises(UserError, match=r"no HD-EPIC here \(looked for narrations-and"):
        next(hdepic.index(str(root)))
    with pytest.raises(UserError, match="no HD-EPIC here"):
        next(hdepic.index(str(root / "nowhere")))


def test_narrations_alone(root: Path) -> None:
    shutil.rmtree(root / "hd-epic-annotations" / hdepic.MOVES)
    clips, left = read(root)
    assert len(clips) == 6
    assert left == {"no_movements": 1, "moves_about": 1}


@pytest.mark.parametrize("text", ["", "[]", '{"P01": {', '{"a": 1}'])
def test_movements_that_are_no_json_object(root: Path, text: str) -> None:
    path = root / "hd-epic-annotations" / hdepic.MOVES / "assoc_info.json"
    path.write_text(text)
    if text == '{"a": 1}':  # a video without movements
        assert len(read(root)[0]) == 6
        return
    with pytest.raises(UserError, match=r"assoc_info\.json: (not readable JSON|holds no JSON)"):
        read(root)


def test_a_clip_whose_files_went_wrong(root: Path) -> None:
    clip = read(root)[0][0]
    sheet = root / "HD-EPIC" / "Videos" / "P01" / f"{VIDEO}_mp4_to_vrs_time_ns.csv"
    whole = sheet.read_text()
    sheet.write_text(whole.replace("vrs_device_time_ns", "time"))
    with pytest.raises(AnnotationError, match="has no column vrs_device_time_ns"):
        hdepic.recording(clip)
    sheet.write_text("\n".join(whole.splitlines()[:100]))
    with pytest.raises(AnnotationError, match="no frame around the clip"):
        hdepic.recording(clip)
    sheet.unlink()
    with pytest.raises(MissingFileError):
        hdepic.recording(clip)
