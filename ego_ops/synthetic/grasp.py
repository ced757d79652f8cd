"""How a hand takes a thing: from its side, closing each digit until it touches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.synthetic import hand
from ego_ops.synthetic.things import Distance, Thing

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Grasp:
    """A hand closed around a thing."""

    hand_to_thing: RigidTransform
    """T_thing_hand, one pose."""
    bend: hand.Bend
    opposition: float
    """Of the thumb, radians."""


def side_grasp(thing: Thing, pitch: float, roll: float, height: float, side: str) -> Grasp:
    """Take an upright thing from its right side (with the right hand), the thumb in front.

    Of several ways to do so the one is taken in which most finger tips touch.

    Args:
        pitch: how far the fingers point down, radians.
        roll: how far the palm faces down, radians.
        height: of the middle of the hand above the middle of the thing, metres.

    The hand lies as in the thing's frame: fingers towards -z, palm towards -x.
    """
    distal = [0, -np.sin(pitch), -np.cos(pitch)]
    level = hand.as_pose([0, height, 0], distal, [np.cos(roll), np.sin(roll), 0])
    best, least = None, np.inf
    for ahead in np.arange(0.048, 0.101, 0.008):
        before = RigidTransform.from_translation([-ahead, 0, -0.004])
        pose = _slide_to_touch(level * before, thing.distance)
        fingers = {d: close_digit(d, 0.0, pose, thing.distance) for d in hand.DIGITS[1:]}
        for opposition in np.radians([55, 70, 85, 95, 105, 115]):
            thumb = close_digit("Thumb", opposition, pose, thing.distance)
            grasp = Grasp(pose, fingers | {"Thumb": thumb}, float(opposition))
            # The further the thumb stands off, the lower it lies and the less it hides.
            cost = _looseness(grasp, thing) - 0.002 * opposition
            if cost < least:
                best, least = grasp, cost
    assert best is not None
    return best if side == "right" else mirrored(best)


def _looseness(grasp: Grasp, thing: Thing) -> float:
    """How far finger tips are off a thing, and other parts inside it, metres in all."""
    off = 0.0
    for digit, bend in grasp.bend.items():
        apart = gaps(digit, bend[None], grasp.opposition, grasp.hand_to_thing, thing.distance)[0]
        off += min(max(apart[2], 0.0), 0.02) + 20 * max(-apart.min() - 0.002, 0.0)
    return off


def mirrored(grasp: Grasp) -> Grasp:
    """The left hand's grasp of a thing that is its own mirror image in x."""
    matrix = np.diag([-1.0, 1, 1, 1]) @ grasp.hand_to_thing.as_matrix() @ np.diag([1.0, 1, -1, 1])
    return Grasp(RigidTransform.from_matrix(matrix), grasp.bend, grasp.opposition)


def digit_spheres(digit: str, bend: Floats, opposition: float) -> tuple[Floats, Floats]:
    """Spheres that fill the bones of a right hand's digit: centres (N, 3, 5, 3), radii (3, 5).

    Args:
        bend: (N, 3) radians.
    """
    frames = hand.digit_frames(digit, bend, opposition)
    share = np.linspace(0, 1, 5)
    ends = np.stack([frame.translation for frame in frames], axis=1)
    centres = ends[:, :3, None] + share[:, None] * (ends[:, 1:] - ends[:, :3])[:, :, None]
    radii = np.array(hand.RADII[digit])
    return centres, radii[:3, None] + share * np.diff(radii)[:, None]


def gaps(
    digit: str, bend: Floats, opposition: float, pose: RigidTransform, thing: Distance
) -> Floats:
    """(N, 3) metres between each bone of a right hand's digit and a thing.

    Args:
        bend: (N, 3) radians.
        pose: T_thing_hand.
    """
    centres, radii = digit_spheres(digit, bend, opposition)
    distance = thing(pose.apply(centres.reshape(-1, 3))).reshape(centres.shape[:3])
    return np.asarray((distance - radii).min(axis=2))


def palm_gap(pose: RigidTransform, thing: Distance) -> float:
    palm = hand.palm_spheres()
    return float((thing(pose.apply(palm[:, :3])) - palm[:, 3]).min())


def _slide_to_touch(pose: RigidTransform, thing: Distance, gap: float = 0.001) -> RigidTransform:
    """Move a hand along its palm's normal, from 12 cm away, until the palm touches."""
    for back in np.arange(0.12, -0.05, -0.001):
        moved = pose * RigidTransform.from_translation([0, back, 0])
        if palm_gap(moved, thing) < gap:
            return moved
    return pose


def close_digit(
    digit: str, opposition: float, pose: RigidTransform, thing: Distance, press: float = 0.001
) -> Floats:
    """Bend a right hand's digit until its bones touch, the inner joints first: (3,) radians.

    Args:
        pose: T_thing_hand.
        press: metres that a bone goes into the thing, as soft skin does.
    """
    steps = 80
    bend = np.array(hand.OPEN[digit], float)
    step = (hand.LIMIT[digit] - bend) / steps
    free = np.ones(3, bool)
    while free.any() and steps > 0:
        trials = bend + np.arange(1.0, steps + 1)[:, None] * np.where(free, step, 0.0)
        hit = free & (gaps(digit, trials, opposition, pose, thing) < -press)
        first = int(np.argmax(hit.any(axis=1))) if hit.any() else steps
        bend = bend + first * np.where(free, step, 0.0)
        if not hit.any():
            break
        # A bone that touches holds its own joint and all joints before it.
        free[: 1 + int(np.flatnonzero(hit[first]).max())] = False
        steps -= first
    return bend
