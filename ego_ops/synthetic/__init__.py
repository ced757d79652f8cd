"""A small synthetic corpus in EgoDex's format, with true object poses beside it.

It stands in for a corpus where none is at hand, and tells how far an extracted trajectory is from
the truth. Rendering needs the extra `demo`.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from ego_ops.errors import UserError
from ego_ops.synthetic.egodex import write_clip
from ego_ops.synthetic.render import Shot, intrinsics, load_mujoco, render_scene
from ego_ops.synthetic.scene import Scene, sample_scene

__all__ = [
    "Scene",
    "Shot",
    "intrinsics",
    "render_scene",
    "sample_scene",
    "write_clip",
    "write_egodex",
]


def write_egodex(
    root: Path,
    clips: int = 6,
    seed: int = 0,
    size: tuple[int, int] = (960, 540),
    pose_offset_s: float = 0.010,
    on_clip: Callable[[Path], None] | None = None,
    workers: int | None = None,
) -> list[Path]:
    """Render a corpus of `clips` clips into `root`; the same seed gives the same corpus.

    Args:
        size: (width, height) of the videos in pixels, both even.
        pose_offset_s: the pose recorded for a frame is the true one this many seconds earlier,
            as in EgoDex, whose poses come about a third of a frame late.
        on_clip: called with each HDF5 file when its clip is complete.
        workers: processes to render in; by default one for each core.

    Returns:
        The HDF5 files in the order of the clips. Truth lies in `root/truth/{task}/{n}.npz`.

    Raises:
        UserError: a size is odd or not positive, or there is nothing to render with.
    """
    if min(size) <= 0 or size[0] % 2 or size[1] % 2:
        raise UserError(f"size {size[0]}x{size[1]}: width and height must be even and positive")
    load_mujoco()  # One clear error here rather than one a process; the choice is inherited.
    spawn = multiprocessing.get_context("spawn")
    count = min(workers or os.cpu_count() or 1, clips)
    with ProcessPoolExecutor(max(count, 1), mp_context=spawn) as pool:
        jobs = [pool.submit(write_clip, root, k, seed, size, pose_offset_s) for k in range(clips)]
        for job in as_completed(jobs):
            path = job.result()
            if on_clip is not None:
                on_clip(path)
    return [job.result() for job in jobs]
