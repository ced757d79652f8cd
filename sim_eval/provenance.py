"""What it takes to have results again: the commands that made them, and with what versions.

    runs/<sha256[:16]>.json    one command with the versions of one environment, when it first began

beside the results of `sim_eval.results`. The same command in the same environment is there once.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import time
from typing import NamedTuple

from ego_ops.errors import UserError
from ego_ops.storage import Store, store

_FOLDER = "runs"
_PACKAGES = ("egoscaler-ray", "mujoco", "numpy", "torch", "ray", "robosuite", "libero")


class Made(NamedTuple):
    """Commands that were run with the same versions."""

    commands: list[str]
    """In the order that they first began."""
    versions: dict[str, str]
    """By package, `python` and `platform` among them."""


def record(url: str, command: str) -> None:
    """Keep a command that adds results to a folder, with the versions of this process.

    Raises:
        UserError: the storage refuses.
    """
    about = {"command": command, "versions": _versions()}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    where, name = store(url), f"{digest}.json"
    if name not in where.names(_FOLDER):
        data = json.dumps({**about, "time": time.time()}, indent=1).encode()
        where.write(f"{_FOLDER}/{name}", data)


def recorded(url: str) -> list[Made]:
    """What `record` kept of all commands, by versions, the oldest first; none of older folders.

    Raises:
        UserError: a file is damaged.
    """
    where = store(url)
    names = sorted(name for name in where.names(_FOLDER) if name.endswith(".json"))
    found: dict[tuple[tuple[str, str], ...], Made] = {}
    for about in sorted(where.each(lambda name: _read(where, name), names), key=_began):
        key = tuple(sorted(about["versions"].items()))
        found.setdefault(key, Made([], about["versions"])).commands.append(about["command"])
    return list(found.values())


def _began(about: dict) -> float:
    return about["time"]


def _read(where: Store, name: str) -> dict:
    path = f"{_FOLDER}/{name}"
    try:
        about = json.loads(where.read(path))
        return {
            "command": str(about["command"]),
            "versions": {str(key): str(value) for key, value in about["versions"].items()},
            "time": float(about["time"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where.url}/{path}: damaged; delete it") from error


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**found, "platform": f"{platform.system()} {platform.machine()}"}
