"""Where HD-EPIC's files lie, of which a download may have only some."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

import fsspec

from ego_ops.clip import Clip

CLOCK = "_mp4_to_vrs_time_ns.csv"
POSES = "closed_loop_trajectory.csv"


def below(base: Path, name: str) -> str:
    """`name` in `base`, or the first folder of that name one further down; relative to `base`."""
    if (base / name).is_dir():
        return name
    return next((str(path.relative_to(base)) for path in sorted(base.glob(f"*/{name}"))), name)


def locate(base: Path, video: str) -> tuple[str, str, tuple[str, str] | None]:
    """The video and its folder of MPS's SLAM files, relative to `base`, and what is missing of
    them: (reason, detail), or None."""
    person = video.partition("-")[0]
    path = f"{below(base, 'Videos')}/{person}/{video}.mp4"
    clock = path.removesuffix(".mp4") + CLOCK
    for reason, needed in (("no_video", path), ("no_clock", clock)):
        if not (base / needed).is_file():
            return path, "", (reason, f"{needed} is not there")
    home = f"{below(base, 'SLAM-and-Gaze')}/{person}"
    places = [f"{home}/SLAM/other_aligned/{video}", f"{home}/{video}"]
    number = _session(base / home / "SLAM/multi/vrs_to_multi_slam.json", video)
    if number:
        places.insert(0, f"{home}/SLAM/multi/{number}")
    for place in places:
        # An archive may have been unpacked in its folder or into one of its own.
        for folder in (f"{place}/slam", f"{place}/{PurePosixPath(place).name}/slam", place):
            if (base / folder / POSES).is_file():
                if (base / folder / "online_calibration.jsonl").is_file():
                    return path, folder, None
                return path, "", ("no_calibration", f"{folder}/online_calibration.jsonl")
    packed = next((place for place in places if (base / f"{place}.zip").is_file()), "")
    if packed:
        return path, "", ("no_trajectory", f"{packed}.zip is not unpacked (unzip it where it is)")
    return path, "", ("no_trajectory", f"{home}/SLAM has no {POSES} of this video")


def _sessions(path: Path) -> dict[str, str]:
    """Numbers of SLAM sessions by name of recording; empty where the file is not usable."""
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {PurePosixPath(str(key)).stem: str(number) for key, number in data.items()}


def _session(path: Path, video: str) -> str:
    """The SLAM session of a video: recordings are named `<video>`, `<video>_anonymized` or without
    the participant."""
    moment = video.partition("-")[2]
    named = ((name, number) for name, number in _sessions(path).items() if moment in name)
    return next((number for _, number in named), "")


def hands(clip: Clip) -> str | None:
    """The folder with MPS's hand tracking of a clip's video, or None."""
    parts = PurePosixPath(clip.annotation_path).parts
    if "SLAM-and-Gaze" not in parts:
        return None
    home = parts[: parts.index("SLAM-and-Gaze") + 2]
    name = f"mps_{clip.video_uid}_vrs"
    for inner in ((name,), (name, name)):
        folder = os.path.join(clip.root, *home, "GAZE_HAND", *inner, "hand_tracking")
        fs, path = fsspec.core.url_to_fs(folder)
        if fs.isdir(path):
            return folder
    return None
