"""Ego4D (Grauman et al., CVPR 2022): head-worn cameras of many makes, with narrations.

Layout, below `{root}/v2`, `{root}/v1` or `{root}` itself:

    ego4d.json                        of every video its length, resolution and device
    annotations/narration.json        sentences at instants, by up to two annotators
    annotations/fho_main.json         actions with intervals and boxes, for a few per cent of them
    full_scale/{video_uid}.mp4        else video_540ss/{video_uid}.mp4, 540 pixels on the short side
    imu/{video_uid}.csv               of some videos the camera's own gyroscope and accelerometer
    intrinsics.json                   yours, in place of `ego_ops.corpora.devices`' figures

Any of them may be missing; one of the annotation files and the videos are enough. There are no
camera poses. Formats: ego4d-data.org/docs/data.
"""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ego_ops.clip import Box, Clip, clip_id
from ego_ops.corpora import devices, ego4d_annotations, ego4d_imu
from ego_ops.corpora.candidates import Candidate, Narration, candidates
from ego_ops.corpora.ego4d_annotations import Action, Video
from ego_ops.corpora.skipped import Skipped
from ego_ops.errors import UserError
from ego_ops.pictures import picture_size
from ego_ops.recording import Recording

VIDEOS, NARRATIONS, ACTIONS = (
    "ego4d.json",
    "annotations/narration.json",
    "annotations/fho_main.json",
)
FOLDERS = ("full_scale", "video_540ss")
SHORT_SIDE = 540
"""Pixels, of the videos in `video_540ss`."""
SAME_INSTANT = 0.1
"""Seconds that an action's narration may differ from the narration it was made from."""
IMU_MARGIN = 1.0
"""Seconds of inertial readings before and after the clip."""


@dataclass(frozen=True)
class _Files:
    """Where the corpus lies, and which videos of it are there."""

    base: Path
    version: str
    folders: dict[str, str]
    """Folder of each video by its uid, the better of two."""


def index(root: str) -> Iterator[Clip | Skipped]:
    """Clips of every narrated manipulation whose video is there.

    An action of `fho_main.json` takes the place of the narration it was made from. Ids depend
    neither on which videos are there, nor on full or small size, nor on the files' order.

    Raises:
        UserError: `root` is no folder, holds no annotations, or one of those is damaged.
    """
    files = _files(root)
    present = {name: (files.base / name).is_file() for name in (VIDEOS, NARRATIONS, ACTIONS)}
    if not present[NARRATIONS] and not present[ACTIONS]:
        raise UserError(
            f"--root {root}: no Ego4D annotations ({NARRATIONS} or {ACTIONS} in {files.base}); "
            "get them with `ego4d --datasets annotations --metadata`"
        )
    for name, there in present.items():
        if not there:
            yield Skipped("missing_file", name, "not downloaded; the rest is indexed without it")
    videos = ego4d_annotations.videos(str(files.base / VIDEOS)) if present[VIDEOS] else {}
    acted: dict[str, list[Action]] = {}
    if present[ACTIONS]:
        for uid, video, found in ego4d_annotations.actions(str(files.base / ACTIONS), videos):
            videos[uid] = video
            acted.setdefault(uid, []).extend(found)
    if present[NARRATIONS]:
        for uid, told in ego4d_annotations.narrations(str(files.base / NARRATIONS)):
            yield from _clips(files, uid, videos.get(uid, Video()), told, acted.pop(uid, []))
    for uid, found in acted.items():
        yield from _clips(files, uid, videos.get(uid, Video()), [], found)


def recording(clip: Clip) -> Recording:
    """Intrinsics by device or from `intrinsics.json`, and inertial readings where there are any.

    Raises:
        MissingFileError, DecodeError: the resolution is in no annotation, and not in the video.
        AnnotationError: `intrinsics.json` or the inertial readings are not of the right form.
    """
    known = json.loads(clip.details)
    width, height = known["size"] or picture_size(clip.video)
    camera, lens = devices.camera(clip.root, clip.video_uid, known["device"], width, height)
    readings = f"{clip.root}/imu/{clip.video_uid}.csv"
    imu = ego4d_imu.read(readings, clip.t_start - IMU_MARGIN, clip.t_end + IMU_MARGIN)
    return Recording(camera, lens=lens, imu=imu)


