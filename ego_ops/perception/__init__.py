"""Perception: from pixels to tracks of the object and of the background.

Four steps, each a protocol with small backends, one file each. A pipeline composes them:
`geometric.py` needs no weights.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.clip import Clip
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks


class Localizer(Protocol):
    """Where in the picture the manipulated object may be."""

    def localise(self, clip: Clip, scene: Scene) -> NDArray[np.bool_] | None:
        """(T, H, W) places worth a look, None where this backend knows nothing of the clip."""


class Tracker(Protocol):
    """Follows points through a clip."""

    def track(self, frames: NDArray[np.uint8], where: NDArray[np.bool_] | None = None) -> Tracks:
        """Tracks of points that the backend picks in `where` (T, H, W) of grey frames (T, H, W)."""


class DepthEstimator(Protocol):
    """How far away tracked points are."""

    def depth(
        self, scene: Scene, camera_path: RigidTransform | None, tracks: Tracks
    ) -> NDArray[np.float64]:
        """(T, N) metres along the optical axis, NaN where unknown."""


class Segmenter(Protocol):
    """Which tracks lie on the manipulated object."""

    def segment(
        self,
        scene: Scene,
        camera_path: RigidTransform,
        tracks: Tracks,
        depth: NDArray[np.float64],
        boxed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int8]:
        """(N,) labels: `scene.OBJECT`, `scene.BACKGROUND` or `scene.OTHER`.

        Args:
            boxed: (T, H, W) annotated boxes of the object, empty in frames that have none.

        Raises:
            Rejection: there is no such object.
        """


__all__ = ["DepthEstimator", "Localizer", "Scene", "Segmenter", "Tracker", "Tracks"]
