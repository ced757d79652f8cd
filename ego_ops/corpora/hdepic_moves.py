"""HD-EPIC's object movements: what was moved, when, from where to where, and where it was seen."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ego_ops.clip import Box
from ego_ops.corpora.candidates import Candidate
from ego_ops.errors import UserError

FPS = 30.0
MASKS = ("mask_info.json", "frame_info.json")
SHORTEST, LONGEST = 0.5, 20.0
"""Seconds of a movement that is one clip. In longer ones (one in nine) a thing is carried about
and used, which the narrations tell apart."""
INSIDE = 0.5
"""Share of a narration's interval in a movement from which it tells of that movement."""

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Move:
    """One movement of one thing, from its pick-up to its placement."""

    uid: str
    name: str
    start: float
    end: float
    boxes: tuple[Box, ...] = ()
    """As annotated, in the order of time: as a rule one at the start and one at the end."""
    points: tuple[Point | None, ...] = field(default=(), repr=False)
    """Where the thing was at each box: world, metres."""

    @property
    def is_clip(self) -> bool:
        """Whether the movement is one manipulation: neither a twitch nor a long use."""
        return SHORTEST <= self.end - self.start <= LONGEST


def moves(folder: Path) -> dict[str, list[Move]]:
    """All movements by video, in the order of time, of `scene-and-object-movements`.

    `assoc_info.json` names them; boxes and points are in `mask_info.json` (in an earlier release
    `frame_info.json`, with `all_frames` for `masks`) and lacking without it. Movements without a
    usable interval are left out.

    Raises:
        UserError: a file is no JSON object.
    """
    masks = next((p for p in map(folder.joinpath, MASKS) if p.is_file()), None)
    files = (folder / "assoc_info.json", masks)
    return _moves_of(files, tuple(path and path.stat().st_mtime_ns for path in files))


@lru_cache(maxsize=1)
def _moves_of(
    files: tuple[Path, Path | None], _changed: tuple[int | None, ...]
) -> dict[str, list[Move]]:
    seen = _load(files[1]) if files[1] else {}
    found = {}
    for video, things in _load(files[0]).items():
        tracks = [move for thing in _values(things) for move in _moves(thing, seen.get(video))]
        found[video] = sorted(tracks, key=lambda move: (move.start, move.end, move.uid))
    return found


def _load(path: Path) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            data = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable JSON ({error}); download it again") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: holds no JSON object")
    return data


def _values(data: Any) -> list[Any]:
    return list(data.values()) if isinstance(data, dict) else []


def _moves(thing: Any, masks: Any) -> Iterator[Move]:
    """The movements of one thing."""
    if not isinstance(thing, dict):
        return
    for track in thing.get("tracks") or ():
        span = _floats(track.get("time_segment"), 2)
        if span is None or not 0 <= span[0] < span[1]:
            continue
        ids = track.get("masks", track.get("all_frames")) or ()
        marks = [_mark(masks.get(key)) for key in ids] if isinstance(masks, dict) else []
        seen = sorted((mark for mark in marks if mark is not None), key=lambda mark: mark[0].t)
        name = re.sub(r"\s*\d+$", "", str(thing.get("name") or "").strip())
        yield Move(
            str(track.get("track_id")),
            name,
            span[0],
            span[1],
            tuple(box for box, _ in seen),
            tuple(point for _, point in seen),
        )


def _mark(mask: Any) -> tuple[Box, Point | None] | None:
    """The box of a mask, and where its thing is; None where there is no box."""
    if not isinstance(mask, dict):
        return None
    box = _floats(mask.get("bbox"), 4)
    frame = _floats([mask.get("frame_number")], 1)
    if box is None or frame is None or not (box[0] < box[2] and box[1] < box[3]):
        return None
    point = _floats(mask.get("3d_location"), 3)
    return Box(frame[0] / FPS, *box), (point[0], point[1], point[2]) if point else None


def _floats(values: Any, count: int) -> list[float] | None:
    """`count` finite numbers, or None."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


@dataclass
class Told:
    """What narrations and movements of one video have to do with each other."""

    by_move: dict[str, list[Candidate]]
    """Narrations that tell of a movement that is a clip, by its uid, in the order of time."""
    boxes: dict[str, tuple[Box, ...]]
    """Boxes of the thing during other narrations, by their uid."""


def match(narrations: Sequence[Candidate], tracks: Sequence[Move]) -> Told:
    """Which narrations are of which movements: those of the same thing at the same time.

    Names are the same if they end alike and all words of one are in the other (`knife`, `butter
    knife`). Of several movements the one with the longest common time counts.

    Args:
        narrations: candidates, sorted by start.
        tracks: movements, sorted by start.
    """
    starts = [track.start for track in tracks]
    longest = max((track.end - track.start for track in tracks), default=0.0)
    told = Told({}, {})
    for said in narrations:
        low = bisect_left(starts, said.t_start - longest)
        near = tracks[low : bisect_right(starts, said.t_end)]
        common = [(min(said.t_end, m.end) - max(said.t_start, m.start), m) for m in near]
        same = [(c, m) for c, m in common if c > 0 and _same(said.object, m.name)]
        enough = INSIDE * (said.t_end - said.t_start)
        clips = [(c, m) for c, m in same if m.is_clip and c >= enough]
        if clips:
            best = max(clips, key=lambda pair: pair[0])[1]
            told.by_move.setdefault(best.uid, []).append(said)
        elif same:
            best = max(same, key=lambda pair: pair[0])[1]
            inside = (box for box in best.boxes if said.t_start <= box.t <= said.t_end)
            told.boxes[said.uid] = tuple(inside)
    return told


def _same(a: str, b: str) -> bool:
    (head_a, words_a), (head_b, words_b) = _words(a), _words(b)
    return head_a == head_b != "" and (words_a <= words_b or words_b <= words_a)


def _words(name: str) -> tuple[str, frozenset[str]]:
    """The word of a name that says what it is (`bottle of oil`, `oil bottle`), and all of them."""
    words = [word.removesuffix("s") for word in name.lower().split()]
    head = words[: words.index("of")] if "of" in words[1:] else words
    return head[-1] if head else "", frozenset(words) - {"of"}


def retold(move: Move, told: Sequence[Candidate]) -> Candidate:
    """A movement as a candidate, in the words of the first and the last narration of it."""
    bare = Candidate(
        move.uid, move.start, move.end, f"Move the {move.name}.", "move", move.name, "annotated"
    )
    if not told:
        return bare
    texts = dict.fromkeys(said.narration.strip().rstrip(".") for said in (told[0], told[-1]))
    text = ". ".join(texts) + "."
    return replace(bare, narration=text, verb=told[0].verb)
