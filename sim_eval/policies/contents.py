"""What the files of a policy hold, as digests, and what its `config.json` says.

Files are read whole and once: a process remembers the digest of a file of the same path, size and
time of change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ego_ops.errors import UserError, hint
from ego_ops.storage_errors import unreadable

CONFIG = "config.json"
_known: dict[tuple[str, int, int], str] = {}


def config(folder: str) -> dict[str, Any]:
    """The `config.json` of a policy's folder.

    Raises:
        UserError: it cannot be read, or does not name sources and cameras.
    """
    path = Path(folder, CONFIG)
    try:
        head = json.loads(path.read_bytes())
        for about in head["sources"].values():
            int(about["state_size"]), int(about["action_size"])
        list(head["cameras"]), int(head["model"]["text_tokens"])
    except OSError as error:
        raise unreadable(str(path), error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not that of a policy ({error!r})") from error
    return dict(head)


def source(folder: str, asked: str | None) -> str:
    """The source that a policy is to act as: the only one, or that which is asked for.

    Raises:
        UserError: there are several and none is asked for, or there is none of that name.
    """
    names = list(config(folder)["sources"])
    if asked in names:
        return str(asked)
    if asked is None and len(names) == 1:
        return names[0]
    if asked is None:
        raise UserError(f"{folder}: was trained on {', '.join(names)}: say which with --source")
    raise UserError(f"{folder}: no source {asked}; {hint(asked, names)}")


def checkpoint(folder: str, source: str) -> dict[str, str]:
    """Digests of all files that a policy's answers follow from, by their path in its folder.

    Raises:
        UserError: one cannot be read.
    """
    root = Path(folder)
    files = [root / CONFIG, *root.glob("*.safetensors"), *root.glob("*.safetensors.index.json")]
    files += [root / "assets" / source / "norm_stats.json"]
    files += [path for path in (root / "tokeniser").rglob("*") if path.is_file()]
    return digests(root, files)


def recording(folder: str) -> dict[str, str]:
    """Digests of a LeRobot dataset's files but its videos, by their path in its folder.

    Raises:
        UserError: it is none, or a file cannot be read.
    """
    root = Path(folder)
    if not (root / "meta/info.json").is_file():
        raise UserError(f"replay:{folder}: no LeRobot dataset (there is no meta/info.json)")
    files = [path for part in ("meta", "data") for path in (root / part).rglob("*")]
    return digests(root, (path for path in files if path.is_file()))


def digests(root: Path, files: Iterable[Path]) -> dict[str, str]:
    """Of each file, by its path below the root."""
    return {str(path.relative_to(root)): _of(path) for path in sorted(files)}


def _of(path: Path) -> str:
    try:
        about = path.stat()
        key = str(path.absolute()), about.st_size, about.st_mtime_ns
        if key not in _known:
            with path.open("rb") as file:
                _known[key] = hashlib.file_digest(file, hashlib.blake2b).hexdigest()[:32]
    except OSError as error:
        raise unreadable(str(path), error) from error
    return _known[key]
