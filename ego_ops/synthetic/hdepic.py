"""Videos in HD-EPIC's published layout, with truth in `truth/{video_id}.npz`."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ego_ops.synthetic import mps
from ego_ops.synthetic.aria_device import SIZE, aria_camera, glasses
from ego_ops.synthetic.scene import FPS, sample_scene
from ego_ops.synthetic.take import Take, write_truth
from ego_ops.synthetic.video import write_h264
from ego_ops.synthetic.wording import Wording, wording

RECIPES = (1, 5, 0, 3)
NARRATIONS = "narrations-and-action-segments"
MOVES = "scene-and-object-movements"
_VERBS = {"take": 0, "put": 1, "move": 11}
_NOUNS = {"box": 23, "can": 61, "book": 140}
_CLASSES = {"carton": "box"}
_TEXTS = ("unique_narration_id", "participant_id", "video_id", "narration")
_TIMES = ("start_timestamp", "end_timestamp", "narration_timestamp")
_COLUMNS = (
    "unique_narration_id", "participant_id", "video_id", "narration", "start_timestamp",
    "end_timestamp", "nouns", "verbs", "pairs", "main_actions", "verb_classes", "noun_classes",
    "pair_classes", "main_action_classes", "hands", "narration_timestamp",
)  # fmt: skip


class Filmed(NamedTuple):
    """One video, as the annotation files need it."""

    uid: str
    words: Wording
    span: tuple[float, float]
    """Seconds from pick-up to placement, on whole frames."""
    boxes: tuple[tuple[float, float, float, float], ...]
    places: tuple[tuple[float, float, float], ...]
    """The thing's middle in the world at both ends, metres."""
    seconds: float


def record(root: Path, number: int, seed: int, scale: float = 1.0) -> Filmed:
    """Film and write video `number` of the corpus of `seed`, all but its annotations.

    Args:
        scale: of the pictures' size.
    """
    scene = sample_scene(seed + 13, RECIPES[number % len(RECIPES)] + 6 * (number // len(RECIPES)))
    take = Take(scene, FPS, 132, begins=-0.1, clock=722.381 + 96.2 * number, drift=1.0004)
    uid = _uid(seed, number)
    person = uid.partition("-")[0]
    worn = glasses(seed + 20 + number, round(SIZE * scale))
    path = root / "Videos" / person / f"{uid}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    home = root / "SLAM-and-Gaze" / person
    slam = home / "SLAM" / "multi" / str(number) / "slam"
    # Annotators begin a movement some frames before it.
    span = (
        round((take.video_time(scene.contact) - 0.2) * FPS) / FPS,
        round((take.video_time(scene.release) + 0.1) * FPS) / FPS,
    )
    with aria_camera(take, worn, upright=True) as camera:
        write_h264(path, camera.frames(), (worn.size, worn.size), FPS)
        mps.write_points(slam / "semidense_points.csv.gz", take, camera)
        boxes = [box for box in camera.boxes(np.array(span)) if box is not None]
    mps.write_trajectory(slam / "closed_loop_trajectory.csv", take, worn)
    mps.write_calibration(slam / "online_calibration.jsonl", take, worn)
    hands = home / "GAZE_HAND" / f"mps_{uid}_vrs" / "hand_tracking"
    mps.write_hands(hands / "wrist_and_palm_poses.csv", take, worn)
    _write_clock(path.with_name(f"{uid}_mp4_to_vrs_time_ns.csv"), take)
    write_truth(root / "truth" / f"{uid}.npz", take)
    middle = scene.thing.mesh.vertices.mean(axis=0)
    x = take.object(take.scene_times(np.array(span))).apply(middle)
    places = tuple((float(p[0]), float(p[1]), float(p[2])) for p in x)
    return Filmed(uid, wording(scene.recipe), span, tuple(boxes), places, take.duration)


def annotate(root: Path, filmed: list[Filmed], seed: int) -> None:
    """Write what is said of all videos, and of one that is not there."""
    absent = filmed[0]._replace(uid=_uid(seed, 99))
    every = [*filmed, absent]
    for name in (NARRATIONS, MOVES):
        (root / name).mkdir(parents=True, exist_ok=True)
    _write_table(root / NARRATIONS / "HD_EPIC_Narrations.pkl", every)
    for kind, classes in (("verb", _VERBS), ("noun", _NOUNS)):
        with (root / NARRATIONS / f"HD_EPIC_{kind}_classes.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "key", "instances", "category"])
            writer.writerows([n, key, repr([key]), "demo"] for key, n in classes.items())
    tracks, masks = {}, {}
    for one in every:
        tracks[one.uid], masks[one.uid] = _movements(one)
    (root / MOVES / "assoc_info.json").write_text(json.dumps(tracks))
    (root / MOVES / "mask_info.json").write_text(json.dumps(masks))
    sessions: dict[Path, dict[str, str]] = {}
    for number, one in enumerate(filmed):
        multi = root / "SLAM-and-Gaze" / one.uid.partition("-")[0] / "SLAM" / "multi"
        name = f"/dataset/{one.uid}_anonymized.vrs"
        sessions.setdefault(multi, {})[name] = str(number)
    for multi, names in sessions.items():
        (multi / "vrs_to_multi_slam.json").write_text(json.dumps(names))


def _uid(seed: int, number: int) -> str:
    return f"P{1 + number % 9:02d}-2024{1 + seed % 12:02d}02-11{number:02d}50"


def _write_clock(path: Path, take: Take) -> None:
    stamps = take.device_ns(take.times)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["mp4_time_ns", "relative_vrs_device_time_ns", "vrs_device_time_ns"])
        for t, stamp in zip(take.times.tolist(), stamps.tolist(), strict=True):
            writer.writerow([round(t * 1e9), stamp - int(stamps[0]), stamp])


def _write_table(path: Path, filmed: list[Filmed]) -> None:
    """The narrations as pandas pickles a table whose texts are plain objects, as published."""
    pd: Any = importlib.import_module("pandas")  # comes with Ray; only the demo needs it
    rows = [row for one in filmed for row in _narrations(one)]
    table = pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=object) for name in _COLUMNS},
        columns=pd.Index(_COLUMNS, dtype=object),
    ).astype(dict.fromkeys(_TIMES, float))
    table.to_pickle(path)


