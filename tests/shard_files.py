"""Real shards for tests, made in a moment: any paths, pictures that tell clip and step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ego_ops import rows, shards
from ego_ops.clip import Clip, clip_id
from ego_ops.jpeg import encode_jpegs
from ego_ops.pipeline import Extraction
from ego_ops.storage import store

GREYS = 251


def clip(number: int, narration: str = "", corpus: str = "toy") -> Clip:
    """A clip of no video."""
    return Clip(
        clip_id=clip_id(corpus, "1", "video", number, number + 1, str(number)),
        corpus=corpus, corpus_version="1", video_uid="video", root="/nowhere",
        video_path="video.mp4", annotation_path="", t_start=number, t_end=number + 1.0,
        narration=narration or f"pick up thing {number}", verb="pick up", object=f"thing {number}",
    )  # fmt: skip


def path(seed: int, steps: int, scale: float = 0.01) -> tuple[NDArray, NDArray]:
    """A wandering path: (T, 3) metres and (T, 4) quaternions."""
    chance = np.random.default_rng(seed)
    position = np.cumsum(chance.normal(0, scale, (steps, 3)), axis=0) + [0.1, 0.0, 0.6]
    turns = Rotation.from_rotvec(np.cumsum(chance.normal(0, 3 * scale, (steps, 3)), axis=0))
    return position, turns.as_quat()


def grey(number: int, step: int) -> int:
    """What all pixels are in the picture of a step."""
    return (37 * number + 5 * step) % GREYS


def trajectory(
    number: int, steps: int, side: int = 32, quality: Mapping[str, float] | None = None
) -> Extraction:
    """A trajectory with a moving camera and pictures that are all of one grey: see `grey`."""
    position, rotation = path(2 * number, steps)
    camera_position, camera_rotation = path(2 * number + 1, steps, 0.003)
    camera_position = camera_position - camera_position[0]
    turned = Rotation.from_quat(camera_rotation)
    images = (np.full((side, side, 3), grey(number, step), np.uint8) for step in range(steps))
    return Extraction(
        fps=10.0,
        timestamps=number + np.arange(steps) / 10,
        position=position,
        rotation=rotation,
        camera_position=camera_position,
        camera_rotation=(turned[0].inv() * turned).as_quat(),
        visible=np.ones(steps, bool),
        intrinsics=np.array([200.0, 200.0, 112.0, 112.0]),
        image_size=(224, 224),
        frames=encode_jpegs(images, side),
        quality=quality or {},
    )


def write(url: str, parts: Sequence[Sequence[tuple[Clip, Extraction]]]) -> None:
    """Commit parts of these clips, each part in a bucket of its own."""
    for bucket, clips in enumerate(parts):
        made = [
            rows.Row(one, 1, found, "", 0, 0)
            for one, found in sorted(clips, key=lambda each: each[0].clip_id)
        ]
        put(url, rows.table(made, "", ""), bucket)


def put(url: str, table: pa.Table, bucket: int = 0) -> None:
    """Commit a part of these rows."""
    outcomes: dict[str, list[shards.Outcome]] = {}
    for row in table.select(["clip_id", "corpus", "status"]).to_pylist():
        outcome = shards.Outcome(row["clip_id"], row["status"], "", 1, False)
        outcomes.setdefault(row["corpus"], []).append(outcome)
    shards.commit(store(url), bucket, rows.parquet(table), outcomes, "run")


def simple(url: str, parts: int = 3, clips: int = 4, steps: int = 12, side: int = 32) -> list[Clip]:
    """Shards of some parts; clip c of all has `steps` + c % 3 steps. Returns its clips."""
    made = [clip(number) for number in range(parts * clips)]
    each = [(one, trajectory(n, steps + n % 3, side)) for n, one in enumerate(made)]
    write(url, [each[at : at + clips] for at in range(0, len(each), clips)])
    return made


def noisy(chance: np.random.Generator, side: int) -> bytes:
    """A JPEG of blurred noise, about as large as that of a real scene."""
    image = cv2.GaussianBlur(chance.integers(0, 256, (side, side, 3), np.uint8), (0, 0), 2)
    return encode_jpegs([cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)], side)[0]
