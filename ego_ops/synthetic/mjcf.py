"""A scene as a MuJoCo model: one XML string, with its meshes and textures as files in memory.

Whatever moves is a mocap body named after what it is: `head` (carries the camera `eye`),
`object`, and `<side>/<bone>` for the hands.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.synthetic import hand, meshes, textures
from ego_ops.synthetic.layout import TABLE
from ego_ops.synthetic.meshes import Mesh
from ego_ops.synthetic.scene import Scene
from ego_ops.synthetic.textures import Image

Floats = NDArray[np.float64]
ROOM, OBJECT, CLUTTER, HANDS = range(4)
"""Geom groups, by which a renderer leaves things out."""
FOCAL = 736.6339 / 1920
"""Focal length of EgoDex's camera in widths of the image."""


@dataclass
class _Model:
    """The parts of the XML while they are put together."""

    assets: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def material(self, name: str, image: Image, gloss: float) -> str:
        """Add a textured look; returns the attribute of a geom that has it."""
        ok, png = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not ok:
            raise ValueError(f"texture {name} cannot be encoded as PNG")
        self.files[f"{name}.png"] = png.tobytes()
        self.assets.append(
            f'<texture name="{name}" type="2d" file="{name}.png"/>'
            f'<material name="{name}" texture="{name}" specular="{gloss}" shininess="0.5"/>'
        )
        return f'material="{name}"'

    def mesh(self, name: str, mesh: Mesh, look: str, group: int) -> str:
        """Add a mesh; returns the geom that shows it."""
        self.files[f"{name}.obj"] = mesh.obj()
        self.assets.append(f'<mesh name="{name}" file="{name}.obj" inertia="shell"/>')
        return f'<geom type="mesh" mesh="{name}" {look} group="{group}"/>'

    def fixed(self, geom: str, pose: RigidTransform) -> None:
        x, y, z, w = pose.rotation.as_quat()
        self.bodies.append(
            f'<body pos="{_text(pose.translation)}" quat="{w} {x} {y} {z}">{geom}</body>'
        )

    def moving(self, name: str, content: str) -> None:
        self.bodies.append(f'<body name="{name}" mocap="true">{content}</body>')


def build(
    scene: Scene, size: tuple[int, int], focal: float | None = None, shadow: int | None = None
) -> tuple[str, dict[str, bytes]]:
    """The XML of a scene, and the files it names.

    Args:
        size: (width, height) of the pictures, pixels.
        focal: focal length in pixels; by default that of EgoDex's camera.
        shadow: side of the shadow map in pixels; by default as fine as suits the size.
    """
    rng = np.random.default_rng([*scene.seed, 1])
    model = _Model()
    _room(model, rng)
    for k, placed in enumerate(scene.clutter):
        thing = placed.thing
        look = model.material(f"clutter{k}", thing.texture, thing.gloss)
        model.fixed(model.mesh(f"clutter{k}", thing.mesh, look, CLUTTER), placed.pose)
    look = model.material("object", scene.thing.texture, scene.thing.gloss)
    model.moving("object", model.mesh("object", scene.thing.mesh, look, OBJECT))
    _hands(model, rng)
    width, height = size
    focal = FOCAL * width if focal is None else focal
    model.moving(
        "head",
        f'<camera name="eye" quat="0 1 0 0" resolution="{width} {height}" '
        f'sensorsize="{width * 1e-5} {height * 1e-5}" '
        f'focalpixel="{focal} {focal}" principalpixel="0 0"/>',
    )
    sun = np.array([rng.uniform(-0.5, 0.5), -1.0, rng.uniform(-0.45, -0.15)])
    if scene.recipe.lamp:
        sun[2] = 0.0  # The lamp's shadow falls short of the thing that it hides.
    return _xml(model, sun, size, shadow or _shadow(size[0])), model.files


