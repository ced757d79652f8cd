"""Your own video: recordings in a folder, and one table that says what happens in them.

`{root}/clips.csv` (or `clips.jsonl`, one object a line), by column:

    path         video, relative to the folder
    start, end   the moment: seconds, or [hours:]minutes:seconds
    text         what is done, in a sentence
    object       what is handled                                                       (optional)
    verb         what is done to it                                                    (optional)
    id           names the clip; without it the text does                              (optional)
    fov          horizontal field of view of the picture, degrees  \\
    intrinsics   a camera file (see `camera_file`)                 /  else `{root}/camera.json`
    poses        the camera's path (see `pose_file`)                                   (optional)
    pose_axes    `opencv` (the default) or `opengl`: the axes of those poses           (optional)
    imu          gyroscope and accelerometer (see `imu_file`), where there are no poses (optional)

How to film, calibrate and record so that clips come out: `your-own-video.md` beside this file.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ego_ops.camera import Camera
from ego_ops.clip import Clip, clip_id
from ego_ops.corpora import camera_file, imu_file, pose_file
from ego_ops.corpora.skipped import Skipped
from ego_ops.errors import AnnotationError, UserError
from ego_ops.lens import Lens
from ego_ops.pictures import picture_size
from ego_ops.recording import Recording

VERSION = "1"
TABLES = ("clips.csv", "clips.jsonl")
REQUIRED = ("path", "start", "end", "text")
OPTIONAL = ("object", "verb", "id", "fov", "intrinsics", "poses", "pose_axes", "imu")
LONGEST = 60.0
"""Seconds: a clip is one manipulation, not a whole recording."""


def index(root: str) -> Iterator[Clip | Skipped]:
    """The clips of the folder's table, in its order.

    Raises:
        UserError: there is no folder, no table in it, or the table lacks a column.
    """
    base = Path(os.path.abspath(root))
    if not base.is_dir():
        raise UserError(f"--root {root}: no such folder")
    tables = [base / name for name in TABLES if (base / name).is_file()]
    if len(tables) != 1:
        state = "both, keep one" if tables else f"no {' or '.join(TABLES)}"
        raise UserError(f"--root {root}: {state}; it says what happens in the videos")
    default = "camera.json" if (base / "camera.json").is_file() else ""
    for number, row in _rows(tables[0]):
        where = f"{tables[0].name}, line {number}"
        try:
            yield _clip(base, {**row, "intrinsics": row.get("intrinsics") or default}, where)
        except _Unusable as error:
            yield Skipped(error.reason, where, error.detail)


def recording(clip: Clip) -> Recording:
    """Camera, and path or inertial readings where the table names them.

    Raises:
        MissingFileError, AnnotationError: a file that the table names is missing or unusable.
    """
    row = json.loads(clip.details)
    camera, lens = _camera(clip, row)
    path = imu = None
    if row.get("poses"):
        path = pose_file.read(os.path.join(clip.root, row["poses"]), row["pose_axes"])
    if row.get("imu"):
        imu = imu_file.read(os.path.join(clip.root, row["imu"]))
    return Recording(camera, path, lens=lens, imu=imu)


class _Unusable(Exception):
    """A line of the table that is no clip."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def _rows(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of the line and columns of every line; raises UserError where one is no row."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            if table.suffix == ".csv":
                reader = csv.DictReader(file, skipinitialspace=True)
                _check_columns(table, reader.fieldnames or [])
                for row in reader:
                    yield reader.line_num, {k: v for k, v in row.items() if isinstance(k, str)}
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise UserError(f"{table}, line {number}: not a JSON object")
                    _check_columns(table, [*REQUIRED, *row])
                    yield number, row
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise UserError(f"{table}: cannot be read ({error}); save it as UTF-8") from error


def _check_columns(table: Path, columns: Any) -> None:
    lacking = [name for name in REQUIRED if name not in columns]
    strange = [name for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    if lacking:
        raise UserError(
            f"{table}: lacks the column {', '.join(lacking)} (has {', '.join(columns) or 'none'})"
        )
    if strange:  # a misspelled `poses` must not be passed over
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise UserError(f"{table}: column {', '.join(map(str, strange))} unknown (known: {known})")


def _clip(root: Path, row: dict[str, Any], where: str) -> Clip:
    values = {name: row.get(name) for name in (*REQUIRED, *OPTIONAL)}
    texts = {n: "" if value is None else str(value).strip() for n, value in values.items()}
    video = os.path.normpath(texts["path"])
    start, end = _seconds(texts["start"], "start"), _seconds(texts["end"], "end")
    text = " ".join(texts["text"].split())
    if not text:
        raise _Unusable("no_description", "text is empty")
    if not 0 <= start < end or end - start > LONGEST:
        raise _Unusable(
            "bad_interval", f"{start:g} s to {end:g} s: wanted 0 <= start < end, {LONGEST:g} s long"
        )
    if texts["pose_axes"] and texts["pose_axes"] not in pose_file.AXES:
        known = ", ".join(pose_file.AXES)
        raise _Unusable("bad_row", f"pose_axes {texts['pose_axes']!r} unknown (known: {known})")
    _check_files(root, video, texts)
    uid = os.path.splitext(video)[0]
    details = {
        "fov": _fov(texts["fov"]),
        "pose_axes": texts["pose_axes"] or "opencv",
        **{name: texts[name] for name in ("intrinsics", "poses", "imu") if texts[name]},
    }
    return Clip(
        clip_id=clip_id("folder", VERSION, uid, start, end, texts["id"] or text),
        corpus="folder",
        corpus_version=VERSION,
        video_uid=uid,
        root=str(root),
        video_path=video,
        annotation_path=texts["poses"],
        t_start=start,
        t_end=end,
        narration=text,
        verb=texts["verb"],
        object=texts["object"],
        details=json.dumps(details),
    )


def _check_files(root: Path, video: str, texts: dict[str, str]) -> None:
    """See that the files which a line names are there."""
    if video.startswith("..") or os.path.isabs(video):
        raise _Unusable("bad_row", f"path {video} is not within the folder")
    if not (root / video).is_file():
        raise _Unusable("no_video", f"{video} is missing")
    if not texts["fov"] and not texts["intrinsics"]:
        raise _Unusable("no_intrinsics", "give fov or intrinsics, or write a camera.json")
    for name in ("intrinsics", "poses", "imu"):
        if texts[name] and not (root / texts[name]).is_file():
            raise _Unusable(f"no_{name}", f"{texts[name]} is missing")


def _seconds(text: str, column: str) -> float:
    """`12.5`, `1:02.5` or `1:00:02.5`."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or not all(map(math.isfinite, parts)):
        raise _Unusable(
            "bad_interval", f"{column} is {text!r}, not seconds or hours:minutes:seconds"
        )
    return sum(part * 60**place for place, part in enumerate(reversed(parts)))


def _fov(text: str) -> float | None:
    if not text:
        return None
    try:
        degrees = float(text)
    except ValueError:
        degrees = math.nan
    if not 5 < degrees < 175:
        raise _Unusable("no_intrinsics", f"fov is {text!r}, not degrees from 5 to 175")
    return degrees


def _camera(clip: Clip, row: dict[str, Any]) -> tuple[Camera, Lens | None]:
    if row.get("intrinsics"):
        return camera_file.read(os.path.join(clip.root, row["intrinsics"]))
    if not row.get("fov"):
        raise AnnotationError(f"{clip.video}: its manifest row names neither fov nor intrinsics")
    width, height = picture_size(clip.video)
    focal = width / 2 / math.tan(math.radians(row["fov"]) / 2)
    return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height), None
