"""First-person clips of the tabletop's tasks, in EgoDex's format."""

from __future__ import annotations

from pathlib import Path

from ego_ops.synthetic import egodex
from ego_ops.synthetic.tabletop_scene import CHORES, sample_tabletop, view

SIZE = (640, 360)
"""Pixels: small, since these clips are to be many; the narrower view makes up for it."""

_SHADOW = 1024
"""Side of the shadow map in pixels: a fifth of the time is saved."""
_BITS_PER_PIXEL = 0.4
"""More than in EgoDex's large pictures, so that what is small keeps its texture."""


def record(root: Path, number: int, seed: int) -> Path:
    """Clip number `number`, which shows task `number % 4`: {root}/{task}/{n}.mp4 and .hdf5, and
    {root}/truth/{task}/{n}.npz. Returns the HDF5 file. A clip that is complete stays as it is.

    Raises:
        UserError: there is nothing to render with.
    """
    task = CHORES[number % len(CHORES)].recipe.task
    path = root / task / f"{number // len(CHORES)}.hdf5"
    if path.exists():  # it is written last
        return path
    scene = sample_tabletop(seed, number)
    how = egodex.Filming(SIZE, 0.010, view(scene) * SIZE[0], _SHADOW, _BITS_PER_PIXEL)
    return egodex.write_scene(root, path, scene, how)