def _room(model: _Model, rng: np.random.Generator) -> None:
    base = rng.uniform(125, 190)
    slab = meshes.box([2.4, 0.04, 1.1], atlas=False)
    planks = textures.wood(rng, 1000, 2000, (base, 0.8 * base, 0.58 * base))
    table = model.mesh("table", slab, model.material("table", planks, 0.1), ROOM)
    model.fixed(table, RigidTransform.from_translation([0, TABLE - 0.02, -0.6]))
    tone = rng.uniform(150, 205)
    plaster = textures.plain(rng, 500, 2300, (tone, tone * rng.uniform(0.9, 1.0), tone * 0.86))
    look = model.material("wall", plaster, 0.0)
    wall = model.mesh("wall", meshes.box([14.0, 3.0, 0.05], False), look, ROOM)
    model.fixed(wall, RigidTransform.from_translation([0, 1.0, -1.2]))
    carpet = textures.plain(rng, 400, 400, textures.colour(rng.random(), 0.2, 0.4))
    look = model.material("floor", carpet, 0.0)
    floor = model.mesh("floor", meshes.box([14.0, 0.05, 4.0], False), look, ROOM)
    model.fixed(floor, RigidTransform.from_translation([0, 0, 0]))
    for k, x in enumerate(rng.uniform([-0.7, 0.35], [-0.4, 0.65])):
        look = model.material(f"picture{k}", textures.landscape(rng, 320, 440), 0.1)
        picture = model.mesh(f"picture{k}", meshes.box([0.48, 0.36, 0.02], False), look, ROOM)
        up = TABLE + rng.uniform(0.26, 0.34)
        model.fixed(picture, RigidTransform.from_translation([x, up, -1.17]))


def _hands(model: _Model, rng: np.random.Generator) -> None:
    tone = rng.uniform(0.55, 1.0)
    base = np.array([222.0, 172.0, 142.0]) * tone ** np.array([0.7, 1.0, 1.15])
    skin = model.material("skin", textures.skin(rng, 256, 256, tuple(base)), 0.12)
    sleeve = textures.cloth(rng, 512, 512, textures.colour(rng.random(), 0.35, 0.5))
    cloth = model.material("sleeve", sleeve, 0.02)
    pale = np.clip(base * 1.06 + 10, 0, 255) / 255
    for side in ("left", "right"):
        parts: dict[str, str] = {}
        for name, mesh in hand.bones(side).items():
            look = cloth if name in ("Sleeve", "Arm") else skin
            body = "Forearm" if name == "Sleeve" else name
            geom = model.mesh(f"{side}-{name}", mesh, look, HANDS)
            parts[body] = parts.get(body, "") + geom
        for digit in hand.DIGITS:
            at, axes = hand.nail(digit)
            parts[f"{digit}2"] += (
                f'<geom type="ellipsoid" pos="{_text(at)}" size="{_text(axes)}" '
                f'rgba="{_text(pale)} 1" group="{HANDS}"/>'
            )
        for body, content in parts.items():
            model.moving(f"{side}/{body}", content)


def _shadow(width: int) -> int:
    """Edges about as fine as those of a small picture; finer ones cost more than all the rest."""
    return min(2 ** int(np.ceil(np.log2(2 * width))), 2048)


def _xml(model: _Model, sun: Floats, size: tuple[int, int], shadow: int) -> str:
    width, height = size
    warm = np.array([1.0, 0.94, 0.86])
    return f"""<mujoco>
  <compiler angle="radian"/>
  <statistic extent="1" center="0 {TABLE} -0.4"/>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <quality shadowsize="{shadow}" offsamples="4"/>
    <map znear="0.02" zfar="10" shadowclip="1.2"/>
    <headlight ambient="0.34 0.33 0.32" diffuse="0.12 0.12 0.12" specular="0 0 0"/>
  </visual>
  <default><geom contype="0" conaffinity="0"/></default>
  <asset>{"".join(model.assets)}</asset>
  <worldbody>
    <light directional="true" pos="{_text(np.array([0, TABLE, -0.4]) - 1.5 * sun)}"
      dir="{_text(sun)}" diffuse="{_text(0.52 * warm)}" specular="0.3 0.3 0.3"/>
    <light directional="true" pos="-1 2 1" dir="0.5 -0.7 -0.8" castshadow="false"
      diffuse="0.26 0.26 0.28" specular="0 0 0"/>
    {"".join(model.bodies)}
  </worldbody>
</mujoco>"""


def _text(values: ArrayLike) -> str:
    return " ".join(f"{v:.6f}" for v in np.asarray(values, float))


def as_mujoco(pose: Rotation) -> Floats:
    """Scalar-first quaternions (N, 4), MuJoCo's order."""
    return np.roll(pose.as_quat(), 1, axis=-1)
