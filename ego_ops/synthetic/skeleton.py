"""The 68 body joints that EgoDex records beside the camera, in ARKit's axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.synthetic import hand
from ego_ops.synthetic.scene import SHOULDER, Scene

Floats = NDArray[np.float64]

_PHALANGES = {
    **{
        f"{finger}{joint}": f"{finger}{k}"
        for finger in hand.DIGITS[1:]
        for k, joint in enumerate(("Knuckle", "IntermediateBase", "IntermediateTip", "Tip"))
    },
    **{
        f"Thumb{joint}": f"Thumb{k}"
        for k, joint in enumerate(("Knuckle", "IntermediateBase", "IntermediateTip", "Tip"))
    },
}
_CONFIDENCE = {
    "Hand": 0.97, "Metacarpal": 0.0032246036, "FingerKnuckle": 0.73, "FingerIntermediateBase": 0.52,
    "FingerIntermediateTip": 0.41, "FingerTip": 0.34, "ThumbKnuckle": 0.83,
    "ThumbIntermediateBase": 0.85, "ThumbIntermediateTip": 0.82, "ThumbTip": 0.70, "Arm": 1.0,
    "Forearm": 0.94, "Shoulder": 0.9,
}  # fmt: skip
_TRUNK = {
    "hip": (0.0, -0.66, 0.12, 1.0), "spine1": (0.0, -0.66, 0.12, 0.9),
    "spine2": (0.0, -0.60, 0.125, 0.8), "spine3": (0.0, -0.54, 0.13, 0.7),
    "spine4": (0.0, -0.48, 0.135, 0.55), "spine5": (0.0, -0.42, 0.14, 0.7),
    "spine6": (0.0, -0.33, 0.155, 0.85), "spine7": (0.0, -0.22, 0.17, 1.0),
    "neck1": (0.0, -0.105, 0.175, 0.9), "neck2": (0.0, -0.075, 0.17, 0.8),
    "neck3": (0.0, -0.04, 0.16, 0.7), "neck4": (0.0, 0.0, 0.15, 0.85),
}  # fmt: skip
"""Position from the eyes (metres) and confidence."""


def transforms(scene: Scene, times: Floats) -> dict[str, Floats]:
    """(N, 4, 4) T_world_joint of every joint at `times`, under EgoDex's names, with `camera`."""
    eyes = scene.trunk(times)
    # Up along the spine, its y axis to the front.
    upright = Rotation.from_matrix(np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]))
    found = {"camera": scene.camera(times)}
    for name, (*offset, _) in _TRUNK.items():
        turn = Rotation.from_euler("y", np.pi) if name == "hip" else upright
        found[name] = RigidTransform.from_components(eyes + np.array(offset), turn)
    for side in ("left", "right"):
        found |= {side + name: frame for name, frame in _arm(scene, times, side).items()}
    return {name: frame.as_matrix() for name, frame in found.items()}


def _arm(scene: Scene, times: Floats, side: str) -> dict[str, RigidTransform]:
    joints = scene.joints(times, side)
    found = {name: joints[joint] for name, joint in _PHALANGES.items()}
    found |= {name: joints[name] for name in ("Hand", "Forearm", "Arm")}
    for finger in hand.DIGITS[1:]:
        knuckle = joints["Hand"].inv() * joints[f"{finger}0"]
        inner = RigidTransform.from_translation(0.28 * knuckle.translation)
        found[f"{finger}Metacarpal"] = joints["Hand"] * inner
    arm = found["Arm"].translation
    inner = arm - SHOULDER * [0.8 if side == "right" else -0.8, -0.3, 0.2]
    found["Shoulder"] = hand.bone_frame(inner, arm, np.broadcast_to([0.0, 1.0, 0.0], arm.shape))
    return {name: frame * hand.arkit(side) for name, frame in found.items()}


def confidence(joint: str, count: int, rng: np.random.Generator) -> Floats:
    """(count,) confidences of a joint: a constant for the trunk, slightly varying for a hand."""
    if joint in _TRUNK:
        return np.full(count, _TRUNK[joint][3])
    name = max((n for n in _CONFIDENCE if joint.endswith(n)), key=len)
    level = _CONFIDENCE[name]
    if name in ("Metacarpal", "Arm"):
        return np.full(count, level)
    return np.clip(level + 0.02 * np.cumsum(rng.standard_normal(count)) / count**0.5, 0.0, 1.0)
