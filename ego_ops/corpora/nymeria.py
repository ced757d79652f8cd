"""Nymeria (and NymeriaPlus): everyday activities through Aria glasses, RGB at 15 frames a second.

A folder a sequence, as the downloaders of github.com/facebookresearch/nymeria_dataset lay them:

    narration/atomic_action.csv      sentences about intervals of some 5 s, several actions in each
    recording_head/data/data.vrs     the wearer's RGB camera
    recording_head/mps/slam/         MPS: trajectory, calibration, points

Times of the narrations are seconds on the device's clock, which starts long before the recording;
second 0 of a video is the capture time of its first RGB frame. That costs reading the header of
each VRS file once, with projectaria-tools. An MP4 made of it by projectaria-tools' `vrs_to_mp4`
(which turns the picture upright) may lie beside or instead of it in `data/`, if what that tool
logs, `<name>_mp4_to_vrs_time_ns.csv` or `mp4_to_vrs_time_ns.csv`, lies there too.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np

from ego_ops.apart import Apart
from ego_ops.clip import Clip, clip_id
from ego_ops.corpora import device_clock, mps
from ego_ops.corpora.candidates import Candidate, Narration, candidates
from ego_ops.corpora.skipped import Skipped
from ego_ops.errors import AnnotationError, DecodeError, MissingFileError, UserError
from ego_ops.recording import Recording
from ego_ops.video_vrs import is_vrs, vrs_start_ns

VERSION = "v0.0"
TABLE = "narration/atomic_action.csv"
SLAM = "recording_head/mps/slam"
DATA = "recording_head/data"
COLUMN = "atomic action"
"""The column with the text is named by the annotator's task, `Describe my atomic actions`."""
CLOCK = "mp4_to_vrs_time_ns.csv"


class _Video(NamedTuple):
    path: str
    start_ns: int
    """Capture time of its first frame, on the device's clock."""


def index(root: str) -> Iterator[Clip | Skipped]:
    """Clips of every sequence below `root` (or of the one that it is), by sequence and time.

    Raises:
        UserError: `root` is no folder or holds no sequence; or projectaria-tools is needed and
            not installed.
    """
    base = Path(os.path.abspath(root))
    folders = [base] if _is_sequence(base) else []
    if base.is_dir() and not folders:
        folders = sorted(path for path in base.iterdir() if _is_sequence(path))
    if not folders:
        raise UserError(
            f"--root {root}: no Nymeria sequences here (looked for <sequence>/{TABLE} "
            "and <sequence>/recording_head)"
        )
    home = folders[0].parent
    with Apart() as apart:  # projectaria-tools crashes on some damaged files
        for folder in folders:
            yield from _sequence(home, folder, apart)


def recording(clip: Clip) -> Recording:
    """Lens, camera path, points and, where MPS tracked them, hands of a clip.

    Raises:
        MissingFileError: a file is not there.
        AnnotationError: a file is unusable, or does not cover the clip.
    """
    if is_vrs(clip.video):
        clock = mps.Clock(np.zeros(1), np.array([json.loads(clip.details)["start_ns"]]))
        return mps.recording(clip.annotation, clock, clip.t_start, clip.t_end, turns=0)
    sheet = _sheet(clip.video)
    if not sheet:
        raise MissingFileError(f"{clip.video}: its {CLOCK} is not beside it")
    clock = device_clock.of_mp4(sheet, clip.t_start, clip.t_end)
    return mps.recording(clip.annotation, clock, clip.t_start, clip.t_end, turns=1)


def _is_sequence(path: Path) -> bool:
    return (path / "narration").is_dir() or (path / "recording_head").is_dir()


def _sequence(home: Path, folder: Path, apart: Apart) -> Iterator[Clip | Skipped]:
    """The clips of one sequence."""
    where = f"{folder.name}/{TABLE}"
    try:
        narrations = list(_narrations(folder / TABLE))
    except FileNotFoundError:
        yield Skipped("no_narration", where, "the file is not there")
        return
    except (csv.Error, ValueError, OSError) as error:
        yield Skipped("bad_annotation", where, str(error))
        return
    if not narrations:
        yield Skipped("no_narration", where, "the file has no row")
        return
    try:
        video, last = _video(folder, apart), _last_pose(folder)
    except _Missing as missing:
        yield Skipped(missing.reason, folder.name, str(missing), len(narrations))
        return
    # On the device's clock an id is the same whichever video is there.
    late = 0
    for found in candidates(narrations, math.inf, where):
        if isinstance(found, Skipped):
            yield found
            continue
        clip = _clip(home, folder, video, found, last)
        if clip is None:
            late += 1
        else:
            yield clip
    if late:
        span = f"{video.start_ns / 1e9:.1f} to {last:.1f} s on the device's clock"
        yield Skipped("outside_recording", where, f"the recording is {span}", late)


