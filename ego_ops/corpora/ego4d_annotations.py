"""What Ego4D's annotation files say, freed from JSON.

`ego4d.json` lists the videos, `narration.json` has sentences at instants, and `fho_main.json` has
actions with their interval and boxes of the thing that is moved. Any field may be null or absent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ego_ops.clip import Box
from ego_ops.corpora.candidates import Narration
from ego_ops.corpora.json_stream import entries

NO_VERB = frozenset({"", "none", "[other]", "cross"})
MOVED = "object_of_change"


@dataclass(frozen=True)
class Video:
    """What the annotation files say of a video."""

    duration: float = math.inf
    fps: float = math.nan
    width: int = 0
    """Pixels; 0 where not told, as is then `height`."""
    height: int = 0
    device: str = ""


@dataclass(frozen=True)
class Action:
    """A narrated action of the hands-and-objects benchmark."""

    narration: Narration
    annotation_uid: str
    """Of the narration that it was made from; all narrations of one annotator's pass share it."""
    verb: str
    """Empty where the taxonomy has none."""
    boxes: tuple[Box, ...]
    """Of the moved thing, in pixels of the full-scale video."""


def videos(path: str) -> dict[str, Video]:
    """The videos of `ego4d.json` by uid."""
    found = {}
    for _, value in entries(path, "videos"):
        if isinstance(value, dict) and isinstance(value.get("video_uid"), str):
            device = _text(value.get("device"))
            found[value["video_uid"]] = _video(_dict(value.get("video_metadata")), value, device)
    return found


def actions(path: str, known: Mapping[str, Video]) -> Iterator[tuple[str, Video, list[Action]]]:
    """Every video of `fho_main.json`: its uid, the video, its actions.

    The video is that of `known`, else what this file says of it.
    """
    for key, value in entries(path, "videos", "video_data"):
        if not isinstance(value, dict):
            continue
        uid = _text(value.get("video_uid")) or key
        stream = _dict(value.get("video_metadata"))
        video = known.get(uid) or _video(stream, stream, "")
        fps = number(stream.get("fps"))
        fps = fps if fps > 0 else video.fps
        yield uid, video, [_action(action, fps) for action in _narrated(value)]


def narrations(path: str) -> Iterator[tuple[str, list[tuple[str, Narration]]]]:
    """Every video of `narration.json`: its uid, and its narrations, each with the uid of the
    annotator's pass that it is from."""
    for video_uid, value in entries(path, "videos"):
        if not isinstance(value, dict):
            continue
        told = []
        for part in (value.get("narration_pass_1"), value.get("narration_pass_2"), value):
            for entry in _list(_dict(part).get("narrations")):
                if isinstance(entry, dict):
                    uid = _text(entry.get("annotation_uid"))
                    text, t = _text(entry.get("narration_text")), number(entry.get("timestamp_sec"))
                    # A pass has one uid, so time and words tell its sentences apart.
                    told.append((uid, Narration(f"{uid}@{t:.3f}:{text.strip()}", text, t)))
        yield video_uid, told


def number(value: Any) -> float:
    """A JSON value as a float; NaN where it is no number."""
    return float(value) if isinstance(value, int | float) else math.nan


def _video(stream: dict[str, Any], length: dict[str, Any], device: str) -> Video:
    fps, frames = number(stream.get("fps")), number(stream.get("num_frames"))
    lengths = (number(length.get("duration_sec")), frames / fps if fps else math.nan)
    sides = []
    for side in ("width", "height"):
        names = (f"display_resolution_{side}", f"sample_resolution_{side}", side)
        sides.append(next((p for n in names if (p := number(stream.get(n))) > 0), 0))
    duration = next((seconds for seconds in lengths if seconds > 0), math.inf)
    width, height = map(round, sides) if all(sides) else (0, 0)
    return Video(duration, fps, width, height, device)


def _narrated(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for interval in _list(value.get("annotated_intervals")):
        yield from filter(None, map(_dict, _list(_dict(interval).get("narrated_actions"))))


def _action(action: dict[str, Any], fps: float) -> Action:
    start, end = number(action.get("start_sec")), number(action.get("end_sec"))
    timed = math.isfinite(start) or math.isfinite(end)
    t = number(action.get("narration_timestamp_sec"))
    if not math.isfinite(t) and timed:
        t = (start + end) / 2
    annotation_uid = _text(action.get("narration_annotation_uid"))
    ruled_out = (action.get("is_rejected") or action.get("is_invalid_annotation")) or action.get(
        "is_valid_action"
    ) is False
    text = _text(action.get("narration_text"))
    uid = _text(action.get("uid")) or f"fho:{annotation_uid}@{t:.3f}:{text}"
    narration = Narration(
        uid, text, t, (start, end) if timed else None, "rejected" if ruled_out else ""
    )
    verb = verb_of(action.get("structured_verb")) or verb_of(action.get("freeform_verb"))
    return Action(narration, annotation_uid, verb, tuple(_boxes(action.get("frames"), fps)))


def verb_of(name: Any) -> str:
    """The first name of a verb class: `turn on` of `turn_on_(switch_on,_start,_light)`."""
    plain = _text(name).partition("(")[0].replace("_", " ").strip().lower()
    return "" if plain in NO_VERB else plain


def _boxes(frames: Any, fps: float) -> Iterator[Box]:
    """Boxes of the moved thing, at the times of their frames."""
    seen = set()
    for frame in _list(frames):
        frame = _dict(frame)
        t = number(frame.get("frame_number")) / fps
        for box in _list(frame.get("boxes")):
            box = _dict(box)
            if box.get("object_type") != MOVED or not (math.isfinite(t) and t >= 0) or t in seen:
                continue
            sides = _dict(box.get("bbox"))
            x, y, width, height = (number(sides.get(k)) for k in ("x", "y", "width", "height"))
            if all(map(math.isfinite, (x, y))) and 0 < width < 1e5 and 0 < height < 1e5:
                seen.add(t)  # of several moved things the first
                yield Box(t, x, y, x + width, y + height)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
