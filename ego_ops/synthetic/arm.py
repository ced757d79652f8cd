"""How an arm moves: at rest, or reaching for a thing, holding it, letting go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.synthetic import hand
from ego_ops.synthetic.grasp import Grasp
from ego_ops.synthetic.motion import Path, blend, ramp, repeat

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """One arm of the wearer as a function of time."""

    side: str
    wrist: Path
    """T_world_hand."""
    bend: Callable[[Floats], hand.Bend]
    opposition: float

    def joints(self, times: Floats, shoulder: Floats) -> dict[str, RigidTransform]:
        """Frames of all joints in the world; `Forearm` lies at the elbow, `Arm` at
        the shoulder.

        Args:
            times: (N,) seconds.
            shoulder: (N, 3) metres, world.
        """
        wrist = self.wrist(times)
        found = hand.joints(wrist, self.bend(times), self.opposition, self.side)
        outward = 1.0 if self.side == "right" else -1.0
        at = hand.elbow(shoulder, wrist.translation, outward)
        dorsal = wrist.rotation.as_matrix()[:, :, 1]
        found["Forearm"] = hand.bone_frame(at, wrist.translation, dorsal)
        found["Arm"] = hand.bone_frame(shoulder, at, np.broadcast_to([0.0, 1.0, 0.0], at.shape))
        return found


def resting(
    side: str, at: ArrayLike, distal: ArrayLike, dorsal: ArrayLike, rng: np.random.Generator
) -> Arm:
    """An arm that lies still but for a millimetre of unrest.

    Args:
        at: (3,) wrist, metres.
        distal, dorsal: (3,) directions of the fingers and of the back of the hand.
    """
    pose = hand.as_pose(at, distal, dorsal)
    rate, phase = rng.uniform(0.2, 0.6, 3), rng.uniform(0, 6, 3)

    def wrist(times: Floats) -> RigidTransform:
        wave = np.sin(2 * np.pi * rate * times[:, None] + phase)
        drift = RigidTransform.from_components(
            0.0015 * wave, Rotation.from_rotvec(0.01 * np.roll(wave, 1, axis=1))
        )
        return repeat(pose, len(times)) * drift

    def bend(times: Floats) -> hand.Bend:
        return {d: np.tile(hand.REST[d], (len(times), 1)) for d in hand.DIGITS}

    return Arm(side, wrist, bend, np.radians(45))


def reaching(
    side: str, grasp: Grasp, thing: Path, rest: RigidTransform, contact: float, release: float
) -> Arm:
    """An arm that reaches for a thing, carries it, lets go and goes back.

    Args:
        thing: T_world_object.
        rest: T_world_hand, where the hand comes from and goes back to.
        contact, release: seconds; between them the hand is fixed to the thing.
    """

    def wrist(times: Floats) -> RigidTransform:
        away = ramp(times, contact - 0.5, contact - 0.08) - ramp(
            times, release + 0.1, release + 0.5
        )
        # The opened hand comes from outside, so that no finger goes through the thing.
        aside = (1 - away)[:, None] * np.array([-0.055, 0.085, 0.0])
        at_thing = thing(times) * repeat(grasp.hand_to_thing, len(times))
        at_thing = at_thing * RigidTransform.from_translation(aside)
        near = ramp(times, contact - 1.15, contact - 0.15) - ramp(
            times, release + 0.15, release + 1.15
        )
        return blend(repeat(rest, len(times)), at_thing, near)

    def bend(times: Floats) -> hand.Bend:
        opened = ramp(times, contact - 1.0, contact - 0.5) - ramp(times, release + 0.5, release + 1)
        closed = ramp(times, contact - 0.32, contact) - ramp(times, release, release + 0.32)
        found = {}
        for digit in hand.DIGITS:
            rest, wide, shut = hand.REST[digit], hand.OPEN[digit], grasp.bend[digit]
            change = opened[:, None] * (wide - rest) + closed[:, None] * (shut - wide)
            found[digit] = rest + change
        return found

    return Arm(side, wrist, bend, grasp.opposition)
