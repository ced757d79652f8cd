"""The camera's path through a clip: recorded, or found from what the clip shows."""

from __future__ import annotations

from dataclasses import replace

from scipy.spatial.transform import RigidTransform

from ego_ops.clip import Clip
from ego_ops.errors import AnnotationError, Rejection
from ego_ops.geometry.ego_motion import estimate_path
from ego_ops.geometry.inertial import metric_path
from ego_ops.geometry.observed import TrackedPoints
from ego_ops.geometry.relative_path import relative_path
from ego_ops.perception.clock import estimate_offset
from ego_ops.perception.depth import RecordedDepth
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks


def with_path(clip: Clip, scene: Scene, background: Tracks) -> tuple[Scene, RigidTransform]:
    """T poses T_world_camera in metres, from the best that is recorded.

    A camera path, put on the video's clock; else depth; else an IMU, which gives the scale to a
    path that the picture gives up to scale. Without a recorded path the world is the camera frame
    of the first frame.

    Args:
        background: tracks over the whole picture, most of them of what stands still.

    Returns:
        The scene with the recording's clock offset found, and the poses.

    Raises:
        AnnotationError: the recorded path does not cover the clip, or the IMU's unit is wrong.
        Rejection: nothing recorded gives a metric scale (`no_metric_scale`), or the picture gives
            no path (`too_little_parallax`, `lost_background`, `ambiguous_path`).
    """
    recording = scene.recording
    if recording.path is not None:
        try:
            scene = replace(scene, offset=estimate_offset(scene, background))
            return scene, recording.path.at(scene.clock)
        except AnnotationError as error:
            raise AnnotationError(f"{clip.annotation}: {error}") from None
    camera, xy, visible = scene.camera, background.xy, background.visible
    if recording.depth is not None:
        depth = RecordedDepth().depth(scene, None, background)
        return scene, estimate_path(camera, TrackedPoints(xy, visible, depth), scene.times)
    if recording.imu is not None:
        relative = relative_path(camera, xy, visible, scene.times)
        return scene, metric_path(relative, scene.times, recording.imu).path
    raise Rejection(
        "no_metric_scale",
        "no camera path, depth or IMU is recorded, so nothing tells how large things are: fetch "
        "the video's IMU or pose files if the corpus has any, or use perception with learned depth",
    )
