"""Shards of made-up manipulation straight from the truth: no tracking, so a clip takes seconds.

    python bench/learn_data.py --out DIR [--clips 60] [--seed 1] [--workers 2]

The scenes are `ego_ops.synthetic`'s, those of the demo: a hand comes, lifts a thing, carries it
over, puts it down and leaves, while the head is never still. A clip is cut from 0.5 to 1 s before
the touch to 0.4 to 0.7 s after the release, at 20 steps a second like what `extract` makes; its
pictures have the demo's sensor noise, its poses have none. The object's frame lies at the thing's
middle, turned as the first camera is, as an extracted one does.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ego_ops import rows, shards
from ego_ops.clip import Clip, clip_id
from ego_ops.jpeg import encode_jpegs
from ego_ops.pipeline import Extraction
from ego_ops.storage import store
from ego_ops.synthetic import render
from ego_ops.synthetic.scene import Scene, sample_scene
from ego_ops.synthetic.wording import wording

FPS = 20.0
SIZE = (224, 126)
"""Width and height of the pictures, before they are letterboxed to 224 x 224."""
_A_PART = 6


def make(url: str, clips: int, seed: int, workers: int) -> None:
    """Write shards of the scenes 0 to `clips` of a seed. The same arguments, the same trajectories.

    Raises:
        UserError: there is nothing to render with, or the folder cannot be written to.
    """
    render.load_mujoco()  # a missing library is said here, not by a worker
    # Spawned: a renderer does not outlive a fork.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        made = pool.map(_row, [seed] * clips, range(clips))
        for bucket, begin in enumerate(range(0, clips, _A_PART)):
            part = [next(made) for _ in range(begin, min(begin + _A_PART, clips))]
            _commit(url, bucket, sorted(part, key=lambda row: row.clip.clip_id))
            print(f"{begin + len(part)} of {clips} clips", file=sys.stderr, flush=True)


def trajectory(scene: Scene, times: NDArray[np.float64], seed: int) -> Extraction:
    """What a perfect extraction of a scene would be, at these scene times (T,)."""
    camera, thing = scene.camera(times), scene.object(times)
    back = camera[0].inv()
    seen, moved = back * thing, back * camera
    upright = seen.rotation * seen[0].rotation.inv()
    return Extraction(
        fps=FPS,
        timestamps=times,
        position=seen.translation,
        rotation=upright.as_quat(),
        camera_position=moved.translation,
        camera_rotation=moved.rotation.as_quat(),
        visible=np.ones(len(times), bool),
        intrinsics=_intrinsics(),
        image_size=SIZE,
        frames=encode_jpegs(_pictures(scene, times, seed)),
        quality={},
    )


def cut(scene: Scene, chance: np.random.Generator) -> NDArray[np.float64]:
    """(T,) scene times of the clip's steps."""
    begin = scene.contact - chance.uniform(0.5, 1.0)
    end = min(scene.release + chance.uniform(0.4, 0.7), scene.times[-1])
    return begin + np.arange(int((end - begin) * FPS) + 1) / FPS


def _row(seed: int, index: int) -> rows.Row:
    scene = sample_scene(seed, index)
    times = cut(scene, np.random.default_rng([seed, index, 3]))
    told = wording(scene.recipe)
    name = f"scene {index}"
    clip = Clip(
        clip_id=clip_id("synthetic", str(seed), name, times[0], times[-1], ""),
        corpus="synthetic",
        corpus_version=str(seed),
        video_uid=name,
        root="",
        video_path="",
        annotation_path="",
        t_start=float(times[0]),
        t_end=float(times[-1]),
        narration=told.order,
        verb=told.verb,
        object=told.noun,
    )
    return rows.Row(clip, 1, trajectory(scene, times, seed), "", 0.0, 0.0)


def _pictures(scene: Scene, times: NDArray[np.float64], seed: int) -> Iterator[NDArray[np.uint8]]:
    noise = np.random.default_rng([*scene.seed, seed, 2])
    with render.Studio(scene, SIZE) as studio:
        for image in studio.pictures(times):
            yield render.expose(image, noise)


def _intrinsics() -> NDArray[np.float64]:
    matrix = render.intrinsics(SIZE).astype(np.float64)
    return np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2] - 0.5, matrix[1, 2] - 0.5])


def _commit(url: str, bucket: int, part: list[rows.Row]) -> None:
    outcomes = [shards.Outcome(row.clip.clip_id, "ok", "", 1, False) for row in part]
    data = rows.parquet(rows.table(part, "", ""))
    shards.commit(store(url), bucket, data, {"synthetic": outcomes}, "learn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    make(given.out, given.clips, given.seed, given.workers)


if __name__ == "__main__":
    main()
