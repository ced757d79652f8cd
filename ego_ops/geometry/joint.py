"""One least squares over a clip: camera, object, the points of both, and a depth scale a frame.

The unknowns of a frame are two small motions in the camera frame, of the background and of the
object, and the logarithm of the factor from measured depth to lengths. Seen this way the tracks
of the background and those of the object have no unknown but that factor in common, so that each
eliminates its own points; what ties them together is how things move in the world.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import Camera
from ego_ops.geometry import band
from ego_ops.geometry.joint_prior import Measured, Priors, add_measured, add_priors
from ego_ops.geometry.normal import Normal, Seen, closer, nearer, normal, short
from ego_ops.geometry.residuals import NOISE, Noise
from ego_ops.geometry.view import Array, Index, Mask

SIZE = 13
"""Unknowns of a frame: background (6), object (6), depth scale (1)."""
FEWEST = 4
"""Points below which a frame does not show the object."""
_BACKGROUND = np.array([0, 1, 2, 3, 4, 5, 12])
_OBJECT = np.array([6, 7, 8, 9, 10, 11, 12])


@dataclass(frozen=True)
class State:
    """What is solved for: T frames, N points of the object, M of the background."""

    camera: RigidTransform
    """T poses T_first_camera."""
    motion: RigidTransform
    """T displacements: where a point of the object at the reference frame is at frame t, in the
    first camera frame."""
    points: Array
    """(N, 3) of the object at the reference frame, in the first camera frame."""
    background: Array
    """(M, 3) in the first camera frame."""
    log_scale: Array
    """(T,) logarithm of the factor from measured depth to lengths."""

    def frames(self, which: Index) -> State:
        """The state at some of the frames (n,)."""
        return replace(
            self,
            camera=self.camera[which],
            motion=self.motion[which],
            log_scale=self.log_scale[which],
        )


@dataclass(frozen=True)
class Problem:
    """What is known: tracks, priors, and which frames hold the gauge."""

    camera: Camera
    times: Array
    object: Seen
    background: Seen
    reference: int
    """The frame in which the object's displacement is the identity."""
    path: RigidTransform | None
    """T recorded poses T_first_camera."""
    priors: Priors
    noise: Noise = NOISE
    measured: Measured | None = None
    """Poses of the object from elsewhere."""

    @property
    def shown(self) -> Mask:
        """(T,) frames that tell where the object is."""
        shown = self.object.shows(FEWEST)
        return shown if self.measured is None else shown | np.isfinite(self.measured.position_sd)

    def spread(self, most: int) -> Index:
        """At most so many frames all over the clip, the reference among them."""
        count = len(self.times)
        if count <= most:
            return np.arange(count)
        frames = np.linspace(0, count - 1, most - 1).astype(int)
        return np.unique(np.append(frames, self.reference))

    def frames(self, which: Index) -> Problem:
        """The same problem in some of the frames (n,), the reference among them."""
        return replace(
            self,
            times=self.times[which],
            object=self.object.frames(which),
            background=self.background.frames(which),
            reference=int(np.flatnonzero(which == self.reference)[0]),
            path=None if self.path is None else self.path[which],
            measured=None if self.measured is None else self.measured.frames(which),
        )


@dataclass(frozen=True)
class _System:
    """The equations at one state, and what they come to."""

    band: Array
    """(T, 3, 13, 13): [t, o] couples frame t + o with frame t; points not eliminated."""
    right: Array
    """(T, 13)."""
    background: Normal
    object: Normal
    cost: float


def adjust(problem: Problem, state: State, iterations: int = 12, tolerance: float = 1e-3) -> State:
    """Bundle adjustment (Levenberg-Marquardt, Cauchy's loss) of everything.

    The time grows with the third power of the number of frames: see `follow` for many.
    """
    given, damping, width = state, 1e-3, problem.noise.width
    system = _system(problem, state, given, width)
    for _ in range(iterations):
        moved, size = _adjusted(problem, state, system, damping)
        after = _system(problem, moved, given, width)
        if after.cost > system.cost:
            damping *= 30
            if damping > 1e3:
                break
            continue
        gain = 1 - after.cost / system.cost
        damping = max(damping / 10, 1e-6)
        state, system = moved, after
        if size < tolerance or gain < 1e-3:
            break
    return state


def follow(problem: Problem, state: State, iterations: int = 4) -> State:
    """The poses of all frames with the points where they are, in time linear in the frames."""
    for turn in range(iterations):
        width = problem.noise.width * (4.0 if turn == 0 else 1.0)
        system = _system(problem, state, state, width)
        state = _posed(state, band.solve(_held(problem, system.band), system.right))
    return state


def settle(problem: Problem, state: State, iterations: int = 3) -> State:
    """The points where the poses want them, each for itself."""
    points, background = state.points, state.background
    world, thing = (arrays(pose) for pose in poses_in_camera(state))
    known = (state.log_scale, problem.noise)
    for _ in range(iterations):
        points = nearer(problem.camera, problem.object, thing, points, *known)
        background = nearer(problem.camera, problem.background, world, background, *known)
    return replace(state, points=points, background=background)


def reposed(problem: Problem, state: State) -> State:
    """Each frame's poses as its own tracks want them, with the points where they are.

    An adjustment that began from poor points can leave a few frames behind, whose tracks then
    count as outliers; seen from the points that all the others agree on, they come back.
    """
    world, thing = poses_in_camera(state)
    for width in (15.0, 6.0, 3.0):
        known = (state.log_scale, problem.noise, width)
        steps = closer(problem.camera, problem.background, arrays(world), state.background, *known)
        world = stepped(world, steps)
        steps = closer(problem.camera, problem.object, arrays(thing), state.points, *known)
        thing = stepped(thing, steps)
    camera = world.inv()
    if problem.path is None:
        camera = camera[0].inv() * camera
        background = world[0].apply(state.background)
    else:
        camera, background = state.camera, state.background
    motion = camera * thing
    held = motion[problem.reference]
    return replace(
        state,
        camera=camera,
        motion=motion * held.inv(),
        points=held.apply(state.points),
        background=background,
    )


