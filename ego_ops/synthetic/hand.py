"""An articulated hand with its forearm: joints, shape, and how it closes around a thing.

A hand's frame sits at the wrist: x towards the fingers, y out of the back of the hand, z = x cross
y (so the thumb of a right hand is at -z). Frames of a finger's joints lie alike: x along the bone,
y dorsal; bending a joint turns x towards -y. Everything is written for the right hand; a left
hand is its mirror image in z.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.synthetic.meshes import Mesh, hull
from ego_ops.synthetic.motion import repeat

Floats = NDArray[np.float64]
Bend = Mapping[str, Floats]
"""Flexion (..., 3) in radians of the three joints of each digit, from the palm out."""

DIGITS = ("Thumb", "IndexFinger", "MiddleFinger", "RingFinger", "LittleFinger")
_BASE = {
    "Thumb": (0.022, -0.010, -0.022),
    "IndexFinger": (0.090, -0.002, -0.026),
    "MiddleFinger": (0.094, 0.000, -0.005),
    "RingFinger": (0.089, -0.001, 0.015),
    "LittleFinger": (0.081, -0.004, 0.033),
}
LENGTHS = {
    "Thumb": (0.046, 0.033, 0.025),
    "IndexFinger": (0.041, 0.025, 0.020),
    "MiddleFinger": (0.045, 0.028, 0.021),
    "RingFinger": (0.042, 0.026, 0.021),
    "LittleFinger": (0.033, 0.020, 0.018),
}
"""Metres, from the palm out."""
RADII = {
    "Thumb": (0.0145, 0.0115, 0.0105, 0.0085),
    "IndexFinger": (0.0105, 0.0092, 0.0082, 0.0068),
    "MiddleFinger": (0.0108, 0.0094, 0.0084, 0.0070),
    "RingFinger": (0.0104, 0.0090, 0.0080, 0.0066),
    "LittleFinger": (0.0092, 0.0078, 0.0070, 0.0058),
}
_SPREAD = {"IndexFinger": 5.0, "MiddleFinger": 1.0, "RingFinger": -4.0, "LittleFinger": -9.0}
_PALM = (
    (0.088, -0.003, -0.025, 0.0118), (0.092, -0.001, -0.005, 0.0122),
    (0.087, -0.002, 0.014, 0.0117), (0.079, -0.005, 0.031, 0.0108),
    (0.004, -0.003, -0.014, 0.0165), (0.004, -0.003, 0.013, 0.0160),
    (0.028, -0.008, -0.022, 0.0150), (0.030, -0.009, 0.024, 0.0150),
)  # fmt: skip
"""Spheres whose hull is the palm: centre and radius, metres."""
UPPER_ARM, FOREARM = 0.30, 0.265
"""Metres."""
_MIRROR = np.diag([1.0, 1.0, -1.0])

OPEN: Bend = {
    "Thumb": np.radians([-40.0, 0.0, 5.0]),
    **{digit: np.radians([2.0, 16.0, 8.0]) for digit in DIGITS[1:]},
}
REST: Bend = {
    "Thumb": np.radians([-5.0, 12.0, 12.0]),
    **{digit: np.radians([14.0 + 5 * k, 24.0 + 4 * k, 14.0]) for k, digit in enumerate(DIGITS[1:])},
}
LIMIT = {digit: np.radians([85.0, 100.0, 65.0]) for digit in DIGITS[1:]}
LIMIT["Thumb"] = np.radians([45.0, 60.0, 70.0])


def _root(digit: str, opposition: float) -> RigidTransform:
    """Frame of a digit's first joint in the hand, not bent (right hand)."""
    if digit != "Thumb":
        turn = Rotation.from_euler("y", _SPREAD[digit], degrees=True)
        return RigidTransform.from_components(_BASE[digit], turn)
    x = np.array([0.50, -0.86 * np.sin(opposition), -0.86 * np.cos(opposition)])
    x /= np.linalg.norm(x)
    # The pad of the thumb faces the other fingers' pads.
    pad = np.array([0.75, -0.25, 0.65])
    pad -= (pad @ x) * x
    y = -pad / np.linalg.norm(pad)
    axes = Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=1))
    return RigidTransform.from_components(_BASE[digit], axes)


def digit_frames(digit: str, bend: Floats, opposition: float) -> list[RigidTransform]:
    """The three joints and the tip of a right hand's digit, in the hand's frame.

    Args:
        bend: (N, 3) radians.
        opposition: how far the thumb stands in front of the palm, radians.
    """
    frame = repeat(_root(digit, opposition), len(bend))
    frames = []
    for joint, length in enumerate(LENGTHS[digit]):
        turn = Rotation.from_euler("z", -bend[:, joint, None])
        frame = frame * RigidTransform.from_rotation(turn)
        frames.append(frame)
        frame = frame * RigidTransform.from_translation([length, 0, 0])
    return [*frames, frame]


def mirrored(frame: RigidTransform) -> RigidTransform:
    """A motion in a right hand's frame as the same motion of a left hand."""
    rotation = Rotation.from_matrix(_MIRROR @ frame.rotation.as_matrix() @ _MIRROR)
    return RigidTransform.from_components(frame.translation * [1, 1, -1], rotation)


