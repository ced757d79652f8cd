"""What differs between the episodes of a task: all of it follows from the task and the seed."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.synthetic import textures
from sim_eval.suites.tabletop import looks
from sim_eval.suites.tabletop.poses import Pose
from sim_eval.suites.tabletop.robot import Gripper
from sim_eval.suites.tabletop.tasks import Chore
from sim_eval.suites.tabletop.things import Thing, make

Floats = NDArray[np.float64]

FIELD = np.array([[-0.10, 0.15], [-0.17, 0.17]])
"""Bounds of x and y of a small thing's middle, metres; larger things lie further in."""
_MARGIN = 0.03
_DOWN = Rotation.from_euler("x", np.pi)
"""The gripper's axes in the world's when it points down and closes along x."""


class Layout(NamedTuple):
    """One episode's scene. Metres and radians, in the world's frame (z up, 0 on the table)."""

    thing: tuple[float, float, float]
    """x, y and turn about z."""
    goal: tuple[float, float, float]
    gripper: RigidTransform
    camera: RigidTransform
    """T_world_camera, OpenCV axes."""
    table: str
    """One of `looks.TABLES`."""
    tints: dict[str, Floats]
    """(3,) colours of materials, from 0 to 1."""
    sun: Floats
    """(3,) direction of light."""
    light: Floats
    """(3,) its colour."""
    ambient: float


def generator(task: str, seed: int) -> np.random.Generator:
    """All chance in an episode."""
    digest = hashlib.blake2b(task.encode(), digest_size=8).digest()
    return np.random.default_rng([int.from_bytes(digest, "little"), seed])


def draw(chore: Chore, seed: int) -> Layout:
    """The scene of an episode."""
    rng = generator(chore.task.name, seed)
    thing, goal = _apart(rng, make(chore.thing), make(chore.goal))
    pointing = Rotation.from_euler("z", rng.uniform(-0.6, 0.6)) * _DOWN
    place = rng.uniform([-0.14, -0.08, 0.16], [0.02, 0.08, 0.24])
    gripper = RigidTransform.from_components(place, pointing)
    tints = {
        name: np.array(textures.colour(*(rng.uniform(*span) for span in spans))) / 255
        for name, spans in looks.TINTS.items()
    }
    tints |= {name: rng.uniform(0.82, 1.0, 3) for name in looks.TABLES}
    sun = np.array([*rng.uniform(-0.4, 0.4, 2), -1.0])
    return Layout(
        thing=thing,
        goal=goal,
        gripper=gripper,
        camera=_camera(rng),
        table=str(rng.choice(looks.TABLES)),
        tints=tints,
        sun=sun / np.linalg.norm(sun),
        light=rng.uniform(0.45, 0.68) * rng.uniform([0.97, 0.93, 0.86], [1.0, 1.0, 1.0]),
        ambient=rng.uniform(0.28, 0.40),
    )


def plain(chore: Chore, seed: int) -> Layout:
    """As `draw`, but seen by one camera in one light: only where things and gripper are differs."""
    drawn = draw(chore, seed)
    return draw(chore, 0)._replace(thing=drawn.thing, goal=drawn.goal, gripper=drawn.gripper)


def _apart(
    rng: np.random.Generator, thing: Thing, goal: Thing
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Where the two lie so that neither is in the other's way."""
    while True:
        spots = []
        for each in (thing, goal):
            inset = np.array([0.3, 0.6]) * min(each.reach, 0.1)
            x, y = rng.uniform(FIELD[:, 0] + inset, FIELD[:, 1] - inset)
            spots.append((x, y, rng.uniform(-np.pi, np.pi)))
        gap = np.hypot(spots[0][0] - spots[1][0], spots[0][1] - spots[1][1])
        if gap > thing.reach + goal.reach + _MARGIN:
            return spots[0], spots[1]


def _camera(rng: np.random.Generator) -> RigidTransform:
    """Behind the robot and to its side, looking down at the table, as over its shoulder."""
    eye = np.array([-0.40, -0.30, 0.46]) + rng.uniform(-0.015, 0.015, 3)
    gaze = np.array([0.04, 0.02, 0.02]) + rng.uniform(-0.012, 0.012, 3) - eye
    forward = gaze / np.linalg.norm(gaze)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    return RigidTransform.from_components(eye, Rotation.from_matrix(axes))


def apply(layout: Layout, chore: Chore, model: Any, data: Any) -> None:
    """Set all that a layout says, in a model of this task and in data that was reset."""
    Gripper(model, data).place(Pose.of(layout.gripper))
    for name, (x, y, turn) in ((chore.thing, layout.thing), (chore.goal, layout.goal)):
        made = make(name)
        pose = np.array([x, y, made.rest, np.cos(turn / 2), 0, 0, np.sin(turn / 2)])
        if made.free:
            data.joint(name).qpos[:] = pose
        else:
            model.body(name).pos[:], model.body(name).quat[:] = pose[:3], pose[3:]
    camera = model.camera("base_0_rgb")
    camera.pos[:] = layout.camera.translation
    opengl = layout.camera.rotation * Rotation.from_euler("x", np.pi)
    camera.quat[:] = np.roll(opengl.as_quat(), 1)
    model.geom("table").matid[:] = model.material(layout.table).id
    for name, colour in layout.tints.items():
        if name in looks.TABLES or name in (chore.thing, chore.goal):
            model.material(name).rgba[:3] = colour
    sun = model.light("sun")
    sun.dir[:], sun.diffuse[:] = layout.sun, layout.light
    sun.pos[:] = -1.2 * layout.sun
    model.vis.headlight.ambient[:] = layout.ambient
