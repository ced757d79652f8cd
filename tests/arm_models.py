"""Arms for tests of kinematics."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ego_ops.synthetic.render import load_mujoco

CHAIN = [
    ((0, 0, 1), 0.16, 2.9),
    ((0, 1, 0), 0.17, 1.9),
    ((0, 0, 1), 0.2, 2.9),
    ((0, 1, 0), 0.2, 2.5),
    ((0, 0, 1), 0.19, 2.9),
    ((0, 1, 0), 0.19, 2.0),
    ((0, 0, 1), 0.12, 3.0),
]
"""Of an arm of seven joints: axis, metres to the next joint, range to both sides."""
TOOL = ((0.02, 0, 0.12), (0, 0.35, 0.17))
"""Its tool on the last link: place, and angles about x, y and z, each as turned by those before."""


def seven() -> str:
    """MJCF of an arm of seven joints on a body `foot`, whose wrist has a site `tool`."""
    place, turn = (" ".join(map(str, each)) for each in TOOL)
    inner = f'<site name="tool" pos="{place}" euler="{turn}"/>'
    for number, (axis, length, most) in reversed(list(enumerate(CHAIN, 1))):
        before = CHAIN[number - 2][1] if number > 1 else 0.0
        x, y, z = axis
        inner = f"""<body name="link{number}" pos="0 0 {before}">
          <joint name="joint{number}" axis="{x} {y} {z}" range="-{most} {most}" limited="true"/>
          <geom type="capsule" fromto="0 0 0 0 0 {length}" size="0.03"/>{inner}</body>"""
    return f"""<mujoco><compiler angle="radian"/><worldbody>
      <body name="foot" pos="0.3 -0.1 0.05" euler="0 0 0.7">{inner}</body>
      <body name="loose" pos="1 1 1"><freejoint name="floating"/><geom size="0.1"/></body>
    </worldbody></mujoco>"""


def panda() -> Any:
    """The MjModel of robosuite's Franka Panda, where that is installed."""
    spec = find_spec("robosuite")
    if spec is None or spec.origin is None:
        pytest.skip("robosuite is not installed: it has the model of a Franka Panda")
    path = Path(spec.origin).parent / "models/assets/robots/panda/robot.xml"
    model = load_mujoco().MjSpec.from_file(str(path))
    model.compiler.degree = False  # robosuite says so elsewhere
    return model.compile()


def compiled(text: str) -> Any:
    """The MjModel of MJCF."""
    return load_mujoco().MjModel.from_xml_string(text)
