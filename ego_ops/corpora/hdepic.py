"""HD-EPIC: kitchens seen through Aria glasses; narrated actions and every movement of every thing.

Two downloads under one root, each there or one folder further down:

    narrations-and-action-segments/HD_EPIC_Narrations.pkl   (github.com/hd-epic/hd-epic-annotations)
    scene-and-object-movements/{assoc_info,mask_info}.json
    Videos/<P>/<video>.mp4, <video>_mp4_to_vrs_time_ns.csv  (github.com/hd-epic/hd-epic-downloader)
    SLAM-and-Gaze/<P>/SLAM/multi/vrs_to_multi_slam.json, <n>.zip       -> unpacked: <n>/slam/
    SLAM-and-Gaze/<P>/SLAM/other_aligned/<video>.zip                   -> <video>/
    SLAM-and-Gaze/<P>/GAZE_HAND/mps_<video>_vrs.zip                    -> mps_<video>_vrs/

A movement of half a second to 20 s is a clip: its interval, its thing and the boxes at its ends
are annotated. Narrations of such a movement lend it their words and are no clips of their own; all
other manipulations are, with the boxes of their thing where it was being moved. Videos are made by
projectaria-tools' `vrs_to_mp4`, which turns the sensor's picture upright.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ego_ops.clip import Box, Clip, clip_id
from ego_ops.corpora import device_clock, mps
from ego_ops.corpora.candidates import Candidate, Narration, candidates
from ego_ops.corpora.hdepic_files import CLOCK, below, hands, locate
from ego_ops.corpora.hdepic_moves import LONGEST, MASKS, Move, Point, match, moves, retold
from ego_ops.corpora.hdepic_table import narrations
from ego_ops.corpora.sentence import parse
from ego_ops.corpora.skipped import Skipped
from ego_ops.errors import UserError
from ego_ops.recording import Recording

VERSION = "1.0"
TURNS = 1
TABLE = "narrations-and-action-segments"
MOVES = "scene-and-object-movements"


def index(root: str) -> Iterator[Clip | Skipped]:
    """Clips of all videos, by video and time.

    Raises:
        UserError: `root` is no folder, holds neither narrations nor movements, or one of these
            files cannot be read.
    """
    base = Path(os.path.abspath(root))
    table, tracks = below(base, TABLE), below(base, MOVES)
    told: dict[str, list[dict[str, Any]]] = {}
    moved = moves(base / tracks) if tracks and (base / tracks / "assoc_info.json").exists() else {}
    if not (base / table).is_dir() or not any((base / table).glob("HD_EPIC_Narrations.*")):
        if not moved:
            raise UserError(
                f"--root {root}: no HD-EPIC here (looked for {TABLE}/HD_EPIC_Narrations.pkl "
                f"and {MOVES}/assoc_info.json, also one folder further down)"
            )
        yield Skipped("no_narrations", TABLE, "HD_EPIC_Narrations.pkl is not there")
    else:
        for row in narrations(base / table):
            told.setdefault(str(row["video_id"]), []).append(row)
    if not moved:
        yield Skipped("no_movements", MOVES, "assoc_info.json is not there")
    elif not any((base / tracks / name).exists() for name in MASKS):
        yield Skipped("no_boxes", MOVES, "mask_info.json is not there: clips go without boxes")
    for video in sorted(told.keys() | moved.keys()):
        yield from _clips(base, video, told.get(video, []), moved.get(video, []))


def recording(clip: Clip) -> Recording:
    """Lens, camera path, points and, where their folder is there, hands of a clip, from MPS.

    Raises:
        MissingFileError: a file is not there.
        AnnotationError: a file is unusable, or does not cover the clip.
    """
    sheet = clip.video.removesuffix(".mp4") + CLOCK
    clock = device_clock.of_mp4(sheet, clip.t_start, clip.t_end)
    return mps.recording(
        clip.annotation, clock, clip.t_start, clip.t_end, turns=TURNS, hands_folder=hands(clip)
    )


def endpoints(root: str, clip: Clip) -> tuple[Point, Point] | None:
    """Where the thing of a clip was picked up and where it was placed, as annotated.

    Args:
        root: of the annotations, as given to `index`.

    Returns:
        Two points in the world of the clip's `recording`, metres; None where the clip is no whole
        movement, or either point is not annotated.
    """
    base = Path(os.path.abspath(root))
    for move in moves(base / below(base, MOVES)).get(clip.video_uid, ()):
        if _id(clip.video_uid, move.start, move.end, move.uid) == clip.clip_id:
            first, last = (move.points[0], move.points[-1]) if move.points else (None, None)
            return (first, last) if len(move.points) > 1 and first and last else None
    return None


def _clips(
    base: Path, video: str, rows: list[dict[str, Any]], tracks: list[Move]
) -> Iterator[Clip | Skipped]:
    """The clips of one video."""
    path, slam, missing = locate(base, video)
    if missing:
        yield Skipped(missing[0], video, missing[1], len(rows) + len(tracks))
        return
    actions = {str(row["unique_narration_id"]): row for row in rows}
    found = []
    for one in candidates([_narration(row) for row in rows], math.inf, video):
        if isinstance(one, Skipped):
            yield one
        else:
            found.append(_by_action(one, actions[one.uid]))
    told = match(found, tracks)
    ready: list[tuple[Candidate, tuple[Box, ...]]] = [
        (retold(move, told.by_move.get(move.uid, ())), move.boxes)
        for move in tracks
        if move.is_clip
    ]
    inside = {said.uid for group in told.by_move.values() for said in group}
    ready += [(one, told.boxes.get(one.uid, ())) for one in found if one.uid not in inside]
    for one, boxes in sorted(ready, key=lambda pair: (pair[0].t_start, pair[0].uid)):
        yield _clip(base, video, path, slam, one, boxes)
    other = [move for move in tracks if not move.is_clip]
    long = [move for move in other if move.end - move.start > LONGEST]
    if inside:
        yield Skipped(
            "same_movement", video, "narrations of a movement that is a clip", len(inside)
        )
    if long:
        yield Skipped("long_movement", video, f"of the {long[0].name}", len(long))
    if len(other) > len(long):
        yield Skipped("too_short", video, "movements", len(other) - len(long))


def _narration(row: dict[str, Any]) -> Narration:
    start, end = (
        math.nan if row[key] is None else float(row[key])
        for key in ("start_timestamp", "end_timestamp")
    )
    uid = str(row["unique_narration_id"])
    return Narration(uid, row["narration"] or "", start, (start, end))


def _by_action(one: Candidate, row: dict[str, Any]) -> Candidate:
    """A candidate with verb and thing of the first action that the annotators took from it."""
    for pair in [*_pairs(row.get("main_actions")), *_pairs(row.get("pairs"))]:
        verb = pair[0].replace("-", " ")
        head, *modifiers = pair[1].split(":")  # `tap:hot` is the hot tap
        thing = " ".join([*modifiers, head])
        if not parse(f"{verb} the {thing}").reason:
            return replace(one, verb=verb, object=thing)
    return one


def _pairs(cell: Any) -> Iterator[tuple[str, str]]:
    """Pairs of (verb, noun), whichever way a Parquet file of the user's keeps them."""
    for pair in cell if isinstance(cell, list) else ():
        words = list(pair.values()) if isinstance(pair, dict) else pair
        if isinstance(words, list) and len(words) == 2 and all(words):
            yield str(words[0]), str(words[1])


def _id(video: str, start: float, end: float, uid: str) -> str:
    return clip_id("hdepic", VERSION, video, start, end, uid)


def _clip(
    base: Path, video: str, path: str, slam: str, one: Candidate, boxes: tuple[Box, ...]
) -> Clip:
    return Clip(
        clip_id=_id(video, one.t_start, one.t_end, one.uid),
        corpus="hdepic",
        corpus_version=VERSION,
        video_uid=video,
        root=str(base),
        video_path=path,
        annotation_path=slam,
        t_start=one.t_start,
        t_end=one.t_end,
        narration=one.narration,
        verb=one.verb,
        object=one.object,
        boxes=boxes,
        interval=one.interval,
    )
