"""A point tracker's output as it would be on a rendered film, made from the truth.

The truth says where each point is and when it is hidden; added are pixel noise, and what trackers
do at occlusions: they notice them late while the point goes along with whatever hides it, and
come back some pixels off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.camera import Camera

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
STILL, OBJECT, HANDS = range(3)
"""What a pixel shows; also bodies 0 and 1, further bodies being the joints of the hands."""

NOISE = 0.7
"""Standard deviation of a track along each axis, pixels."""
UNNOTICED, NOTICED = 0.4, 0.15
"""Share of occlusions that the tracker does not notice at once, and of the frames in which it
then does."""
DRAG = 0.6
"""Random walk while dragged along, pixels a frame."""
DRIFT, FURTHEST = 1.5, 3.0
"""Offset along each axis after an occlusion of one frame, pixels; it grows with the root of the
occlusion's length up to the second, from where on trackers find a point by its looks or not."""
DRIFTING, LOST = 0.6, 0.1
"""Shares of occlusions after which a track comes back with an offset, or never."""


def drift(frames: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """(n, 2) pixels by which tracks come back off after (n,) hidden frames."""
    size = np.minimum(DRIFT * np.sqrt(frames), FURTHEST) * (rng.random(len(frames)) < DRIFTING)
    return np.asarray(rng.normal(0, 1, (len(frames), 2)) * size[:, None])


@dataclass(frozen=True)
class Film:
    """T frames of a scene, with what is truly in them."""

    camera: Camera
    times: Floats
    """(T,) seconds from the first frame."""
    world_camera: Floats
    """(T, 4, 4) T_world_camera."""
    bodies: Floats
    """(B, T, 4, 4) T_world_body: the world itself, the object, the joints of the hands."""
    images: NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    depth: NDArray[np.float32]
    """(T, H, W) true metres along the optical axis."""
    groups: NDArray[np.uint8]
    """(T, H, W) `STILL`, `OBJECT` or `HANDS`."""

    @cached_property
    def deepest(self) -> NDArray[np.float32]:
        """(3, T, H, W) greatest depth of each group within a pixel; 0 where there is none."""
        square = np.ones((3, 3), np.uint8)
        return np.stack(
            [
                [cv2.dilate(np.where(g == k, d, 0), square) for d, g in zip(
                    self.depth, self.groups, strict=True)]
                for k in (STILL, OBJECT, HANDS)
            ]
        )  # fmt: skip

    def under(self, frame: int, xy: Floats) -> Points:
        """The surface points that pixels (n, 2), inside the picture, show in a frame."""
        column, row = np.rint(xy).astype(int).T
        local = self.camera.rays(xy) * self.depth[frame, row, column][:, None]
        world = _moved(self.world_camera[frame], local)
        body = self.groups[frame, row, column].astype(int)
        joints = self.bodies[HANDS:, frame, :3, 3]
        apart = np.linalg.norm(world[:, None] - joints, axis=-1)
        body = np.where(body == HANDS, HANDS + apart.argmin(1), body)
        return Points(body, _moved(np.linalg.inv(self.bodies[body, frame]), world))

    def place(self, points: Points) -> Floats:
        """(T, n, 3) points in each camera frame."""
        to_camera = np.linalg.inv(self.world_camera)[:, None] @ self.bodies[points.body].swapaxes(
            0, 1
        )
        return _moved(to_camera, points.local)

    def seen(self, points: Points) -> Mask:
        """(T, n) whether each point is in the picture with nothing in front."""
        local = self.place(points)
        xy = self.camera.project(local)
        inside = np.isfinite(xy).all(-1) & self.camera.contains(np.nan_to_num(xy, nan=-9.0), 1)
        column, row = np.rint(np.where(inside[..., None], xy, 0)).astype(int).transpose(2, 0, 1)
        frame = np.arange(len(local))[:, None]
        group = np.minimum(points.body, HANDS)
        own = self.groups[frame, row, column] == group
        slack = np.where(group == OBJECT, 0.003, 0.003 + 0.01 * local[..., 2])
        return inside & own & (local[..., 2] <= self.deepest[group, frame, row, column] + slack)


@dataclass(frozen=True)
class Points:
    """n points, each fixed to a body."""

    body: NDArray[np.int64]
    """(n,)"""
    local: Floats
    """(n, 3) metres in the body's frame."""

    def select(self, which: Mask | NDArray[np.int64]) -> Points:
        return Points(self.body[which], self.local[which])


def merge(several: list[Points]) -> Points:
    return Points(
        np.concatenate([p.body for p in several]), np.concatenate([p.local for p in several])
    )


def follow(
    film: Film, points: Points, asked: NDArray[np.int64], wander: Floats, both_ways: bool,
    rng: np.random.Generator,
) -> tuple[Floats, Mask]:  # fmt: skip
    """Track points through a film, forward from the frame that each is asked for in.

    Args:
        asked: (n,) frames.
        wander: (n,) pixels a frame by which a point walks off that belongs to nothing rigid.
        both_ways: whether points are tracked to the film's beginning as well.

    Returns:
        (T, n, 2) pixels and (T, n) whether the tracker says that the point is visible.
    """
    ideal, seen = film.camera.project(film.place(points)), film.seen(points)
    steps, count = seen.shape
    walk = np.cumsum(rng.normal(0, 1, ideal.shape) * wander[:, None], axis=0)
    ideal = ideal + walk - walk[asked, np.arange(count)]
    away = np.arange(steps)[:, None] - asked
    xy, visible = _onward(film, ideal, seen, away, range(steps), rng)
    if both_ways:
        earlier, known = _onward(film, ideal, seen, -away, range(steps)[::-1], rng)
        xy, visible = np.where((away < 0)[..., None], earlier, xy), visible | known
    return np.nan_to_num(xy) + rng.normal(0, NOISE, xy.shape), visible


def _onward(
    film: Film, ideal: Floats, seen: Mask, away: NDArray[np.int64], frames: range,
    rng: np.random.Generator,
) -> tuple[Floats, Mask]:  # fmt: skip
    """Without noise: pixels and visibility in the frames that are 0 or more `away` (T, n)."""
    count = seen.shape[1]
    xy, visible = ideal.copy(), seen & (away >= 0)
    offset, slip = np.zeros((count, 2)), np.zeros((count, 2))
    hidden, dragged, lost = np.zeros(count, int), np.zeros(count, bool), np.zeros(count, bool)
    anchor = Points(np.zeros(count, int), np.zeros((count, 3)))
    for t in frames:
        back = seen[t] & (hidden > 0)
        offset += np.where(back[:, None], drift(hidden, rng), 0)
        lost |= back & (rng.random(count) < LOST)
        hidden = np.where(seen[t], 0, hidden + (away[t] > 0))
        inside = film.camera.contains(np.nan_to_num(ideal[t], nan=-9.0), 1)
        begins = (hidden == 1) & inside & (rng.random(count) < UNNOTICED)
        if begins.any():
            found = film.under(t, ideal[t, begins])
            anchor.body[begins], anchor.local[begins] = found.body, found.local
        dragged = (dragged & ~seen[t] & (rng.random(count) > NOTICED)) | begins
        slip = np.where(begins[:, None], 0, slip + rng.normal(0, DRAG, (count, 2)))
        to_camera = np.linalg.inv(film.world_camera[t]) @ film.bodies[anchor.body, t]
        along = film.camera.project(_moved(to_camera, anchor.local)) + slip
        dragged &= film.camera.contains(np.nan_to_num(along, nan=-9.0), 1)
        xy[t] = np.where(dragged[:, None], along, ideal[t] + offset)
        visible[t] = (visible[t] | dragged) & ~lost
    return xy, visible


def _moved(matrix: Floats, points: Floats) -> Floats:
    """Points (..., 3) mapped by (..., 4, 4)."""
    moved: Floats = (matrix[..., :3, :3] @ points[..., None])[..., 0] + matrix[..., :3, 3]
    return moved
