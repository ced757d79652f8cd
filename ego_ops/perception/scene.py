"""One clip, decoded and with what was recorded of it: what every perception step looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import Camera
from ego_ops.geometry.view import View
from ego_ops.perception.tracks import Tracks
from ego_ops.recording import Recording

OTHER, BACKGROUND, OBJECT = 0, 1, 2
"""Labels of a track: neither (a hand, a lost point), the still world, the manipulated object."""


@dataclass(frozen=True)
class Scene:
    """T frames of one clip, scaled for tracking."""

    gray: NDArray[np.uint8]
    """(T, H, W)."""
    times: NDArray[np.float64]
    """(T,) presentation times of the frames, seconds from the start of the video."""
    camera: Camera
    """Pinhole of the scaled frames."""
    recording: Recording
    offset: float = 0.0
    """Seconds by which the recording's clock is ahead: its pose for a frame at time t is the one
    it stamps t + offset."""

    @property
    def clock(self) -> NDArray[np.float64]:
        """(T,) the frames' times on the recording's clock."""
        return self.times + self.offset

    def view(self, tracks: Tracks, path: RigidTransform) -> View:
        """Tracks with T poses T_world_camera, as the geometry takes them."""
        return View(self.camera, path, self.times, tracks.xy, tracks.visible)

    def hand_joints(self) -> NDArray[np.float64]:
        """(T, J, 3) joints of all recorded hands in the world, J = 0 where there are none."""
        hands = [hand.at(self.clock) for hand in self.recording.hands]
        return np.concatenate(hands, 1) if hands else np.zeros((len(self.times), 0, 3))

    def fingertips(self) -> NDArray[np.float64]:
        """(T, hands, fingers, 3) fingertips in the world."""
        tips = [hand.at(self.clock)[:, list(hand.tips)] for hand in self.recording.hands]
        return np.stack(tips, 1) if tips else np.zeros((len(self.times), 0, 0, 3))
