"""Arms for tests of kinematics."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_LINKS = [("0 0 1", 0.16, 2.9), ("0 1 0", 0.17, 1.9), ("0 0 1", 0.2, 2.9), ("0 1 0", 0.2, 2.5),
          ("0 0 1", 0.19, 2.9), ("0 1 0", 0.19, 2.0), ("0 0 1", 0.12, 3.0)]  # fmt: skip
"""Axis, metres to the next joint, range to both sides."""


def seven() -> str:
    """MJCF of an arm of seven joints on a body `foot`, whose wrist has a site `tool`."""
    inner = '<site name="tool" pos="0.02 0 0.12" euler="0 20 10"/>'
    for number, (axis, length, most) in reversed(list(enumerate(_LINKS, 1))):
        before = _LINKS[number - 2][1] if number > 1 else 0.0
        inner = f"""<body name="link{number}" pos="0 0 {before}">
          <joint name="joint{number}" axis="{axis}" range="-{most} {most}" limited="true"/>
          <geom type="capsule" fromto="0 0 0 0 0 {length}" size="0.03"/>{inner}</body>"""
    return f"""<mujoco><compiler angle="radian"/><worldbody>
      <body name="foot" pos="0.3 -0.1 0.05" euler="0 0 0.7">{inner}</body>
      <body name="loose" pos="1 1 1"><freejoint name="floating"/><geom size="0.1"/></body>
    </worldbody></mujoco>"""


def panda() -> Path:
    """robosuite's Franka Panda, where that is installed."""
    spec = find_spec("robosuite")
    if spec is None or spec.origin is None:
        pytest.skip("robosuite is not installed: it has the model of a Franka Panda")
    return Path(spec.origin).parent / "models/assets/robots/panda/robot.xml"


def compiled(text: str) -> Any:
    """The MjModel of MJCF."""
    from ego_ops.synthetic.render import load_mujoco

    return load_mujoco().MjModel.from_xml_string(text)