def _files(root: str) -> _Files:
    if not Path(root).is_dir():
        raise UserError(f"--root {root}: no such folder")
    top = Path(os.path.abspath(root))
    choices = (top, top / "v2", top / "v1")
    base = next((c for c in choices if (c / VIDEOS).is_file() or (c / "annotations").is_dir()), top)
    folders: dict[str, str] = {}
    for folder in reversed(FOLDERS):
        if (base / folder).is_dir():
            with os.scandir(base / folder) as found:
                names = [f.name for f in found if f.name.endswith(".mp4") and _filled(f)]
            folders.update((name.removesuffix(".mp4"), folder) for name in names)
    return _Files(base, "v1" if base.name == "v1" else "v2", folders)


def _filled(file: os.DirEntry[str]) -> bool:
    """Whether a file is there and not empty; a link may lead nowhere."""
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


def _clips(
    files: _Files,
    uid: str,
    video: Video,
    told: list[tuple[str, Narration]],
    acted: list[Action],
) -> Iterator[Clip | Skipped]:
    """The clips of one video."""
    by_uid = {action.narration.uid: action for action in acted}
    narrations = _without(told, acted) + [action.narration for action in by_uid.values()]
    folder = files.folders.get(uid)
    if folder is None:
        if narrations:
            missing = " nor ".join(f"{name}/{uid}.mp4" for name in FOLDERS)
            yield Skipped("no_video", uid, f"neither {missing}", len(narrations))
        return
    small = folder == FOLDERS[1]
    scale = SHORT_SIDE / min(video.width, video.height) if small and video.width else 1.0
    size = [round(video.width * scale), round(video.height * scale)] if video.width else None
    shared = {
        "corpus": "ego4d",
        "corpus_version": files.version,
        "video_uid": uid,
        "root": str(files.base),
        "video_path": f"{folder}/{uid}.mp4",
        "annotation_path": "",
        "details": json.dumps({"device": video.device, "size": size}),
    }
    for found in candidates(narrations, video.duration, uid):
        if isinstance(found, Candidate):
            yield _clip(shared, found, by_uid.get(found.uid), scale if size or not small else 0.0)
        else:
            yield found


def _without(told: list[tuple[str, Narration]], handled: list[Action]) -> list[Narration]:
    """The narrations that no action was made from."""
    times: dict[str, list[float]] = {}
    for action in handled:
        if not math.isnan(action.narration.t):
            times.setdefault(action.annotation_uid, []).append(action.narration.t)
    for instants in times.values():
        instants.sort()
    left = []
    for uid, narration in told:
        instants = times.get(uid, [])
        at = bisect_left(instants, narration.t - SAME_INSTANT)
        if at == len(instants) or instants[at] > narration.t + SAME_INSTANT:
            left.append(narration)
    return left


def _clip(shared: dict[str, str], found: Candidate, action: Action | None, scale: float) -> Clip:
    """The clip of a candidate, from the fields that its video's clips share; `scale` is that of
    boxes, 0 where it is not known."""
    verb, boxes = (action.verb, action.boxes) if action else ("", ())
    version, uid = shared["corpus_version"], shared["video_uid"]
    return Clip(
        clip_id=clip_id("ego4d", version, uid, found.t_start, found.t_end, found.uid),
        t_start=found.t_start,
        t_end=found.t_end,
        narration=found.narration,
        verb=verb or found.verb,
        object=found.object,
        boxes=tuple(_scaled(box, scale) for box in boxes) if scale else (),
        interval=found.interval,
        **shared,
    )


def _scaled(box: Box, scale: float) -> Box:
    """In pixels of the picture resized by `scale`, borders kept."""
    x0, y0, x1, y1 = ((side + 0.5) * scale - 0.5 for side in (box.x0, box.y0, box.x1, box.y1))
    return replace(box, x0=x0, y0=y0, x1=x1, y1=y1) if scale != 1 else box
