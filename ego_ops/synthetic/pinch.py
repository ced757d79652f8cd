"""How a hand takes a thing that lies on a table: from above, fingers beyond it, thumb before it."""

from __future__ import annotations

import functools
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.synthetic import hand
from ego_ops.synthetic.grasp import Grasp, close_digit, digit_spheres, palm_gap
from ego_ops.synthetic.things import Thing

Floats = NDArray[np.float64]
_ABOVE = 0.003
"""Metres that nothing of the hand comes nearer to the table."""


def top_grasp(thing: Thing, across: float = 0.0) -> Grasp:
    """Take a thing that lies along x with the right hand, whose fingers point to -z and down.

    Of many ways to do so the one is taken in which most finger tips touch, with nothing in the
    table or in the thing.

    Args:
        across: where along the thing's x axis its middle finger comes, metres.
    """
    best, least = None, np.inf
    for pitch, behind, above in product(
        np.radians([25, 35, 45, 55]),
        np.arange(0.055, 0.116, 0.010),
        thing.height * 0.5 + np.arange(0.0, 0.091, 0.010),
    ):
        distal = [0, -np.sin(pitch), -np.cos(pitch)]
        pose = hand.as_pose(
            [across + 0.005, above, behind], distal, [0, np.cos(pitch), -np.sin(pitch)]
        )
        if least == 0.0:
            break
        if palm_gap(pose, thing.distance) < 0.001 or not _comes_freely(pose, thing):
            continue
        bend = {d: close_digit(d, 0.0, pose, thing.distance) for d in hand.DIGITS[1:]}
        fingers = sum(_fault(d, bend[d], 0.0, pose, thing) for d in hand.DIGITS[1:])
        if fingers >= least:
            continue
        for opposition in np.radians([70, 85, 100]):
            thumb = close_digit("Thumb", opposition, pose, thing.distance)
            cost = fingers + 2 * _fault("Thumb", thumb, opposition, pose, thing)
            if cost < least:
                least = cost
                best = Grasp(pose, bend | {"Thumb": thumb}, float(opposition))
    assert best is not None, thing.name
    return best


@functools.cache
def _opened() -> tuple[Floats, Floats]:
    """Spheres that fill the opened fingers of a right hand: centres (S, 3) in its frame, radii."""
    found = [digit_spheres(digit, hand.OPEN[digit][None], 0.0) for digit in hand.DIGITS[1:]]
    centres = np.concatenate([centres.reshape(-1, 3) for centres, _ in found])
    return centres, np.concatenate([radii.ravel() for _, radii in found])


def _comes_freely(pose: RigidTransform, thing: Thing) -> bool:
    """Whether the opened fingers neither cut the thing nor come too near to the table."""
    centres, radii = _opened()
    at = pose.apply(centres)
    above = at[:, 1] - radii + thing.height / 2
    return bool(above.min() > _ABOVE and (thing.distance(at) - radii).min() > 0)


def _fault(
    digit: str, bend: Floats, opposition: float, pose: RigidTransform, thing: Thing
) -> float:
    """How far a finger's tip is off the thing, and parts of it in the thing or too low, metres."""
    centres, radii = digit_spheres(digit, bend[None], opposition)
    at = pose.apply(centres.reshape(-1, 3))
    apart = (thing.distance(at).reshape(radii.shape) - radii).min(axis=1)
    above = float((at[:, 1] - radii.ravel()).min()) + thing.height / 2
    inside, low = max(-apart.min() - 0.002, 0.0), max(_ABOVE - above, 0.0)
    return float(min(max(apart[2], 0.0), 0.02) + 20 * (inside + low))
