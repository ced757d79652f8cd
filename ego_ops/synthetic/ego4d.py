"""Videos in Ego4D's published layout, `v2/`, with truth in `truth/{video_uid}.npz`.

A GoPro at its wide setting, whose lens is known from its maker's figures only, takes turns with a
camera whose calibration stands in `intrinsics.json`. Neither records where it is; both record what
their inertial sensors read.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ego_ops.synthetic.imu import write_ego4d
from ego_ops.synthetic.lens_camera import LensCamera
from ego_ops.synthetic.scene import FPS, sample_scene
from ego_ops.synthetic.take import Take, write_truth
from ego_ops.synthetic.video import write_h264
from ego_ops.synthetic.wording import wording

Floats = NDArray[np.float64]
VERSION = "v2"
SIZE = (1280, 720)
RECIPES = (0, 3, 1, 5)
WIDE = 118.2
"""Degrees that a GoPro sees from side to side at `Wide` and 16:9, in equal steps a pixel."""
FOCAL = 0.46
"""Focal length in widths of the picture of the camera with a calibration."""
_CRITICAL = ("pre_45", "pre_30", "pre_15", "pre_frame", "contact_frame", "pnr_frame", "post_frame")


class Filmed(NamedTuple):
    """One video, as the annotation files need it."""

    uid: str
    size: tuple[int, int]
    calibrated: bool
    frames: int
    text: str
    verb: str
    noun: str
    narrated: float
    critical: dict[str, int]
    boxes: dict[str, tuple[float, float, float, float] | None]


def record(root: Path, number: int, seed: int, scale: float = 1.0) -> Filmed:
    """Film and write video `number` of the corpus of `seed`, all but its annotations.

    Args:
        scale: of the pictures' size.
    """
    calibrated = number % 2 == 1
    scene = sample_scene(seed + 11, RECIPES[number % len(RECIPES)] + 6 * (number // len(RECIPES)))
    # With a calibration comes one of the actions that have an interval of 8 s, if the video does.
    take = Take(scene, FPS, 180 if calibrated else 150, begins=-0.4)
    base, uid = root / VERSION, _uid(seed, number)
    size = (round(SIZE[0] * scale) // 2 * 2, round(SIZE[1] * scale) // 2 * 2)
    contact, release = take.video_time(scene.contact), take.video_time(scene.release)
    critical = _critical(contact, release)
    path = base / "full_scale" / f"{uid}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    rays = _pinhole(size) if calibrated else _equidistant(size)
    with LensCamera(take, rays, 1.44e6 * scale**2) as camera:
        write_h264(path, camera.frames(), size, FPS)
        seen = camera.boxes(np.array(list(critical.values())) / FPS)
    write_ego4d(base / "imu" / f"{uid}.csv", take)
    write_truth(root / "truth" / f"{uid}.npz", take)
    words = wording(scene.recipe)
    boxes = dict(zip(critical, seen, strict=True))
    return Filmed(
        uid, size, calibrated, take.frames, f"#C C {words.told}", words.verb, words.noun,
        contact + 0.45 * (release - contact), critical, boxes,
    )  # fmt: skip


def annotate(root: Path, filmed: list[Filmed], seed: int) -> None:
    """Write what is said of all videos, and of one that is not there."""
    base = root / VERSION
    absent = filmed[0]._replace(uid=_uid(seed, 99), calibrated=False)
    videos = [_video(one) for one in (*filmed, absent)]
    whole = {"version": VERSION, "date": "2024-01-01", "description": "demo", "videos": videos}
    _write(base / "ego4d.json", whole)
    told = {one.uid: _narrations(one) for one in (*filmed, absent)}
    _write(base / "annotations" / "narration.json", {"videos": told})
    acted = [_action(one) for one in filmed if one.calibrated]
    _write(base / "annotations" / "fho_main.json", {"version": VERSION, "videos": acted})
    known = {one.uid: _calibration(one.size) for one in filmed if one.calibrated}
    _write(base / "intrinsics.json", known)


def _uid(seed: int, number: int) -> str:
    return str(uuid.UUID(bytes=np.random.default_rng([seed, number, 7]).bytes(16), version=4))


def _equidistant(size: tuple[int, int]) -> Floats:
    """(H, W, 3) rays of a picture whose pixels are equal angles from its middle."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    away = np.hypot(x, y)
    angle = away * np.radians(WIDE) / width
    sine = np.sin(angle) / np.maximum(away, 1e-9)
    return np.stack((sine * x, sine * y, np.cos(angle)), -1)


def _pinhole(size: tuple[int, int]) -> Floats:
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    return np.stack((x, y, np.full(x.shape, FOCAL * width)), -1)


