"""Whether an export is done, or begun: by a digest of what it is made from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ego_ops.errors import UserError
from ego_ops.storage import LocalStore
from training.data.lerobot_layout import ORIGIN

_HEAD = "export.json"


def finished(out: str, digest: str, origin: str = ORIGIN) -> bool:
    """Whether `out` is the dataset of that digest, whole.

    Raises:
        UserError: something else is there.
    """
    folder = Path(out)
    if not folder.exists():
        return False
    try:
        found = json.loads((folder / origin).read_bytes())["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != digest:
        what = "another export" if found else "something else"
        raise UserError(
            f"{out}: {what} is there; delete it, or give another --out (exports are not updated)"
        )
    return True


def begun(work: str, digest: str) -> None:
    """Make `work` the folder of the export of that digest; what an older one left goes.

    Raises:
        UserError: the folder cannot be written, or holds what is no export.
    """
    where = LocalStore(work)
    try:
        found = json.loads(where.read(_HEAD)).get("digest")
    except (FileNotFoundError, ValueError):
        found = None
        if strangers := set(where.names("")) - {"lock", "_tmp", _HEAD}:
            raise UserError(
                f"{work}: {sorted(strangers)[0]} is in the way; move it elsewhere"
            ) from None
    if found == digest:
        return
    for path in Path(work).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    where.write(_HEAD, json.dumps({"digest": digest}).encode())
