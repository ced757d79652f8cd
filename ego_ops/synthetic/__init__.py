"""Small synthetic corpora in the published formats, with true object poses beside them.

They stand in for corpora where none is at hand, and tell how far an extracted trajectory is from
the truth. Rendering needs the extra `demo`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ego_ops.errors import UserError
from ego_ops.processes import in_processes
from ego_ops.synthetic import ego4d, egodex, egoexo4d, hdepic, nymeria, tabletop
from ego_ops.synthetic.egodex import write_clip
from ego_ops.synthetic.render import Shot, intrinsics, load_mujoco, render_scene
from ego_ops.synthetic.scene import Scene, sample_scene

__all__ = [
    "WRITERS",
    "Scene",
    "Shot",
    "Writer",
    "intrinsics",
    "render_scene",
    "sample_scene",
    "write_clip",
    "write_corpora",
    "write_egodex",
]


class Writer(NamedTuple):
    """How one corpus is made, as two functions."""

    record: Callable[[Path, int, int], Any]
    """Root, number of the video, seed -> what `annotate` needs of it. Runs in a process of its own;
    writes the video, what was recorded with it and `{root}/truth/{video_uid}.npz`."""
    annotate: Callable[[Path, list[Any], int], None]
    """Root, what `record` gave for all videos, seed: writes the files that are of all videos."""


WRITERS: Mapping[str, Writer] = {
    "ego4d": Writer(ego4d.record, ego4d.annotate),
    "egoexo4d": Writer(egoexo4d.record, egoexo4d.annotate),
    "hdepic": Writer(hdepic.record, hdepic.annotate),
    "nymeria": Writer(nymeria.record, nymeria.annotate),
    "egodex": Writer(egodex.record, egodex.annotate),
    "tabletop": Writer(tabletop.record, egodex.annotate),
}
"""By the name that `egoscaler index --corpus` takes, but for `tabletop`: clips of the tasks of the
suite of that name, written as EgoDex's, so that they are indexed by `--corpus egodex`."""


def write_corpora(
    roots: Mapping[str, Path],
    clips: int,
    seed: int = 0,
    on_clip: Callable[[str, int], None] | None = None,
    workers: int | None = None,
) -> None:
    """Render `clips` clips of each corpus; the same seed gives the same pictures.

    Args:
        roots: where to write each corpus, by a key of `WRITERS`.
        on_clip: called with a corpus and the number of a clip that is complete.
        workers: processes to render in; by default one for each core.

    Raises:
        UserError: there is nothing to render with.
    """
    jobs = [(name, number) for number in range(clips) for name in roots]
    calls = [(WRITERS[name].record, roots[name], number, seed) for name, number in jobs]
    made = _in_processes(calls, workers, lambda k: on_clip(*jobs[k]) if on_clip else None)
    for name, root in roots.items():
        filmed = [one for (which, _), one in zip(jobs, made, strict=True) if which == name]
        WRITERS[name].annotate(root, filmed, seed)


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
    calls = [(write_clip, root, k, seed, size, pose_offset_s) for k in range(clips)]
    names = [egodex.recording_of(root, k) for k in range(clips)]
    return _in_processes(calls, workers, lambda k: on_clip(names[k]) if on_clip else None)


def _in_processes(
    calls: list[tuple[Any, ...]], workers: int | None, on_done: Callable[[int], None]
) -> list[Any]:
    """What each call (function, arguments…) returns, made in processes of their own."""
    load_mujoco()  # One clear error here rather than one a process; the choice is inherited.
    made: list[Any] = [None] * len(calls)
    for number, result in in_processes(calls, workers or os.cpu_count() or 1):
        made[number] = result
        on_done(number)
    return made
