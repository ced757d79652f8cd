"""Rendered clips with true poses, and what depth networks and trackers would make of them.

A hand carries a thing over a table, filmed by a head: 50 frames, 640 pixels wide, 20 a second.
Depth is the rendered one times a wrong scale for the whole clip (12 %), a flicker from frame to
frame (2 %) and a smooth bias over the picture (3 %); tracks have 0.7 px of noise and drift under
occlusion (`bench.geometry_tracks`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.geometry_film import make_film
from bench.geometry_tracks import (
    HANDS,
    OBJECT,
    STILL,
    Film,
    Points,
    drift,
    follow,
    merge,
)
from ego_ops.camera import rigid
from ego_ops.geometry.observed import Observed, TrackedPoints
from ego_ops.synthetic.scene import Scene

Floats = NDArray[np.float64]
FRAMES, FPS = 50, 20.0
SCALE_ERROR, FLICKER, BIAS = 0.12, 0.02, 0.03
"""Relative standard deviations of depth."""
PATH_NOISE = (0.002, np.radians(0.1))
"""Of recorded camera poses: metres and radians along each axis."""
OCCLUDED = 0.3
"""Share of frames in which the occluded variant shows nothing of the object."""


@dataclass(frozen=True)
class Clip:
    """One clip: three variants of what was observed, and the truth."""

    name: str
    observed: Observed
    with_path: Observed
    """The same with recorded camera poses, T_world_camera."""
    occluded: Observed
    """As `observed`, with the object hidden in 30 % of the frames, in one or two runs."""
    object: RigidTransform
    """T true poses T_first_object; the object's frame is the mesh's own."""
    path: RigidTransform
    """T true poses T_first_camera."""
    centre: Floats
    """(3,) true middle of the object's tracked points in the first camera frame, at the start."""
    object_points: Floats
    """(N, 3) true places in the object's frame; NaN for tracks that are not on it."""
    background_points: Floats
    """(M, 3) true places in the first camera frame; NaN for what does not stand still."""
    film: Film
    depth: NDArray[np.float32]
    """(T, H, W) as a network would give it, metres."""


def make_clip(seed: int, frames: int = FRAMES, fps: float = FPS) -> Clip:
    """The clip of a seed; the same seed gives the same clip.

    Raises:
        UserError: there is nothing to render with.
    """
    rng = np.random.default_rng([seed, 77])
    film, scene = make_film(seed, frames, fps, rng)
    depth = degraded(film.depth, rng)
    first_world = rigid(film.world_camera[0]).inv()
    path, thing = (first_world * rigid(m) for m in (film.world_camera, film.bodies[OBJECT]))
    on_object, first = _object_points(scene, film, rng)
    tracks = _tracked(film, depth, on_object, first, np.zeros(len(first)), rng)
    still, first_still, wander = _background_points(film, rng)
    background = _tracked(film, depth, still, first_still, wander, rng)
    observed = Observed(film.camera, film.times, tracks, background)
    places = np.where((on_object.body == OBJECT)[:, None], on_object.local, np.nan)
    fixed = np.where((still.body == STILL) & (wander == 0), 1.0, np.nan)[:, None]
    return Clip(
        name=f"{seed}-{scene.thing.name}",
        observed=observed,
        with_path=replace(observed, path=_recorded(film.world_camera, rng)),
        occluded=replace(observed, object=_hidden(tracks, rng)),
        object=thing,
        path=path,
        centre=thing[0].apply(np.nanmean(places, axis=0)),
        object_points=places,
        background_points=fixed * first_world.apply(still.local),
        film=film,
        depth=depth,
    )


