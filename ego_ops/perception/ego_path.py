"""The camera's path through a clip: recorded, or found from what the clip shows."""

from __future__ import annotations

from dataclasses import replace

from scipy.spatial.transform import RigidTransform

from ego_ops.clip import Clip
from ego_ops.errors import AnnotationError
from ego_ops.geometry.ego_motion import estimate_path
from ego_ops.perception.clock import estimate_offset
from ego_ops.perception.depth import RecordedDepth
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks


def with_path(clip: Clip, scene: Scene, background: Tracks) -> tuple[Scene, RigidTransform]:
    """T poses T_world_camera: recorded, on the video's clock, else from recorded depth.

    Args:
        background: tracks over the whole picture, most of them of what stands still.

    Returns:
        The scene with the recording's clock offset found, and the poses.

    Raises:
        AnnotationError: the recorded path does not cover the clip.
        Rejection: nothing recorded gives a metric scale (`no_metric_scale`).
    """
    recorded = scene.recording.path
    if recorded is not None:
        try:
            scene = replace(scene, offset=estimate_offset(scene, background))
            return scene, recorded.at(scene.clock)
        except AnnotationError as error:
            raise AnnotationError(f"{clip.annotation}: {error}") from None
    depth = RecordedDepth().depth(scene, None, background)
    return scene, estimate_path(scene.camera, background.xy, background.visible, depth, scene.times)
