"""Sequences in Nymeria's published layout, with truth in `truth/{sequence}.npz`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

from ego_ops.synthetic import mps
from ego_ops.synthetic.aria_device import SIZE, aria_camera, glasses
from ego_ops.synthetic.aria_vrs import write_vrs
from ego_ops.synthetic.scene import sample_scene
from ego_ops.synthetic.take import Take, write_truth
from ego_ops.synthetic.wording import wording

RECIPES = (5, 0, 3, 1)
FPS = 15 / 1.0004
"""Of the RGB camera; nominally 15."""
LATE = 0.38
"""Seconds from the first frame to the second at which annotators begin a row."""
_COLUMNS = ("request_id", "gaia_id", "start_time", "end_time", "annotator", "creation_time")


class Filmed(NamedTuple):
    """One sequence, as the annotation files need it."""

    name: str
    told: str
    start: float
    """Device seconds at which the row of the manipulation begins."""


def record(root: Path, number: int, seed: int, scale: float = 1.0) -> Filmed:
    """Film and write sequence `number` of the corpus of `seed`, all but its narration.

    Args:
        scale: of the pictures' size.
    """
    scene = sample_scene(seed + 14, RECIPES[number % len(RECIPES)] + 6 * (number // len(RECIPES)))
    start = 5831.0 + 40 * number
    take = Take(scene, FPS, 87, begins=-LATE, clock=start - LATE)
    name = _name(number)
    worn = glasses(seed + 40 + number, round(SIZE * scale))
    head = root / name / "recording_head"
    with aria_camera(take, worn, upright=False) as camera:
        write_vrs(head / "data" / "data.vrs", take, worn, camera.frames())
        mps.write_points(head / "mps" / "slam" / "semidense_points.csv.gz", take, camera)
    mps.write_trajectory(head / "mps" / "slam" / "closed_loop_trajectory.csv", take, worn)
    mps.write_calibration(head / "mps" / "slam" / "online_calibration.jsonl", take, worn)
    write_truth(root / "truth" / f"{name}.npz", take)
    return Filmed(name, wording(scene.recipe).told, start)


def annotate(root: Path, filmed: list[Filmed], seed: int) -> None:
    """Write what is said of all sequences, and of one whose recording is not there."""
    for one in (*filmed, filmed[0]._replace(name=_name(99))):
        folder = root / one.name
        (folder / "narration").mkdir(parents=True, exist_ok=True)
        (folder / "metadata.json").write_text(json.dumps({"date": "20230607", "scenario": "demo"}))
        actions = [
            (one.start - 5, "C looks around the room and walks to the table."),
            (one.start, f"C {one.told} and puts it down on the table."),
            (one.start + 5, "C walks to the window."),
        ]
        _write(folder, "atomic_action", ["Describe my atomic actions"], actions)
        _write(folder, "activity_summarization", ["Describe my activity"],
               [(one.start - 5, "C tidies a table.")])  # fmt: skip


def _name(number: int) -> str:
    return f"20230607_s0_demo_wearer_act{number}_{number:06x}"


def _write(folder: Path, name: str, columns: list[str], rows: list[tuple[float, str]]) -> None:
    with (folder / "narration" / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_COLUMNS, *columns])
        for k, (start, text) in enumerate(rows):
            writer.writerow([1000 + k, 7, start, start + 5, "annotator_1", "2023-06-20", text])
