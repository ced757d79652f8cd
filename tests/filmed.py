"""A thing that is filmed while it moves: pictures, trajectories and truth that agree exactly.

The picture shows nothing but a white disc where a certain point of the thing is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops import job, manifest, rows, shards
from ego_ops.clip import Clip, clip_id
from ego_ops.jpeg import encode_jpegs
from ego_ops.pipeline import Extraction
from ego_ops.storage import store
from ego_ops.verdict import Verdict
from tests.video_files import write_video

FPS = 20.0
STEPS = np.arange(40) / FPS
VIDEO_RATE = 40
SIZE = (320, 240)
K = np.array([[300.0, 0, 155.0], [0, 290.0, 118.0], [0, 0, 1]])
CONTACT, RELEASE = 0.5, 1.5
GROUND = 40
REST = np.array([0.10, 0.85, -0.40])
"""Where the disc's point lies in the world before it moves."""
SURFACE = np.array([[0.0, 0.0, 0.0], [0.05, 0.0, 0.0], [0.0, 0.05, 0.0], [0.0, 0.0, 0.05]])
"""Of the thing, in its own frame."""


def thing(times: NDArray) -> RigidTransform:
    """T_world_thing, with turns and axes of its own."""
    progress = np.clip((times - CONTACT) / (RELEASE - CONTACT), 0, 1)[:, None]
    turn = Rotation.from_rotvec(progress * [0.2, -0.7, 0.4])
    start = Rotation.from_rotvec([0.3, 1.1, -0.4])
    shift = REST + [0.01, -0.02, 0.015] + progress * [-0.18, 0.05, 0.04]
    return RigidTransform.from_components(shift, turn * start)


def camera(times: NDArray) -> RigidTransform:
    """T_world_camera; the world is y up, and the camera looks down at the thing."""
    sway = np.sin(2 * times)[:, None]
    place = np.array([0.0, 1.2, 0.1]) + sway * [0.04, 0.02, -0.01]
    base = Rotation.from_euler("x", 180 - 35, degrees=True)
    nod = Rotation.from_rotvec(sway * [0.03, 0.05, -0.02])
    return RigidTransform.from_components(place, base * nod)


def disc(times: NDArray) -> NDArray:
    """(T, 2) pixels of the disc's middle, by the textbook formula."""
    moved = thing(times) * thing(times[:1])[0].inv()
    world = moved.apply(REST)
    view = camera(times)
    local = np.einsum("tji,tj->ti", view.rotation.as_matrix(), world - view.translation)
    image = local @ K.T
    return image[:, :2] / image[:, 2:]


def picture(pixel: NDArray) -> NDArray[np.uint8]:
    """(240, 320, 3) with the disc at `pixel`."""
    image = np.full((SIZE[1], SIZE[0], 3), GROUND, np.uint8)
    at = tuple(np.round(pixel * 16).astype(int).tolist())
    cv2.circle(image, at, 9 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return image


def middle(image: NDArray) -> NDArray:
    """(2,) pixel of the middle of what is white in an (H, W, 3) image."""
    weight = np.clip(image.astype(float).mean(-1) - 120, 0, None)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def trajectory() -> Extraction:
    """What a perfect extraction finds: the frame of the object has the axes of the first camera."""
    view, moved = camera(STEPS), thing(STEPS) * thing(STEPS)[0].inv()
    rest = RigidTransform.from_components(REST, view[0].rotation)
    found, seen = view[0].inv() * moved * rest, view[0].inv() * view
    return Extraction(
        fps=FPS,
        timestamps=STEPS,
        position=found.translation,
        rotation=found.rotation.as_quat(),
        camera_position=seen.translation,
        camera_rotation=seen.rotation.as_quat(),
        visible=(STEPS < 0.8) | (STEPS > 1.0),
        intrinsics=np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]]),
        image_size=SIZE,
        frames=encode_jpegs(picture(pixel) for pixel in disc(STEPS)),
        quality={"motion_start_s": CONTACT + 0.1, "object_points": 31.0, "position_sd_m": 0.002},
    )


def shifted(found: Extraction, by: float) -> Extraction:
    """The same with `by` metres of error along x from the contact on."""
    off = np.where(STEPS >= CONTACT, by, 0.0)[:, None] * [1.0, 0.0, 0.0]
    return replace(found, position=found.position + off)


def write_truth(root: Path, uid: str) -> None:
    """Truth in the demo's format, at a rate that is not that of the steps."""
    times = np.arange(61) / 30
    path = root / f"{uid}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        times=times,
        T_world_camera=camera(times).as_matrix(),
        T_world_object=thing(times).as_matrix(),
        object_points=SURFACE,
        contact_time=CONTACT,
        release_time=RELEASE,
    )


def make_clip(root: Path, uid: str, narration: str) -> Clip:
    return Clip(
        clip_id=clip_id("filmed", "1", uid, 0.0, 2.0, uid),
        corpus="filmed",
        corpus_version="1",
        video_uid=uid,
        root=str(root),
        video_path=f"{uid}.mp4",
        annotation_path="",
        t_start=0.0,
        t_end=2.0,
        narration=narration,
        object="disc",
    )


def write_run(
    folder: Path, endings: Mapping[str, Extraction | Verdict], narration: str = "Move the disc."
) -> str:
    """Write a manifest and shards with one clip for each ending, named by video uid.

    Returns:
        The shards' folder. Videos are written for uids that do not begin with "lost".
    """
    root, times = folder / "corpus", np.arange(2 * VIDEO_RATE) / VIDEO_RATE
    made = [make_clip(root, uid, narration) for uid in endings]
    for uid in endings:
        if not uid.startswith("lost"):
            path, pixels = root / f"{uid}.mp4", disc(times)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, list(times), rate=VIDEO_RATE, gop=10,
                        draw=lambda k, pixels=pixels: picture(pixels[k]))  # fmt: skip
    manifest.write(str(folder / "manifest"), made, 2)
    where = manifest.Manifest(str(folder / "manifest"))
    run = job.begin(str(folder / "shards"), where, "tests.filmed:None", {})
    for bucket in range(where.buckets):
        for clip in where.clips(bucket, "", "g"):
            end = endings[clip.video_uid]
            row = rows.Row(clip, 1, end, "host/1", 1.5, 0.25)
            status, label = ("ok", "") if isinstance(end, Extraction) else (end.status, end.label)
            outcome = shards.Outcome(clip.clip_id, status, label, 1, False)
            data = rows.parquet(rows.table([row], run.config_hash, run.code_version))
            shards.commit(store(run.out), bucket, data, {"filmed": [outcome]}, run.run)
    return run.out
