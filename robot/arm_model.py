"""Models of arms, as MuJoCo has them."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ego_ops.errors import UserError, hint
from ego_ops.synthetic.render import load_mujoco


def load(path: str | Path) -> Any:
    """The MjModel of an MJCF or URDF file, whether or not there is anything to render with.

    Raises:
        UserError: MuJoCo is not installed, or the file is no model.
    """
    if find_spec("mujoco") is None:
        raise UserError("kinematics need mujoco: pip install 'egoscaler-ray[eval]'")
    try:
        load_mujoco()
    except UserError:  # nothing to render with, which is no matter here
        if "mujoco" not in sys.modules:
            os.environ["MUJOCO_GL"] = "disable"
    import mujoco

    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        line = " ".join(str(error).split())
        raise UserError(f"{path}: no model of a robot ({line})") from error


def names(model: Any, kind: str) -> list[str]:
    """Of all of a kind (`site`, `body` or `joint`) that have one."""
    count = {"site": model.nsite, "body": model.nbody, "joint": model.njnt}[kind]
    found = [getattr(model, kind)(at).name for at in range(count)]
    return [name for name in found if name]


def number(model: Any, kind: str, name: str, known: list[str]) -> int:
    """That of a name. Raises UserError where it is none of the known ones."""
    if name not in known:
        raise UserError(f"the model has no {kind} {name}; {hint(name, known)}")
    return int(getattr(model, kind)(name).id)