def covariances(problem: Problem, state: State) -> Array:
    """(T, 6, 6) covariance of the object's motion in the world, for the noise that is assumed: a
    rotation vector about the object's middle, then that middle's shift.

    The time grows with the third power of the number of frames.
    """
    system = _system(problem, state, state, problem.noise.width)
    inverses = system.background.inverse(0.0), system.object.inverse(0.0)
    full, _ = _reduced(problem, system, inverses)
    root = cholesky(full, lower=True, overwrite_a=True, check_finite=False)
    inverse = solve_triangular(root, np.eye(len(root)), lower=True, check_finite=False)
    columns = inverse.reshape(len(root), -1, SIZE).transpose(1, 2, 0)
    to_world = problem.priors.to_world(state.camera, state.motion, _middle(state.points))
    both = np.concatenate((-to_world, to_world), -1) @ columns[:, :12]
    return np.asarray(both @ both.swapaxes(1, 2), float)


def poses_in_camera(state: State) -> tuple[RigidTransform, RigidTransform]:
    """T poses T_camera_first, and T_camera_object with the object's frame that of the points."""
    to_camera = state.camera.inv()
    return to_camera, to_camera * state.motion


def arrays(pose: RigidTransform) -> tuple[Array, Array]:
    """Rotation matrices (T, 3, 3) and translations (T, 3)."""
    return pose.rotation.as_matrix(), pose.translation


def _middle(points: Array) -> Array:
    return np.median(points, axis=0)


def _system(problem: Problem, state: State, given: State, width: float) -> _System:
    world, thing = poses_in_camera(state)
    middle = _middle(state.points)
    shared = (state.log_scale, problem.noise, width)
    background = normal(
        problem.camera, problem.background, arrays(world), state.background, *shared,
        given.background,
    )  # fmt: skip
    moving = normal(
        problem.camera, problem.object, arrays(thing), state.points, *shared, given.points
    )
    steps = len(problem.times)
    blocks, right = np.zeros((steps, 3, SIZE, SIZE)), np.zeros((steps, SIZE))
    for part, where in ((background, _BACKGROUND), (moving, _OBJECT)):
        blocks[:, 0, where[:, None], where] += part.blocks
        right[:, where] += part.right
    cost = add_priors(
        problem.priors, blocks, right, problem.times, state.camera, state.motion,
        middle, state.log_scale, problem.path, problem.shown,
    )  # fmt: skip
    if problem.measured is not None:
        cost += add_measured(problem.measured, blocks, right, thing, middle)
    return _System(blocks, right, background, moving, background.cost + moving.cost + cost)


def _held(problem: Problem, blocks: Array) -> Array:
    """The band with the gauge held: the object in the reference frame, the first camera where no
    path is recorded."""
    blocks = blocks.copy()
    blocks[problem.reference, 0, 6:12, 6:12] += 1e8 * np.eye(6)
    if problem.path is None:
        blocks[0, 0, :6, :6] += 1e8 * np.eye(6)
    else:
        blocks[0, 0, :6, :6] += 1e2 * np.eye(6)
    return blocks


def _reduced(
    problem: Problem, system: _System, inverses: tuple[Array, Array]
) -> tuple[Array, Array]:
    """(13 T, 13 T) and (13 T,) equations of the frames, the points taken out."""
    full, right = band.full(_held(problem, system.band)), system.right.ravel().copy()
    steps = len(problem.times)
    parts = ((system.background, _BACKGROUND), (system.object, _OBJECT))
    for (part, where), inverse in zip(parts, inverses, strict=True):
        index = (np.arange(steps)[:, None] * SIZE + where).ravel()
        taken, pulled = part.eliminated(inverse)
        full[np.ix_(index, index)] -= taken
        right[index] -= pulled
    return full, right


def _adjusted(
    problem: Problem, state: State, system: _System, damping: float
) -> tuple[State, float]:
    """The state after one step, and the largest change in it."""
    inverses = system.background.inverse(damping), system.object.inverse(damping)
    full, right = _reduced(problem, system, inverses)
    full.flat[:: len(full) + 1] *= 1 + damping
    steps = cho_solve(cho_factor(full, lower=True, overwrite_a=True), right).reshape(-1, SIZE)
    background = system.background.moves(inverses[0], steps[:, _BACKGROUND])
    points = system.object.moves(inverses[1], steps[:, _OBJECT])
    moved = replace(
        _posed(state, steps),
        points=state.points + short(points),
        background=state.background + short(background),
    )
    return moved, float(np.abs(steps).max())


def _posed(state: State, steps: Array) -> State:
    """The state with its poses and scales moved by steps (T, 13)."""
    world, thing = poses_in_camera(state)
    camera = stepped(world, steps[:, :6]).inv()
    motion = camera * stepped(thing, steps[:, 6:12])
    return replace(state, camera=camera, motion=motion, log_scale=state.log_scale + steps[:, 12])


def stepped(pose: RigidTransform, steps: Array) -> RigidTransform:
    """T poses after small motions (T, 6) in the camera frame: rotation vector, then shift."""
    return RigidTransform.from_components(steps[:, 3:], Rotation.from_rotvec(steps[:, :3])) * pose