def joints(
    wrist: RigidTransform, bend: Bend, opposition: float, side: str
) -> dict[str, RigidTransform]:
    """Joints of a hand in the world, named `Hand`, `<digit>0` to `<digit>3` (the tip).

    Args:
        wrist: N poses T_world_hand.
        bend: (N, 3) radians a digit.
        side: "left" or "right".
    """
    found = {"Hand": wrist}
    for digit in DIGITS:
        for k, frame in enumerate(digit_frames(digit, bend[digit], opposition)):
            found[f"{digit}{k}"] = wrist * (frame if side == "right" else mirrored(frame))
    return found


def elbow(shoulder: Floats, wrist: Floats, outward: float) -> Floats:
    """(N, 3) elbows of an arm of two bones, bent outward and down.

    A wrist out of reach pulls the shoulder along: the elbow stays a forearm from the wrist.
    """
    line = wrist - shoulder
    distance = np.linalg.norm(line, axis=1, keepdims=True)
    line /= distance
    reach = np.minimum(distance, UPPER_ARM + FOREARM - 1e-4)
    along = (reach**2 + FOREARM**2 - UPPER_ARM**2) / (2 * reach)
    pole = np.array([outward, -0.45, 0.0]) - (line @ [outward, -0.45, 0.0])[:, None] * line
    pole /= np.linalg.norm(pole, axis=1, keepdims=True)
    return np.asarray(wrist - along * line + np.sqrt(np.maximum(FOREARM**2 - along**2, 0)) * pole)


def bone_frame(start: Floats, end: Floats, up: Floats) -> RigidTransform:
    """N frames at `start` (N, 3) with x to `end` and y as near `up` (N, 3) as can be."""
    x = end - start
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = up - np.einsum("nd,nd->n", up, x)[:, None] * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    axes = np.stack([x, y, np.cross(x, y)], axis=2)
    return RigidTransform.from_components(start, Rotation.from_matrix(axes))


def bones(side: str) -> dict[str, Mesh]:
    """Meshes in the frames of the joints they hang on; `Sleeve` hangs on `Forearm`."""
    palm = np.array(_PALM)
    flip = 1.0 if side == "right" else -1.0
    found = {"Hand": hull(palm[:, :3] * [1, 1, flip], palm[:, 3])}
    for digit in DIGITS:
        for k, length in enumerate(LENGTHS[digit]):
            found[f"{digit}{k}"] = hull([[0.0] * 3, [length, 0.0, 0.0]], RADII[digit][k : k + 2])
    forward = np.array([[1.0, 0.0, 0.0]])
    along = np.array([0.06, FOREARM - 0.05, FOREARM + 0.004])[:, None]
    found["Forearm"] = hull(along * forward, [0.041, 0.029, 0.0275], squash=0.8)
    found["Sleeve"] = hull([[0.0], [0.12]] * forward, [0.052, 0.046], squash=0.95)
    found["Arm"] = hull([[0.0], [UPPER_ARM]] * forward, [0.062, 0.052])
    return found


def nail(digit: str) -> tuple[Floats, Floats]:
    """Centre and half axes (3,) of a digit's nail, an ellipsoid in its last bone's frame."""
    length, radius = LENGTHS[digit][2], RADII[digit][3]
    return (
        np.array([length + 0.25 * radius, 0.72 * radius, 0]),
        np.array([0.8 * radius, 0.32 * radius, 0.72 * radius]),
    )


def spheres(found: Mapping[str, RigidTransform], side: str) -> tuple[Floats, Floats]:
    """Spheres that fill a hand and its forearm: centres (N, S, 3) in the world and radii (S,).

    Args:
        found: the joints of an arm, see `joints`, with `Forearm`.
        side: "left" or "right".
    """
    share = np.linspace(0, 1, 5)[:, None]
    centres, radii = [], []
    for digit in DIGITS:
        for k in range(3):
            ends = [found[f"{digit}{n}"].translation[:, None] for n in (k, k + 1)]
            centres.append(ends[0] + share * (ends[1] - ends[0]))
            radii.append(np.interp(share[:, 0], [0, 1], RADII[digit][k : k + 2]))
    palm = palm_spheres() * [1, 1, 1 if side == "right" else -1, 1]
    turn, at = found["Hand"].rotation.as_matrix(), found["Hand"].translation
    centres.append(np.einsum("nij,sj->nsi", turn, palm[:, :3]) + at[:, None])
    radii.append(palm[:, 3])
    elbow_at = found["Forearm"].translation[:, None]
    centres.append(elbow_at + share * (at[:, None] - elbow_at))
    radii.append(np.full(5, 0.04))
    return np.concatenate(centres, axis=1), np.concatenate(radii)


def palm_spheres() -> Floats:
    """(S, 4) centres and radii, metres, that fill a right hand's palm, in the hand's frame."""
    palm = np.array(_PALM)
    return (palm[:, None] + palm[None]).reshape(-1, 4) / 2


def arkit(side: str) -> RigidTransform:
    """What turns a joint's frame here into the axes that ARKit records for it."""
    axes = np.diag([-1.0, 1.0, -1.0] if side == "right" else [1.0, -1.0, -1.0])
    return RigidTransform.from_rotation(Rotation.from_matrix(axes))


def as_pose(position: ArrayLike, distal: ArrayLike, dorsal: ArrayLike) -> RigidTransform:
    """T_world_hand of a wrist from the directions of its x axis and, nearly, of its y axis."""
    x = np.asarray(distal, float) / np.linalg.norm(distal)
    y = np.asarray(dorsal, float) - (np.asarray(dorsal, float) @ x) * x
    y /= np.linalg.norm(y)
    axes = np.stack([x, y, np.cross(x, y)], axis=1)
    return RigidTransform.from_components(position, Rotation.from_matrix(axes))
