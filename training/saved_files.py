"""The checkpoints that lie in a run's folder, and whether they are whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

FOLDER = "checkpoints"
COMPLETE = "complete.json"
_NAME = re.compile(r"step-(\d{8,})")


class Checkpoint(NamedTuple):
    """One that was completed; whether its files are still sound `damage` tells."""

    step: int
    path: Path
    files: Mapping[str, tuple[int, str]]
    """Name: bytes, SHA-256; none if what says so cannot be read."""

    def damage(self, part: int = 0, parts: int = 1, thorough: bool = True) -> str:
        """What is wrong with its files, looking at every `parts`-th; "" if nothing is.

        Args:
            thorough: whether to read them, not just to look at their sizes.
        """
        if not self.files:
            return f"its {COMPLETE} cannot be read"
        for name in sorted(self.files)[part::parts]:
            size, expected = self.files[name]
            path = self.path / name
            try:
                if path.stat().st_size != size:
                    return f"{name} has {path.stat().st_size} of {size} bytes"
                if thorough and digest(path) != expected:
                    return f"{name} was changed after it was written"
            except OSError as error:
                return f"{name}: {error.strerror or error}"
        return ""


def completed(run: str | Path) -> list[Checkpoint]:
    """The completed checkpoints of a run's folder, the newest first."""
    folder = Path(run) / FOLDER
    names = os.listdir(folder) if folder.is_dir() else []
    steps = sorted((int(m[1]), m[0]) for name in names if (m := _NAME.fullmatch(name)))
    return [_completed(step, folder / name) for step, name in reversed(steps)]


def newest(run: str | Path) -> int:
    """The step of the newest completed checkpoint of a run's folder, 0 if there is none."""
    return max((one.step for one in completed(run)), default=0)


def latest(
    run: str | Path, warn: Callable[[str], None], thorough: bool = True
) -> Checkpoint | None:
    """The newest sound checkpoint of a run's folder, or None.

    Args:
        warn: told of each that is passed over because it is damaged.
        thorough: see `Checkpoint.damage`.
    """
    for checkpoint in completed(run):
        damage = checkpoint.damage(thorough=thorough)
        if not damage:
            return checkpoint
        warn(passed_over(checkpoint, damage))
    return None


def passed_over(checkpoint: Checkpoint, damage: str) -> str:
    return f"{checkpoint.path} is damaged ({damage}) and passed over"


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _completed(step: int, path: Path) -> Checkpoint:
    """A folder got its name when all was in it: what is not there now was lost since."""
    try:
        head = json.loads((path / COMPLETE).read_text(encoding="utf-8"))
        files = {name: (int(size), str(text)) for name, (size, text) in head["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        files = {}
    return Checkpoint(step, path, files)
