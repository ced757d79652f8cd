"""Ego4D's files in their published form, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VIDEO_A = "0a02a1ed-a327-4753-b270-e95298984b96"
VIDEO_B = "3e0e1f1c-bd3c-4d6b-9e3d-7f6d1c2c9a10"
PASS_1 = "1f3a0d2c-1111-4a4f-8a43-aaaaaaaaaaaa"
PASS_2 = "2f3a0d2c-2222-4a4f-8a43-bbbbbbbbbbbb"


def video(uid: str, **changes: Any) -> dict[str, Any]:
    """An entry of `videos` in ego4d.json."""
    stream = {
        "fps": 30.0,
        "num_frames": 3600,
        "video_codec": "h264",
        "display_resolution_width": 1920,
        "display_resolution_height": 1080,
        "sample_resolution_width": None,
        "sample_resolution_height": None,
        "mp4_duration_sec": 120.0,
        "video_start_sec": 0.0,
    }
    stream.update(changes.pop("stream", {}))
    entry = {
        "video_uid": uid,
        "duration_sec": 120.0,
        "scenarios": ["Cooking"],
        "video_metadata": stream,
        "split_fho": "train",
        "s3_path": f"s3://ego4d/{uid}",
        "video_source": "minnesota",
        "device": "GoPro Hero 4",
        "has_imu": True,
    }
    return {**entry, **changes}


def metadata(*videos: dict[str, Any]) -> dict[str, Any]:
    """ego4d.json."""
    return {
        "date": "220914",
        "version": "2.0",
        "description": "Ego4D",
        "videos": list(videos),
        "clips": [{"clip_uid": "c", "video_uid": VIDEO_A}],
    }


def said(t: Any, text: Any, uid: str = PASS_1) -> dict[str, Any]:
    """A narration of narration.json."""
    frame = round(t * 30) if isinstance(t, float | int) else None
    return {
        "timestamp_sec": t,
        "timestamp_frame": frame,
        "narration_text": text,
        "annotation_uid": uid,
    }


def told(first: list[Any] | None, second: list[Any] | None = None) -> dict[str, Any]:
    """One video's entry of narration.json; a pass that is None is absent."""
    passes = {"narration_pass_1": first, "narration_pass_2": second}
    entry: dict[str, Any] = {"status": "complete"}
    for name, narrations in passes.items():
        if narrations is not None:
            entry[name] = {
                "narrations": narrations,
                "summaries": [{"start_sec": 0, "end_sec": 120, "summary_text": "#Summary C cooks"}],
            }
    return entry


def action(t: float, text: str, **changes: Any) -> dict[str, Any]:
    """A narrated action of fho_main.json with its seven frames, the moved thing in three."""
    contact = round(t * 30)
    types = ("pre_45", "pre_30", "pre_15", "pre_frame", "contact_frame", "pnr_frame", "post_frame")
    frames = [
        {
            "frame_type": kind,
            "frame_number": contact + 15 * (i - 4),
            "boxes": [
                {
                    "object_type": "right_hand",
                    "bbox": {"x": 0.0, "y": 0.0, "width": 50.0, "height": 60.0},
                }
            ],
        }
        for i, kind in enumerate(types)
    ]
    for i, frame in enumerate(frames[4:]):
        frame["boxes"].append(
            {
                "object_type": "object_of_change",
                "structured_noun": "cup_(cup,_mug)",
                "bbox": {"x": 600.0 + 20 * i, "y": 300.0, "width": 100.0, "height": 80.0},
            }
        )
    entry = {
        "uid": f"action-{t}",
        "start_sec": t - 4.0,
        "end_sec": t + 4.0,
        "start_frame": contact - 120,
        "end_frame": contact + 120,
        "is_valid_action": True,
        "is_partial": False,
        "narration_timestamp_sec": t,
        "narration_annotation_uid": PASS_1,
        "narration_text": text,
        "structured_verb": "put_(place,_leave,_drop)",
        "freeform_verb": None,
        "state_transition": None,
        "critical_frames": {"contact_frame": contact},
        "clip_critical_frames": None,
        "frames": frames,
        "is_rejected": False,
        "is_invalid_annotation": False,
        "reject_reason": None,
        "stage": "hand_object",
        "warnings": [],
    }
    return {**entry, **changes}


def handled(uid: str, *actions: Any, **changes: Any) -> dict[str, Any]:
    """One video's entry of fho_main.json."""
    interval = {"clip_id": 7, "clip_uid": "c", "start_sec": 0.0, "end_sec": 120.0}
    stream = {"fps": 30.0, "num_frames": 3600, "width": 1920, "height": 1080}
    return {
        "video_uid": uid,
        "video_metadata": {**stream, **changes},
        "annotated_intervals": [{**interval, "narrated_actions": list(actions)}],
    }


def write(root: Path, **files: Any) -> Path:
    """Write `ego4d`, `narration` and `fho_main`, those that are given, and empty-looking videos
    (a few bytes each) of `full` and `small`."""
    names = {
        "ego4d": "ego4d.json",
        "narration": "annotations/narration.json",
        "fho_main": "annotations/fho_main.json",
    }
    for key, name in names.items():
        if key in files:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(files[key]))
    for key, folder in (("full", "full_scale"), ("small", "video_540ss")):
        for uid in files.get(key, ()):
            path = root / folder / f"{uid}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"video")
    return root
