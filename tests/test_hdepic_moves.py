"""HD-EPIC's object movements: which narrations tell of them, and all the real ones."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from ego_ops.clip import Box, Clip
from ego_ops.corpora import hdepic
from ego_ops.corpora.candidates import Candidate
from ego_ops.corpora.hdepic_moves import Move, match
from ego_ops.corpora.sentence import parse
from tests.aria_corpora_files import touch, write_slam

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "hdepic"


@pytest.mark.parametrize(
    ("name", "thing", "same"),
    [
        ("knife", "knife", True),
        ("knife", "butter knife", True),
        ("small knife", "butter knife", False),
        ("pan lid", "pan", False),
        ("pan lid", "lid", True),
        ("bottle of oil", "oil bottle", True),
        ("oil", "bottle of oil", False),
        ("oranges", "orange", True),
        ("bowl", "", False),
    ],
)
def test_which_names_are_of_one_thing(name: str, thing: str, same: bool) -> None:
    said = Candidate("n", 1.0, 2.0, "", "take", thing, "annotated")
    told = match([said], [Move("m", name, 0.5, 3.0)])
    assert told.by_move == ({"m": [said]} if same else {})


def test_a_narration_goes_to_the_movement_it_shares_most_time_with() -> None:
    tracks = [
        Move("early", "bowl", 0.0, 11.0),
        Move("right", "bowl", 10.5, 14.0),
        Move("other", "spoon", 10.0, 14.0),
        Move("long", "bowl", 0.0, 90.0),
    ]
    said = Candidate("n", 10.0, 13.0, "", "take", "bowl", "annotated")
    tracks.sort(key=lambda move: move.start)
    assert list(match([said], tracks).by_move) == ["right"]


def test_a_narration_that_only_touches_a_movement_is_its_own() -> None:
    box = Box(12.5, 0, 0, 9, 9)
    move = Move("m", "bowl", 12.0, 16.0, (box, Box(16.0, 5, 5, 9, 9)))
    said = Candidate("n", 10.0, 13.0, "", "wash", "bowl", "annotated")
    told = match([said], [move])
    assert told.by_move == {}
    assert told.boxes == {"n": (box,)}


@pytest.mark.skipif(not REAL.is_dir(), reason="no HD-EPIC annotations in shared/data")
def test_every_real_movement_is_accounted_for(tmp_path: Path) -> None:
    source = json.loads((REAL / hdepic.MOVES / "assoc_info.json").read_text())
    (tmp_path / "annotations").symlink_to(REAL)
    present = sorted(source)[::4]
    for video in present:
        person = video[:3]
        touch(tmp_path / "Videos" / person / f"{video}.mp4")
        touch(tmp_path / "Videos" / person / f"{video}_mp4_to_vrs_time_ns.csv")
        write_slam(tmp_path / "SLAM-and-Gaze" / person / video / "slam", 0.0, 0.1)
    found = list(hdepic.index(str(tmp_path)))
    clips = [one for one in found if isinstance(one, Clip)]
    left = Counter[str]()
    for one in found:
        if not isinstance(one, Clip):
            left[one.reason] += one.count
    tracks = {
        video: [track for thing in things.values() for track in thing["tracks"]]
        for video, things in source.items()
    }
    absent = sum(len(found) for video, found in tracks.items() if video not in present)
    assert left["no_video"] == absent
    there = [track for video in present for track in tracks[video]]
    assert len(clips) + left["long_movement"] + left["too_short"] == len(there)
    lengths = [end - start for start, end in (track["time_segment"] for track in there)]
    assert len(clips) == sum(0.5 <= length <= 20 for length in lengths)
    assert len({clip.clip_id for clip in clips}) == len(clips)
    assert not any(clip.object[-1:].isdigit() or not clip.object for clip in clips)


@pytest.mark.skipif(not REAL.is_dir(), reason="no HD-EPIC annotations in shared/data")
def test_real_verb_classes() -> None:
    """The classes of handling a thing are understood, those that move nothing are not."""
    with open(REAL / hdepic.TABLE / "HD_EPIC_verb_classes.csv", newline="") as file:
        keys = {row["key"]: row["category"] for row in csv.DictReader(file)}
    reasons = {key: parse(f"{key.replace('-', ' ')} the cup").reason for key in keys}
    handling = ("take", "put", "open", "close", "wash", "cut", "pour", "throw", "move", "insert")
    assert not [key for key in handling if reasons[key]]
    assert all(reasons[key] for key in ("walk", "look", "wait") if key in reasons)