def degraded(depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Depth (T, H, W) with a wrong scale, flicker and a smooth bias that changes slowly."""
    steps, height, width = depth.shape
    flicker = 1 + FLICKER * rng.standard_normal((steps, 1, 1))
    scale = max(1 + SCALE_ERROR * rng.standard_normal(), 0.6) * flicker
    fields = rng.standard_normal((3, 5, 5))
    turn = np.linspace(0, np.pi / 2, steps)[:, None, None]
    coarse = np.sqrt(0.7) * fields[0] + np.sqrt(0.3) * (
        np.cos(turn) * fields[1] + np.sin(turn) * fields[2]
    )
    bias = np.stack([cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC) for c in coarse])
    bias *= BIAS / np.sqrt(np.mean(bias**2))
    return (depth * scale * (1 + bias)).astype(np.float32)


def _object_points(
    scene: Scene, film: Film, rng: np.random.Generator
) -> tuple[Points, NDArray[np.int64]]:
    """150 to 400 points of the object, most asked for in the first frame and others where they
    come into view, and 3 to 8 % that lie beside it; with the frame of each."""
    count = int(rng.integers(150, 401))
    beside = round(count * rng.uniform(0.03, 0.08))
    every = Points(np.full(6000, OBJECT), scene.thing.mesh.sample(6000, rng))
    seen = film.seen(every)
    chosen, first = [], []
    asked = [0, *rng.choice(np.arange(5, len(seen) - 5), 3, replace=False)]
    for frame, share in zip(asked, (0.7, 0.1, 0.1, 0.1), strict=True):
        free = np.flatnonzero(seen[frame])
        if len(free) == 0:
            continue
        chosen.append(every.select(rng.choice(free, round(share * (count - beside)))))
        first.append(np.full(len(chosen[-1].body), frame))
    near = cv2.dilate((film.groups[0] == OBJECT).astype(np.uint8), np.ones((9, 9), np.uint8))
    rows, columns = np.nonzero(near.astype(bool) & (film.groups[0] != OBJECT))
    if len(rows):
        pick = rng.integers(0, len(rows), beside)
        chosen.append(film.under(0, np.stack([columns[pick], rows[pick]], -1).astype(float)))
        first.append(np.zeros(beside, int))
    return merge(chosen), np.concatenate(first)


def _background_points(
    film: Film, rng: np.random.Generator
) -> tuple[Points, NDArray[np.int64], Floats]:
    """200 to 400 points of everything else, 5 to 15 % of them on hands or on nothing rigid.

    Returns:
        The points, the frame that each is asked for in, and how far it walks off a frame.
    """
    count = int(rng.integers(200, 401))
    wrong = round(count * rng.uniform(0.05, 0.15) / 2)
    chosen, first = [], []
    for frame, share in zip(np.linspace(0, len(film.depth) - 10, 4).astype(int),
                            (0.55, 0.15, 0.15, 0.15), strict=True):  # fmt: skip
        pixels = _corners(film, frame, round(share * (count - wrong)), rng)
        chosen.append(film.under(frame, pixels))
        first.append(np.full(len(pixels), frame))
    wander = np.zeros(sum(map(len, first)))
    loose = rng.choice(len(wander), wrong, replace=False)
    wander[loose] = rng.uniform(0.3, 2.5, wrong)
    frames = np.flatnonzero((film.groups == HANDS).any(axis=(1, 2)))
    if len(frames):
        frame = int(frames[0])
        rows, columns = np.nonzero(film.groups[frame] == HANDS)
        pick = rng.integers(0, len(rows), wrong)
        chosen.append(film.under(frame, np.stack([columns[pick], rows[pick]], -1).astype(float)))
        first.append(np.full(wrong, frame))
        wander = np.concatenate([wander, np.zeros(wrong)])
    return merge(chosen), np.concatenate(first), wander


def _corners(film: Film, frame: int, count: int, rng: np.random.Generator) -> Floats:
    """(count, 2) pixels away from the object and the hands: corners for the most part."""
    moving = (film.groups[frame] != STILL).astype(np.uint8)
    free = cv2.dilate(moving, np.ones((9, 9), np.uint8)) == 0
    grey = cv2.cvtColor(film.images[frame], cv2.COLOR_RGB2GRAY)
    corners = cv2.goodFeaturesToTrack(
        grey, round(0.8 * count), 0.003, 7, mask=free.astype(np.uint8) * 255
    )
    found = np.zeros((0, 2)) if corners is None else corners[:, 0].astype(float)
    rows, columns = np.nonzero(free)
    pick = rng.integers(0, len(rows), count - len(found))
    return np.concatenate([found, np.stack([columns[pick], rows[pick]], -1)])


def _tracked(
    film: Film, depth: NDArray[np.float32], points: Points, first: NDArray[np.int64],
    wander: Floats, rng: np.random.Generator,
) -> TrackedPoints:  # fmt: skip
    """Tracks, with the depth that is read where they are thought to be."""
    xy, visible = follow(film, points, first, wander, bool(rng.random() < 0.5), rng)
    inside = visible & film.camera.contains(xy)
    column, row = np.rint(np.where(inside[..., None], xy, 0)).astype(int).transpose(2, 0, 1)
    read = depth[np.arange(len(depth))[:, None], row, column].astype(float)
    return TrackedPoints(xy, visible, np.where(inside, read, np.nan))


def _recorded(world_camera: Floats, rng: np.random.Generator) -> RigidTransform:
    shift, turn = (rng.normal(0, sd, (len(world_camera), 3)) for sd in PATH_NOISE)
    noise = RigidTransform.from_components(shift, Rotation.from_rotvec(turn))
    return rigid(world_camera) * noise


def _hidden(tracks: TrackedPoints, rng: np.random.Generator) -> TrackedPoints:
    """The same tracks, lost in one or two runs of frames; many come back some pixels off."""
    steps = len(tracks.visible)
    length = round(OCCLUDED * steps)
    runs = [length] if rng.random() < 0.5 else [length // 2, length - length // 2]
    spare = np.sort(rng.integers(0, steps - length - 10, len(runs)))
    xy, visible, before = tracks.xy.copy(), tracks.visible.copy(), 0
    for run, at in zip(runs, spare, strict=True):
        begin = 5 + at + before
        before += run
        visible[begin : begin + run] = False
        xy[begin + run :] += drift(np.full(tracks.count, run), rng)
    return TrackedPoints(xy, visible, np.where(visible, tracks.depth, np.nan))
