"""Writing a scene in EgoDex's published format, with the truth beside it.

{root}/{task}/{n}.mp4, {n}.hdf5     what EgoDex publishes
{root}/truth/{task}/{n}.npz         what no corpus knows: the true object poses
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.synthetic import render, skeleton
from ego_ops.synthetic.recipes import RECIPES
from ego_ops.synthetic.scene import FPS, Scene, sample_scene
from ego_ops.synthetic.take import Take, write_truth
from ego_ops.synthetic.video import write_mpeg4

Floats = NDArray[np.float64]


class Filming(NamedTuple):
    """How a scene is filmed."""

    size: tuple[int, int]
    """(width, height) pixels, both even."""
    pose_offset_s: float
    """How long before its frame each recorded pose was true, seconds."""
    focal: float | None = None
    """Focal length in pixels; by default that of EgoDex's camera."""
    shadow: int | None = None
    """Side of the shadow map in pixels; by default as fine as suits the size."""
    bits_per_pixel: float = 0.16
    """Of the video: about 10 Mbit/s at 1920 x 1080, a little better than EgoDex's own."""


def write_clip(
    root: Path, index: int, seed: int, size: tuple[int, int], pose_offset_s: float
) -> Path:
    """Render clip number `index` of the corpus of `seed` and write its three files.

    Args:
        size: (width, height) pixels, both even.
        pose_offset_s: how long before its frame each recorded pose was true, seconds.

    Returns:
        The HDF5 file, which is written last: where it exists, the clip is complete.

    Raises:
        UserError: there is nothing to render with.
    """
    path = recording_of(root, index)
    return write_scene(root, path, sample_scene(seed, index), Filming(size, pose_offset_s))


def write_scene(root: Path, path: Path, scene: Scene, how: Filming) -> Path:
    """Render a scene and write its three files, the HDF5 file `path` last.

    Args:
        path: {root}/{task}/{n}.hdf5.

    Raises:
        UserError: there is nothing to render with.
    """
    size = how.size
    task, name = path.parent.name, path.stem
    (root / task).mkdir(parents=True, exist_ok=True)
    (root / "truth" / task).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([*scene.seed, 2])
    seen: list[float] = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        for shot in render.render_scene(
            scene, scene.times, size, focal=how.focal, shadow=how.shadow
        ):
            seen.append(shot.visible_fraction)
            yield render.expose(shot.image, noise)

    rate = int(how.bits_per_pixel * size[0] * size[1] * FPS)
    write_mpeg4(root / task / f"{name}.mp4", frames(), size, FPS, rate)
    _write_truth(root / "truth" / task / f"{name}.npz", scene, np.array(seen))
    _write_annotation(path, scene, render.intrinsics(size, how.focal), how.pose_offset_s)
    return path


def recording_of(root: Path, index: int) -> Path:
    """The HDF5 file of clip number `index`."""
    task = RECIPES[index % len(RECIPES)].task
    earlier = [RECIPES[k % len(RECIPES)].task for k in range(index)]
    return root / task / f"{earlier.count(task)}.hdf5"


def record(root: Path, number: int, seed: int) -> Path:
    """Clip number `number` as `write_clip` has it, at the demo's size, with EgoDex's delay."""
    return write_clip(root, number, seed, (960, 540), 0.010)


def annotate(root: Path, filmed: list[Path], seed: int) -> None:
    """EgoDex has no file that is of all videos."""


def _write_truth(path: Path, scene: Scene, visible: Floats) -> None:
    take = Take(scene, FPS, scene.frames, world=RigidTransform.identity())
    points = scene.thing.mesh.sample(800, np.random.default_rng(scene.seed))
    to_camera = take.camera(take.times).inv() * take.object(take.times)
    depth = to_camera.apply(points.mean(axis=0))[:, 2]
    write_truth(path, take, visible_fraction=visible, mean_depth=depth)


def _write_annotation(
    path: Path, scene: Scene, intrinsic: NDArray[np.float32], pose_offset_s: float
) -> None:
    rng = np.random.default_rng([*scene.seed, 3])
    recorded = skeleton.transforms(scene, scene.times - pose_offset_s)
    part = path.with_suffix(".part")
    with h5py.File(part, "w") as file:
        file["camera/intrinsic"] = intrinsic
        for joint, poses in recorded.items():
            file[f"transforms/{joint}"] = poses.astype(np.float32)
            if joint != "camera":
                confidence = skeleton.confidence(joint, len(poses), rng)
                file[f"confidences/{joint}"] = confidence.astype(np.float32)
        file.attrs.update(_attributes(scene))
    os.replace(part, path)


def _attributes(scene: Scene) -> dict[str, object]:
    """What EgoDex says of a clip, in its two kinds: `reset` and `reversible`."""
    recipe = scene.recipe
    seed, index = scene.seed
    strings = h5py.string_dtype()
    shared: dict[str, object] = {
        "annotated": True,
        "environment": f"table:wood, position:sitting, background:gray, hand:{recipe.hand}",
        "extra": "synthetic",
        "llm_description": recipe.narration,
        "llm_objects": np.array([recipe.noun], dtype=strings),
        "llm_verbs": np.array(recipe.verbs, dtype=strings),
        "object": f"object:{recipe.noun}, number:1",
        "session_name": f"synthetic_{seed}_{index}.mov",
        "task": recipe.title,
    }
    if recipe.undone:
        return shared | {
            "annotator_version": 0.2,
            "llm_description2": recipe.undone,
            "llm_type": "reversible",
            "which_llm_description": recipe.shown,
        }
    return shared | {
        "annotator_version": 0.3,
        "description": recipe.narration[0].lower() + recipe.narration[1:],
        "llm_description2": "None",
        "llm_type": "reset",
        "type": "reset",
    }