class _Missing(Exception):
    """A file of a sequence is not there, or not usable."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


def _video(folder: Path, apart: Apart) -> _Video:
    """The wearer's video and when it begins; an MP4 whose times are known is quicker to read."""
    without = ""
    for path in sorted((folder / DATA).glob("*.mp4")):
        sheet = _sheet(str(path))
        if not sheet:
            without = path.name
            continue
        try:
            clock = device_clock.of_mp4(sheet, 0.0, 0.0)
        except (AnnotationError, MissingFileError) as error:
            raise _Missing("bad_clock", str(error)) from error
        return _Video(str(path), int(clock.to_device_ns(0.0)))
    vrs = folder / DATA / "data.vrs"
    if vrs.is_file():
        try:
            return _Video(str(vrs), apart(vrs_start_ns, str(vrs)))
        except (DecodeError, MissingFileError) as error:
            raise _Missing("bad_video", str(error)) from error
    if without:
        raise _Missing("no_clock", f"{DATA}/{without} has no {CLOCK} beside it")
    raise _Missing("no_video", f"{DATA}/data.vrs is not there")


def _sheet(video: str) -> str:
    """The table of an MP4's capture times; empty where there is none."""
    fs, _ = fsspec.core.url_to_fs(video)
    for path in (f"{os.path.splitext(video)[0]}_{CLOCK}", f"{os.path.dirname(video)}/{CLOCK}"):
        if fs.exists(path):
            return path
    return ""


def _last_pose(folder: Path) -> float:
    """When the trajectory ends, in seconds on the device's clock."""
    path = folder / SLAM / "closed_loop_trajectory.csv"
    for reason, name in (
        ("no_trajectory", "closed_loop_trajectory.csv"),
        ("no_calibration", "online_calibration.jsonl"),
    ):
        if not (folder / SLAM / name).is_file():
            raise _Missing(reason, f"{SLAM}/{name} is not there")
    with open(path, "rb") as file:
        head = file.readline().decode("utf-8-sig", "replace").strip().split(",")
        file.seek(max(0, path.stat().st_size - 8192))
        lines = file.read().decode("utf-8", "replace").split("\n")
    column = "tracking_timestamp_us"
    for line in reversed(lines):
        cells = line.strip().split(",")
        if column in head and len(cells) == len(head):
            return _number(cells[head.index(column)]) / 1e6
    raise _Missing("bad_trajectory", f"{SLAM}/{path.name} has no rows with {column}")


def _narrations(path: Path) -> Iterator[Narration]:
    """The rows of a narration table.

    Raises:
        ValueError: there is no column with the text, or none with the times.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        names = [name or "" for name in rows.fieldnames or ()]
        text = next((name for name in names if COLUMN in name.lower()), None)
        if names and (text is None or not {"start_time", "end_time"} <= set(names)):
            raise ValueError(f"has no columns start_time, end_time and Describe my {COLUMN}s")
        for row in rows:
            said = (row[text] or "").strip() if text else ""
            if said:
                span = _number(row["start_time"]), _number(row["end_time"])
                uid = row.get("request_id") or row.get("gaia_id") or said
                yield Narration(uid, said, span[0], span)


def _clip(home: Path, folder: Path, video: _Video, found: Candidate, last: float) -> Clip | None:
    """A clip in seconds of the video; None where the narration is not within the recording."""
    first = video.start_ns / 1e9
    t_start, t_end = max(found.t_start - first, 0.0), min(found.t_end, last) - first
    if t_end - t_start < 0.5 * (found.t_end - found.t_start):
        return None
    named = clip_id("nymeria", VERSION, folder.name, found.t_start, found.t_end, found.uid)
    return Clip(
        clip_id=named,
        corpus="nymeria",
        corpus_version=VERSION,
        video_uid=folder.name,
        root=str(home),
        video_path=os.path.relpath(video.path, home),
        annotation_path=f"{folder.name}/{SLAM}",
        t_start=t_start,
        t_end=t_end,
        narration=found.narration,
        verb=found.verb,
        object=found.object,
        interval=found.interval,
        # Opening the VRS file for this costs more than all else that a clip needs to know.
        details=json.dumps({"start_ns": video.start_ns}),
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
