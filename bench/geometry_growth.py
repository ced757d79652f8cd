"""Made-up tracks of any length and number, to see how the time of an estimate grows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import Camera
from ego_ops.geometry.estimate import estimate
from ego_ops.geometry.observed import Observed, TrackedPoints

Floats = NDArray[np.float64]
CAMERA = Camera(300.0, 300.0, 319.5, 239.5, 640, 480)
SIZES = ((50, 250), (50, 500), (50, 1000), (100, 500), (200, 500), (300, 1000), (300, 2000))
"""Frames, and tracks: half of them on the object, the others on the background."""
LIMIT = 5.0
"""Seconds for 300 frames with 1,000 tracks."""


def growth() -> list[dict[str, Any]]:
    """CPU seconds of this process for each of `SIZES`."""
    rows = []
    for frames, tracks in SIZES:
        observed = made_up(frames, tracks)
        begin = time.process_time()
        estimate(observed)
        spent = round(time.process_time() - begin, 3)
        rows.append({"frames": frames, "tracks": tracks, "s": spent})
    return rows


def is_linear(rows: list[dict[str, Any]]) -> bool:
    """Whether twice the frames, and twice the tracks, cost no more than twice as much, a tenth
    allowed for the clock, and 300 frames with 1,000 tracks no more than `LIMIT`."""
    spent = {(row["frames"], row["tracks"]): row["s"] for row in rows}
    doubled = [((100, 500), (200, 500)), ((50, 500), (50, 1000)), ((300, 1000), (300, 2000))]
    return spent[300, 1000] <= LIMIT and all(spent[b] <= 2.2 * spent[a] for a, b in doubled)


def made_up(frames: int, tracks: int, seed: int = 0) -> Observed:
    """A ball of 10 cm that is carried about and turned, before a room that is seen by a head.

    Points of the ball are seen from the front, those of the room while they are in the picture.
    Tracks have 0.7 px of noise, depth has 3 %, and a tenth of the background moves by itself.
    """
    rng = np.random.default_rng(seed)
    times = np.arange(frames) / 20.0
    head = _swaying(rng, times, 0.02, 0.06)
    ball = _swaying(rng, times, 0.06, 0.5) * RigidTransform.identity(frames)
    ball = RigidTransform.from_translation([0.0, 0.05, 0.5]) * ball
    outward = rng.normal(0, 1, (tracks // 2, 3))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    local = _moved(head.inv() * ball, 0.05 * outward)
    facing = np.einsum("tni,tni->tn", _moved(head.inv() * ball, outward) - _moved(
        head.inv() * ball, 0 * outward), local) < 0  # fmt: skip
    room = rng.uniform([-1.2, -0.8, 0.8], [1.2, 0.8, 2.5], (tracks - tracks // 2, 3))
    roaming = np.cumsum(rng.normal(0, 0.01, (frames, len(room), 3)), axis=0)
    roaming[:, rng.random(len(room)) > 0.1] = 0
    still = _moved(head.inv(), room + roaming)
    return Observed(
        CAMERA, times, _seen(rng, local, facing), _seen(rng, still, np.full(still.shape[:2], True))
    )


def _seen(rng: np.random.Generator, local: Floats, shown: NDArray[np.bool_]) -> TrackedPoints:
    xy = CAMERA.project(local) + rng.normal(0, 0.7, (*local.shape[:2], 2))
    visible = shown & CAMERA.contains(np.nan_to_num(xy, nan=-9.0))
    depth = local[..., 2] * (1 + rng.normal(0, 0.03, local.shape[:2]))
    return TrackedPoints(np.nan_to_num(xy), visible, np.where(visible, depth, np.nan))


def _swaying(rng: np.random.Generator, times: Floats, metres: float, turn: float) -> RigidTransform:
    rate, phase = rng.uniform(0.2, 0.6, (2, 3)), rng.uniform(0, 6, (2, 3))
    wave = np.sin(2 * np.pi * rate * times[:, None, None] + phase)
    return RigidTransform.from_components(metres * wave[:, 0], Rotation.from_rotvec(
        turn * wave[:, 1]))  # fmt: skip


def _moved(poses: RigidTransform, points: Floats) -> Floats:
    """(T, n, 3) points (n, 3), or (T, n, 3), under T poses."""
    matrix = poses.as_matrix()
    moved: Floats = np.einsum(
        "tij,tnj->tni",
        matrix[:, :3, :3],
        np.broadcast_to(points, (len(matrix), *points.shape[-2:])),
    )
    return moved + matrix[:, None, :3, 3]