def _calibration(size: tuple[int, int]) -> dict[str, object]:
    width, height = size
    return {
        "width": width, "height": height, "fx": FOCAL * width, "fy": FOCAL * width,
        "cx": width / 2 - 0.5, "cy": height / 2 - 0.5, "model": "pinhole",
    }  # fmt: skip


def _critical(contact: float, release: float) -> dict[str, int]:
    """Frame numbers of the seven critical frames."""
    pnr = contact + 0.3
    times = (pnr - 1.5, pnr - 1.0, pnr - 0.5, contact - 0.1, contact, pnr, release)
    return {name: round(t * FPS) for name, t in zip(_CRITICAL, times, strict=True)}


def _video(one: Filmed) -> dict[str, Any]:
    seconds = one.frames / FPS
    sides = {"width": one.size[0], "height": one.size[1]}
    return {
        "video_uid": one.uid,
        "duration_sec": seconds,
        "scenarios": ["Cooking"],
        "device": "Weeview" if one.calibrated else "GoPro Hero Black 7",
        "video_source": "demo",
        "has_imu": True,
        "split_fho": "train" if one.calibrated else None,
        "video_metadata": {
            "fps": FPS,
            "num_frames": one.frames,
            "video_codec": "h264",
            **{f"display_resolution_{side}": pixels for side, pixels in sides.items()},
            **{f"sample_resolution_{side}": pixels for side, pixels in sides.items()},
            "mp4_duration_sec": seconds,
            "video_start_sec": 0.0,
        },
    }


def _narrations(one: Filmed) -> dict[str, Any]:
    """Of both annotators; the second says nearly the same of the manipulation."""
    said = [
        (0.1, "#C C looks around"),
        (one.narrated, one.text),
        (one.narrated + 0.5, "#O man X picks up a cup"),
        (one.frames / FPS - 0.2, "#unsure"),
        (one.frames / FPS - 0.1, "#C C walks around the room"),
    ]
    again = [(one.narrated + 0.27, f"#C C {one.text.removeprefix('#C C ')} on the table")]
    return {
        "status": "complete",
        **{
            f"narration_pass_{k}": {
                "narrations": [
                    {
                        "timestamp_sec": t,
                        "timestamp_frame": round(t * FPS),
                        "narration_text": text,
                        "annotation_uid": _pass_uid(one, k),
                    }
                    for t, text in entries
                ],
                "summaries": [
                    {"start_sec": 0.0, "end_sec": one.frames / FPS, "summary_text": "#summary C "
                     "moved a thing on a table", "annotation_uid": _pass_uid(one, k)}
                ],
            }
            for k, entries in ((1, said), (2, again))
        },
    }  # fmt: skip


def _pass_uid(one: Filmed, number: int) -> str:
    return str(uuid.uuid5(uuid.UUID(one.uid), f"pass {number}"))


def _action(one: Filmed) -> dict[str, Any]:
    """The video's entry in `fho_main.json`: one action, cut by the video's end."""
    end = one.frames / FPS
    frames = [
        {"frame_type": name, "frame_number": one.critical[name], "boxes": _boxes(one, name)}
        for name in _CRITICAL
    ]
    action = {
        "uid": str(uuid.uuid5(uuid.UUID(one.uid), "action")),
        "start_sec": 0.0,
        "end_sec": end,
        "start_frame": 0,
        "end_frame": one.frames,
        "is_valid_action": True,
        "is_partial": True,
        "narration_timestamp_sec": one.narrated,
        "narration_annotation_uid": _pass_uid(one, 1),
        "narration_text": one.text,
        "structured_verb": "take_(pick,_grab,_get)",
        "freeform_verb": None,
        "state_transition": None,
        "critical_frames": one.critical,
        "frames": frames,
        "is_rejected": False,
        "is_invalid_annotation": False,
        "reject_reason": None,
        "stage": "",
        "warnings": [],
    }
    rejected = {
        **action, "uid": str(uuid.uuid5(uuid.UUID(one.uid), "rejected")), "is_rejected": True,
        "narration_timestamp_sec": 0.4, "critical_frames": None, "frames": None,
    }  # fmt: skip
    interval = {
        "clip_uid": str(uuid.uuid5(uuid.UUID(one.uid), "clip")), "start_sec": 0.0, "end_sec": end,
        "narrated_actions": [action, rejected],
    }  # fmt: skip
    return {
        "video_uid": one.uid, "video_metadata": {"fps": FPS}, "annotated_intervals": [interval],
    }  # fmt: skip


def _boxes(one: Filmed, name: str) -> list[dict[str, Any]]:
    box = one.boxes[name]
    if box is None:
        return []
    x0, y0, x1, y1 = box
    sides = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    return [{"object_type": "object_of_change", "structured_noun": one.noun, "bbox": sides}]


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
