"""How a hand takes a thing that lies on a table: from above, fingers beyond it, thumb before it."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.synthetic import hand
from ego_ops.synthetic.grasp import Grasp, close_digit, digit_spheres, gaps, palm_gap
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


def _comes_freely(pose: RigidTransform, thing: Thing) -> bool:
    """Whether the opened fingers neither cut the thing nor come too near to the table."""
    for digit in hand.DIGITS[1:]:
        opened = hand.OPEN[digit][None]
        if gaps(digit, opened, 0.0, pose, thing.distance).min() < 0:
            return False
        if _height(digit, opened, 0.0, pose, thing) < _ABOVE:
            return False
    return True


def _height(
    digit: str, bend: Floats, opposition: float, pose: RigidTransform, thing: Thing
) -> float:
    """Of a digit's lowest point above what the thing lies on, metres."""
    centres, radii = digit_spheres(digit, bend, opposition)
    lowest = pose.apply(centres.reshape(-1, 3))[:, 1] - radii.ravel()
    return float(lowest.min()) + thing.height / 2


def _fault(
    digit: str, bend: Floats, opposition: float, pose: RigidTransform, thing: Thing
) -> float:
    """How far a finger's tip is off the thing, and parts of it in the thing or too low, metres."""
    apart = gaps(digit, bend[None], opposition, pose, thing.distance)[0]
    low = max(_ABOVE - _height(digit, bend[None], opposition, pose, thing), 0.0)
    return min(max(apart[2], 0.0), 0.02) + 20 * max(-apart.min() - 0.002, 0.0) + 20 * low
