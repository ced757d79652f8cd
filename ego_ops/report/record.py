"""Rows of shards, read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ego_ops.camera import Camera
from ego_ops.pipeline import Extraction
from ego_ops.quality import SCORES

TRAJECTORY = (
    "fps",
    "timestamps",
    "position",
    "rotation",
    "camera_position",
    "camera_rotation",
    "visible",
    "intrinsics",
    "image_size",
)
"""The columns that make a trajectory, without its pictures (`frames`) and scores."""


def extraction(row: Mapping[str, Any]) -> Extraction | None:
    """The trajectory in one row, None where the clip has none.

    Args:
        row: values by column, those of `TRAJECTORY` at least. Where `frames` or scores are absent
            or null, the result has none.
    """
    if row["timestamps"] is None:
        return None
    width, height = row["image_size"]
    return Extraction(
        fps=row["fps"],
        timestamps=np.array(row["timestamps"], float),
        position=np.array(row["position"], float),
        rotation=np.array(row["rotation"], float),
        camera_position=np.array(row["camera_position"], float),
        camera_rotation=np.array(row["camera_rotation"], float),
        visible=np.array(row["visible"], bool),
        intrinsics=np.array(row["intrinsics"], float),
        image_size=(width, height),
        frames=list(row.get("frames") or ()),
        quality={name: row[name] for name in SCORES if row.get(name) is not None},
    )


def source_camera(found: Extraction) -> Camera:
    """The camera of the source video, upright and with its lens undone."""
    fx, fy, cx, cy = found.intrinsics.tolist()
    return Camera(fx, fy, cx, cy, *found.image_size)
