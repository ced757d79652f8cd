"""Ego-Exo4D's takes: what `takes.json` says of them, and what of their files is there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ego_ops.corpora.json_stream import entries

FPS = 30.0
BEFORE = 1
"""Rows of `timesync.csv` from `timesync_start_idx` to the first frame's."""
RGB = "214-1"
"""Aria's RGB stream."""


@dataclass(frozen=True)
class Take:
    """What a clip needs to know of its take. Paths are relative to the corpus's root."""

    folder: str
    video: str
    """The wearer's RGB video, relative to `folder`; empty where there is none."""
    timesync: str
    first_row: int
    """Row of `timesync` that the video's first frame belongs to; negative where unknown."""
    duration: float
    """Seconds; infinite where unknown."""


def takes(base: Path) -> Iterator[tuple[str, Take]]:
    """The takes of `takes.json` below `base`, with their uids.

    Raises:
        UserError: the file is no JSON.
    """
    for _, take in entries(str(base / "takes.json"), "takes"):
        if isinstance(take, dict) and take.get("take_uid"):
            yield str(take["take_uid"]), _take(take)


def _take(take: dict[str, Any]) -> Take:
    name = str(take.get("take_name") or PurePosixPath(str(take.get("root_dir"))).name)
    capture = take.get("capture") if isinstance(take.get("capture"), dict) else {}
    capture_name = (capture or {}).get("capture_name") or name.rpartition("_")[0]
    start, end = number(take.get("timesync_start_idx")), number(take.get("timesync_end_idx"))
    duration = number(take.get("duration_sec"))
    if not duration > 0:
        duration = (end - start) / FPS
    return Take(
        f"takes/{name}",
        _ego_video(take.get("frame_aligned_videos"), (capture or {}).get("cameras")),
        f"captures/{capture_name}/timesync.csv",
        int(start) + BEFORE if math.isfinite(start) else -1,
        duration if duration > 0 else math.inf,
    )


def _ego_video(cameras: Any, flags: Any) -> str:
    """The wearer's video of `frame_aligned_videos`: of several Aria, the one flagged `is_ego`."""
    found = {}
    for name, streams in sorted(cameras.items()) if isinstance(cameras, dict) else ():
        for stream in streams.values() if isinstance(streams, dict) else ():
            path = str(stream.get("relative_path") or "") if isinstance(stream, dict) else ""
            if PurePosixPath(path).stem.endswith(f"_{RGB}"):
                found[name] = path
    ego = [
        flag.get("cam_id")
        for flag in (flags if isinstance(flags, list) else ())
        if isinstance(flag, dict) and truth(flag.get("is_ego"))
    ]
    return next((found[name] for name in ego if name in found), next(iter(found.values()), ""))


def locate(base: Path, take: Take | None) -> tuple[str, tuple[str, str] | None]:
    """The take's video, relative to the root, and what it lacks: (reason, detail), or None."""
    if take is None:
        return "", ("unknown_take", "takes.json does not have it")
    if not take.video:
        return "", ("no_ego_video", f"{take.folder} has no Aria RGB video")
    full = PurePosixPath(take.folder, take.video)
    small = full.parent / "downscaled" / "448" / full.name
    video = next((str(path) for path in (full, small) if (base / path).is_file()), "")
    needed = (
        ("no_video", video, f"{full}, nor downscaled/448/{full.name}"),
        ("no_trajectory", f"{take.folder}/trajectory/closed_loop_trajectory.csv", ""),
        ("no_calibration", f"{take.folder}/trajectory/online_calibration.jsonl", ""),
        ("no_timesync", take.timesync, ""),
    )
    for reason, path, named in needed:
        if not path or not (base / path).is_file():
            return video, (reason, f"{named or path} is not there")
    if take.first_row < 0:
        return video, ("no_timesync", "takes.json gives no timesync_start_idx")
    return video, None


def truth(value: Any) -> bool:
    """A truth value that may be spelt as a string."""
    return str(value).strip().lower() in ("true", "1", "1.0", "yes")


def number(value: Any) -> float:
    """A number; NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
