"""A scene as it was filmed: when the video begins, on which clocks, and what it truly shows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.synthetic.scene import Scene

Floats = NDArray[np.float64]
T_WORLD_SCENE = RigidTransform.from_components(
    [0.4, -1.1, 0.25], Rotation.from_euler("xz", [90, 37], degrees=True)
)
"""From the scene's world (y up) to the corpora's: z up, with the origin somewhere."""


@dataclass(frozen=True)
class Take:
    """One video of one scene, with the clock of the device that recorded it."""

    scene: Scene
    fps: float
    """Of the video file."""
    frames: int
    begins: float = 0.0
    """Scene time of the first frame, seconds."""
    clock: float = 0.0
    """Device time of the first frame, seconds."""
    drift: float = 1.0
    """Seconds of the device for one of the video file, whose rate is a round number."""
    world: RigidTransform = T_WORLD_SCENE
    """From the scene's world to that of the corpus."""

    @property
    def times(self) -> Floats:
        """(N,) seconds of the frames in the video file."""
        return np.arange(self.frames) / self.fps

    @property
    def duration(self) -> float:
        """Seconds of the video file."""
        return self.frames / self.fps

    def scene_times(self, times: Floats) -> Floats:
        """Scene times of video times."""
        return self.begins + self.drift * np.asarray(times, float)

    def device_ns(self, times: Floats) -> NDArray[np.int64]:
        """Device times of video times, whole nanoseconds."""
        return np.rint((self.clock + self.drift * np.asarray(times, float)) * 1e9).astype(np.int64)

    def at_device(self, seconds: Floats) -> Floats:
        """Scene times of device times."""
        return self.begins + np.asarray(seconds, float) - self.clock

    def video_time(self, scene_time: float) -> float:
        """Video time of a scene time, seconds."""
        return (scene_time - self.begins) / self.drift

    def camera(self, scene_times: Floats) -> RigidTransform:
        """T_world_camera of the upright camera in the corpus's world."""
        return self.world * self.scene.camera(scene_times)

    def object(self, scene_times: Floats) -> RigidTransform:
        """T_world_object in the corpus's world."""
        return self.world * self.scene.object(scene_times)


def write_truth(path: Path, take: Take, **more: Floats) -> None:
    """What the take truly shows, in the form that `ego_ops.report.measure` reads.

    Args:
        more: further arrays with a value a frame.
    """
    scene = take.scene
    thing, camera = (pose(take.scene_times(take.times)) for pose in (take.object, take.camera))
    points = scene.thing.mesh.sample(800, np.random.default_rng(scene.seed))
    fields: dict[str, Any] = {
        "times": take.times,
        "T_world_camera": camera.as_matrix(),
        "T_world_object": thing.as_matrix(),
        "object_points": points,
        "contact_time": take.video_time(scene.contact),
        "release_time": take.video_time(scene.release),
        "object_name": scene.recipe.noun,
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **fields)
    os.replace(part, path)