def _narrations(one: Filmed) -> list[dict[str, Any]]:
    words, (start, end) = one.words, one.span
    noun = _CLASSES.get(words.noun, words.noun)
    taken = {
        "narration": words.order,
        "start_timestamp": start - 0.7,
        "end_timestamp": end + 0.3,
        "nouns": [words.noun],
        "verbs": [words.verb.replace(" ", "-"), "put-down"],
        "pairs": [(words.verb.replace(" ", "-"), words.noun), ("put-down", words.noun)],
        "main_actions": [(words.verb.replace(" ", "-"), words.noun)],
        "verb_classes": [_VERBS["take"], _VERBS["put"]],
        "noun_classes": [_NOUNS[noun]],
        "pair_classes": [(_VERBS["take"], _NOUNS[noun]), (_VERBS["put"], _NOUNS[noun])],
        "main_action_classes": [(_VERBS["take"], _NOUNS[noun])],
        "hands": [f"{words.hand} hand"],
        "narration_timestamp": start,
    }
    walked = {
        **{name: [] for name in _COLUMNS if name not in (*_TEXTS, *_TIMES)},
        "narration": "Walk to the counter.",
        "start_timestamp": 0.0,
        "end_timestamp": 0.6,
        "narration_timestamp": 0.2,
    }
    return [
        {
            "unique_narration_id": f"{one.uid}-{k}",
            "participant_id": one.uid.partition("-")[0],
            "video_id": one.uid,
            **row,
        }
        for k, row in enumerate((walked, taken), 1)
    ]


def _movements(one: Filmed) -> tuple[dict[str, Any], dict[str, Any]]:
    """A video's entries in `assoc_info.json` and `mask_info.json`."""
    keys = [_key(one.uid, f"mask {k}") for k in range(len(one.boxes))]
    track = {
        "track_id": _key(one.uid, "track"), "time_segment": list(one.span), "masks": keys,
    }  # fmt: skip
    things = {_key(one.uid, "thing"): {"name": one.words.noun, "tracks": [track]}}
    masks = {
        key: {
            "frame_number": round(t * FPS),
            "3d_location": list(place),
            "bbox": list(box),
            "fixture": f"{one.uid.partition('-')[0]}_counter.001",
        }
        for key, t, box, place in zip(keys, one.span, one.boxes, one.places, strict=True)
    }
    return things, masks


def _key(uid: str, what: str) -> str:
    return hashlib.blake2b(f"{uid} {what}".encode(), digest_size=8).hexdigest()
