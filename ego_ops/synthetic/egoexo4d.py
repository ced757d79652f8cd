"""Takes in Ego-Exo4D's published layout, with truth in `truth/{take_uid}.npz`."""

from __future__ import annotations

import csv
import json
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ego_ops.synthetic import mps
from ego_ops.synthetic.aria_device import SIZE, aria_camera, glasses
from ego_ops.synthetic.scene import FPS, sample_scene
from ego_ops.synthetic.take import Take, write_truth
from ego_ops.synthetic.video import write_h264
from ego_ops.synthetic.wording import wording

RECIPES = (3, 0, 1, 5)
BEFORE = 40
"""Rows of `timesync.csv` before that of the take's first frame."""
VIDEO = "frame_aligned_videos/aria01_214-1.mp4"


class Filmed(NamedTuple):
    """One take, as the annotation files need it."""

    uid: str
    name: str
    frames: int
    told: str
    narrated: float


def record(root: Path, number: int, seed: int, scale: float = 1.0) -> Filmed:
    """Film and write take `number` of the corpus of `seed`, all but its annotations.

    Args:
        scale: of the pictures' size.
    """
    scene = sample_scene(seed + 12, RECIPES[number % len(RECIPES)] + 6 * (number // len(RECIPES)))
    take = Take(scene, FPS, 147, begins=-0.3, clock=11358.204 + 431.7 * number, drift=1.0004)
    uid, name = _uid(seed, number), f"demo_cooking_{number:02d}_2"
    worn = glasses(seed + number, round(SIZE * scale))
    folder = root / "takes" / name
    (folder / VIDEO).parent.mkdir(parents=True, exist_ok=True)
    with aria_camera(take, worn, upright=True) as camera:
        write_h264(folder / VIDEO, camera.frames(), (worn.size, worn.size), FPS)
        mps.write_points(folder / "trajectory" / "semidense_points.csv.gz", take, camera)
    mps.write_trajectory(folder / "trajectory" / "closed_loop_trajectory.csv", take, worn)
    mps.write_calibration(folder / "trajectory" / "online_calibration.jsonl", take, worn)
    _write_timesync(root / "captures" / name.rpartition("_")[0] / "timesync.csv", take)
    write_truth(root / "truth" / f"{uid}.npz", take)
    contact, release = take.video_time(scene.contact), take.video_time(scene.release)
    return Filmed(
        uid, name, take.frames, wording(scene.recipe).told, contact + 0.45 * (release - contact)
    )


def annotate(root: Path, filmed: list[Filmed], seed: int) -> None:
    """Write what is said of all takes, and of one that is not there."""
    absent = filmed[0]._replace(uid=_uid(seed, 99), name="demo_cooking_99_4")
    every = [*filmed, absent]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "takes.json").write_text(json.dumps([_take(one) for one in every]))
    said = {"annotations": {one.uid: _descriptions(one) for one in every}}
    (root / "annotations" / "atomic_descriptions_train.json").write_text(json.dumps(said))


def _uid(seed: int, number: int) -> str:
    return str(uuid.UUID(bytes=np.random.default_rng([seed, number, 8]).bytes(16), version=4))


def _write_timesync(path: Path, take: Take) -> None:
    """Frame i of the take's video is of row `timesync_start_idx` + 1 + i."""
    rows = np.arange(-BEFORE, take.frames + BEFORE)
    stamps = take.device_ns(rows / take.fps)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["cam01_pts", "cam01_frame_number", "aria01_214-1_capture_timestamp_ns",
             "aria01_214-1_frame_number"]
        )  # fmt: skip
        for k, stamp in enumerate(stamps.tolist()):
            # The glasses begin a second after the other cameras.
            aria = ["", ""] if k < BEFORE - 30 else [stamp, k]
            writer.writerow([k * 1001, k, *aria])


def _take(one: Filmed) -> dict[str, Any]:
    capture = one.name.rpartition("_")[0]
    streams = {
        "rgb": {"cam_id": "aria01", "stream_id": "214-1", "relative_path": VIDEO},
        "slam-left": {
            "cam_id": "aria01", "stream_id": "1201-1",
            "relative_path": "frame_aligned_videos/aria01_1201-1.mp4",
        },
    }  # fmt: skip
    other = {"cam_id": "cam01", "stream_id": "0", "relative_path": "frame_aligned_videos/cam01.mp4"}
    return {
        "root_dir": f"takes/{one.name}",
        "take_name": one.name,
        "take_uid": one.uid,
        "capture_uid": str(uuid.uuid5(uuid.UUID(one.uid), "capture")),
        "task_name": "Cooking",
        "parent_task_name": "Cooking",
        "duration_sec": one.frames / FPS,
        "is_narrated": True,
        "timesync_start_idx": BEFORE - 1,
        "timesync_end_idx": BEFORE + one.frames,
        "best_exo": "cam01",
        "capture": {
            "capture_name": capture,
            "cameras": [
                {"cam_id": "cam01", "is_ego": False},
                {"cam_id": "aria01", "is_ego": True},
            ],
        },
        "frame_aligned_videos": {"cam01": {"0": other}, "aria01": streams},
    }


def _descriptions(one: Filmed) -> list[dict[str, Any]]:
    """Of two annotators, who spell a field differently and say nearly the same."""
    end = one.frames / FPS
    first: list[tuple[float, str, str, object, bool]] = [
        (0.05, "C looks at the table.", "C", True, False),
        (one.narrated, f"C {one.told}.", "C", True, False),
        (one.narrated + 0.4, "O picks up a cup from the table.", "O", True, False),
        (end - 0.05, "C walks to the window.", "C", True, False),
    ]
    second: list[tuple[float, str, str, object, bool]] = [
        (one.narrated + 0.31, f"C {one.told} from the table.", "C", "1", False),
        (end - 0.03, "C holds a thing.", "C", "1", True),
    ]
    return [
        {
            "annotation_uid": str(uuid.uuid5(uuid.UUID(one.uid), f"annotator {k}")),
            "annotator_id": f"annotator-{k}",
            "rejected": False,
            "reject_reason": None,
            "descriptions": [
                {
                    "text": text,
                    "timestamp": t,
                    field: subject,
                    "ego_visible": visible,
                    "unsure": unsure,
                    "best_exo": {"raw_cam_id": "cam01", "cam_id": "cam01"},
                }
                for t, text, subject, visible, unsure in said
            ],
        }
        for k, (field, said) in enumerate((("subject", first), ("narration_subject", second)))
    ]
