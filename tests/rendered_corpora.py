"""Rendered corpora that several files of tests look at, made once for all processes of a run.

Nobody may change what is in them.
"""

from __future__ import annotations

import fcntl
import importlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

SCALE = {"ego4d": 0.25, "egoexo4d": 0.25, "hdepic": 0.25, "nymeria": 0.5}
"""Of the pictures' published size; projectaria-tools takes half an Aria's, and none smaller."""


def egodex(factory: pytest.TempPathFactory, size: tuple[int, int]) -> Path:
    """The first scene in EgoDex's format, in pictures of that width and height; its poses are those
    of 10 ms earlier."""
    from ego_ops.synthetic import write_clip

    return _made(factory, f"egodex-{size[0]}", lambda root: write_clip(root, 0, 0, size, 0.010))


def corpus(factory: pytest.TempPathFactory, name: str) -> Path:
    """One video in the format of one of `SCALE`."""
    from ego_ops.synthetic import WRITERS

    def write(root: Path) -> None:
        filmed = importlib.import_module(f"ego_ops.synthetic.{name}").record(
            root, 0, 5, SCALE[name]
        )
        WRITERS[name].annotate(root, [filmed], 5)

    return _made(factory, name, write)


def _made(factory: pytest.TempPathFactory, name: str, write: Callable[[Path], object]) -> Path:
    """A folder, written by whoever needs it first while the others wait."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # where the folders of all processes lie
    root = base / f"rendered-{name}"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            unfinished = factory.mktemp(name)
            write(unfinished)
            unfinished.rename(root)
    return root
