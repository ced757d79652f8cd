"""Ego-Exo4D (v2): Aria recordings with atomic descriptions, as the `egoexo` downloader lays them.

    takes.json                                          every take: cameras, capture, times
    annotations/atomic_descriptions_{train,val}.json    sentences of several annotators, instants
    captures/<capture>/timesync.csv                     capture times, a row an instant
    takes/<take>/frame_aligned_videos/aria01_214-1.mp4  or, in downscaled/448/, 448 x 448
    takes/<take>/trajectory/                            MPS: trajectory, calibration, points

From the tutorials in github.com/facebookresearch/Ego4d (`notebooks/egoexo`): frame i of a take's
video, at i/30 s, belongs to row `timesync_start_idx` + 1 + i of `timesync.csv`; and from
github.com/EGO4D/ego-exo4d-egopose (`handpose/data_preparation/main.py`): its picture is the
sensor's turned 90 degrees clockwise, upright.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from ego_ops.clip import Clip, clip_id
from ego_ops.corpora import device_clock, mps
from ego_ops.corpora.candidates import Candidate, Narration, candidates
from ego_ops.corpora.egoexo4d_takes import FPS, Take, locate, number, takes, truth
from ego_ops.corpora.json_stream import entries
from ego_ops.corpora.skipped import Skipped
from ego_ops.errors import AnnotationError, MissingFileError, UserError
from ego_ops.recording import Recording

VERSION = "v2"
TURNS = 1
DESCRIPTIONS = "annotations/atomic_descriptions_*.json"


def index(root: str) -> Iterator[Clip | Skipped]:
    """Clips of the wearer's manipulations, in the order of the annotation files.

    Raises:
        UserError: `root` is no folder, or lacks `takes.json` or the descriptions; or one of these
            is no JSON.
    """
    base = Path(os.path.abspath(root))
    files = sorted(base.glob(DESCRIPTIONS))
    if not (base / "takes.json").is_file() or not files:
        raise UserError(
            f"--root {root}: no Ego-Exo4D here (looked for takes.json and {DESCRIPTIONS}; "
            "`egoexo --parts metadata annotations` brings them)"
        )
    known = dict(takes(base))
    for file in files:
        where = str(file.relative_to(base))
        for uid, annotators in entries(str(file), "annotations"):
            if isinstance(annotators, list):  # other entries of the file are objects
                yield from _clips(base, uid, known.get(uid), annotators, f"{where}: {uid}")


def recording(clip: Clip) -> Recording:
    """Lens, camera path and points of a clip, from MPS; hands where MPS tracked them.

    Raises:
        MissingFileError: a file is not there.
        AnnotationError: a file is unusable, or does not cover the clip.
    """
    known = json.loads(clip.details)
    sheet = os.path.join(clip.root, known["timesync"])
    stream = PurePosixPath(clip.video_path).stem
    times = _capture_times(sheet, f"{stream}_capture_timestamp_ns")[known["first_row"] :]
    around = device_clock.AROUND
    low = max(0, math.floor((clip.t_start - around) * FPS))
    high = max(low, min(len(times), math.ceil((clip.t_end + around) * FPS) + 1))
    clock = device_clock.paired(np.arange(low, high) / FPS, times[low:high], sheet)
    return mps.recording(clip.annotation, clock, clip.t_start, clip.t_end, turns=TURNS)


@lru_cache(maxsize=4)
def _capture_times(path: str, column: str) -> NDArray[np.float64]:
    """(N,) capture times by row, nanoseconds on the device's clock; NaN where the cell is empty."""
    try:
        with fsspec.open(path, "rb") as file:
            wanted = arrow_csv.ConvertOptions(
                include_columns=[column], column_types={column: pa.float64()}
            )
            table = arrow_csv.read_csv(pa.BufferReader(file.read()), convert_options=wanted)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file") from error
    except OSError as error:
        raise MissingFileError(f"{path}: cannot be opened ({error})") from error
    except KeyError as error:
        raise AnnotationError(f"{path}: has no column {column}") from error
    except pa.ArrowInvalid as error:
        raise AnnotationError(f"{path}: not a table ({str(error).splitlines()[0]})") from error
    return table[column].to_numpy().astype(float)


def _clips(
    base: Path, uid: str, take: Take | None, annotators: list[Any], where: str
) -> Iterator[Clip | Skipped]:
    """The clips of one take."""
    narrations = [n for annotator in annotators for n in _narrations(annotator)]
    if not narrations:
        return
    video, missing = locate(base, take)
    if missing:
        yield Skipped(missing[0], where, missing[1], len(narrations))
    if take is None or missing:
        return
    for found in candidates(narrations, take.duration, where):
        yield _clip(base, uid, take, video, found) if isinstance(found, Candidate) else found


def _clip(base: Path, uid: str, take: Take, video: str, found: Candidate) -> Clip:
    return Clip(
        clip_id=clip_id("egoexo4d", VERSION, uid, found.t_start, found.t_end, found.uid),
        corpus="egoexo4d",
        corpus_version=VERSION,
        video_uid=uid,
        root=str(base),
        video_path=video,
        annotation_path=f"{take.folder}/trajectory",
        t_start=found.t_start,
        t_end=found.t_end,
        narration=found.narration,
        verb=found.verb,
        object=found.object,
        interval=found.interval,
        # `takes.json` is far too large to look these up in it for every clip.
        details=json.dumps({"timesync": take.timesync, "first_row": take.first_row}),
    )


def _narrations(annotator: Any) -> Iterator[Narration]:
    """What one annotator wrote about a take."""
    if not isinstance(annotator, dict):
        return
    rejected = truth(annotator.get("rejected"))
    seen: Counter[str] = Counter()
    for said in annotator.get("descriptions") or ():
        if not isinstance(said, dict):
            continue
        t = number(said.get("timestamp"))
        key = f"{annotator.get('annotation_uid')}@{t:.3f}"
        seen[key] += 1
        uid = key if seen[key] == 1 else f"{key}#{seen[key]}"
        drop = "rejected" if rejected else _drop(said)
        yield Narration(uid, str(said.get("text") or ""), t, None, drop)


def _drop(said: dict[str, Any]) -> str:
    """Why the annotator rules a description out; the documentation calls the field `subject`, its
    sample `narration_subject`."""
    subject = said.get("subject", said.get("narration_subject"))
    if subject and str(subject).strip().upper() != "C":
        return "other_person"
    if truth(said.get("unsure")):
        return "unsure"
    visible = said.get("ego_visible")
    return "" if visible is None or truth(visible) else "not_visible"
