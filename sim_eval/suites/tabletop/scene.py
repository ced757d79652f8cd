"""A task's scene as a MuJoCo model. What differs between episodes is set in the model later."""

from __future__ import annotations

import math
from typing import Any

from ego_ops.synthetic.render import load_mujoco
from sim_eval.suites.tabletop import looks, robot
from sim_eval.suites.tabletop.tasks import Chore
from sim_eval.suites.tabletop.things import Thing, make

SIZE = 224
"""Width and height of a picture, pixels."""
FOVY = 43.0
"""Of the fixed camera, degrees."""
_FOCAL = SIZE / 2 / math.tan(math.radians(FOVY) / 2)
INTRINSICS = (_FOCAL, _FOCAL, (SIZE - 1) / 2, (SIZE - 1) / 2)
"""fx, fy, cx, cy of the fixed camera, pixels."""


def build(chore: Chore) -> Any:
    """The compiled model of a task: table at z = 0, robot, the thing and its goal, two lights."""
    things = {name: make(name) for name in (chore.thing, chore.goal)}
    materials, files = looks.assets(set(things))
    meshes = ""
    for thing in things.values():
        for name, mesh in thing.meshes.items():
            files[f"{name}.obj"] = mesh.obj()
            meshes += f'<mesh name="{name}" file="{name}.obj" inertia="shell"/>'
    bodies = "".join(_body(name, thing) for name, thing in things.items())
    mujoco = load_mujoco()
    return mujoco.MjModel.from_xml_string(_xml(materials + meshes, bodies), files)


def _body(name: str, thing: Thing) -> str:
    joint = f'<freejoint name="{name}"/>' if thing.free else ""
    return f'<body name="{name}">{joint}{thing.geoms}</body>'


def _xml(assets: str, bodies: str) -> str:
    return f"""<mujoco>
  <compiler angle="radian" eulerseq="zyx"/>
  <option timestep="{robot.TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <statistic extent="0.6" center="0 0 0"/>
  <visual>
    <global offwidth="{SIZE}" offheight="{SIZE}"/>
    <quality shadowsize="512" offsamples="4"/>
    <map znear="0.03" zfar="10" shadowclip="1.2"/>
    <headlight ambient="0.36 0.36 0.36" diffuse="0.10 0.10 0.10" specular="0 0 0"/>
  </visual>
  <default>
    <geom condim="6" friction="0.8 0.005 0.0002" solref="0.008 1" solimp="0.95 0.99 0.0005"/>
    {robot.DEFAULTS}
  </default>
  <asset>{assets}</asset>
  <worldbody>
    <light name="sun" directional="true" pos="0 0 1.2" dir="0 0 -1" diffuse="0.6 0.6 0.6"
      specular="0.3 0.3 0.3"/>
    <light name="sky" directional="true" pos="0 0 2" dir="0.5 0.4 -1" castshadow="false"
      diffuse="0.22 0.22 0.24" specular="0 0 0"/>
    <camera name="base_0_rgb" fovy="{FOVY}"/>
    <geom name="floor" type="plane" pos="0 0 -0.7" size="4 4 0.1" material="floor"
      contype="0" conaffinity="0" group="1"/>
    <geom name="table" type="box" pos="0.05 0 -0.02" size="0.42 0.5 0.02" material="oak"
      contype="1" conaffinity="3" group="1"/>
    {robot.BODY}
    {bodies}
  </worldbody>
  {robot.CONSTRAINTS}
</mujoco>"""
