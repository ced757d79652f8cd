"""What tracks may leave open: shapes that look alike when turned, and motions read in reverse."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.geometry.joint import Problem, State, arrays, stepped
from ego_ops.geometry.normal import closer, loss, nearer
from ego_ops.geometry.view import Array

FRAMES = 12
"""Frames that a reversed reading is tried on."""
SLIPS = 0.04
"""Constraint on a rotation, of the surface scaled to unit size, below which the surface slips
along itself. Rendered cans, bottles and bowls have 0.003 to 0.035, boxes and books from 0.065."""
FLAT = 0.06
"""Thickness of a plane, as a share of its width."""


def planar(points: Array) -> bool:
    """Whether points (N, 3) lie in a plane, or in a line."""
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(points.T)), 0))
    return bool(spread[0] < FLAT * spread[1] or spread[1] < FLAT * spread[2])


def symmetric(points: Array, neighbours: int = 8) -> bool:
    """Whether a surface, by its points (N, 3), can turn about an axis and slip along itself.

    Slippage analysis (Gelfand and Guibas 2004): the rotations that move no point along its normal
    are the null space of a 6 x 6 matrix of points and normals. Its rotations are judged with the
    shifts left free. False where the points are too few to have normals.
    """
    if len(points) < 3 * neighbours:
        return False
    points = points - points.mean(0)
    points = points / np.sqrt((points**2).sum(1).mean())
    _, index = cKDTree(points).query(points, neighbours + 1)
    patches = points[index] - points[index].mean(1, keepdims=True)
    normals = np.linalg.svd(patches, full_matrices=False)[2][:, 2]
    rows = np.concatenate((np.cross(points, normals), normals), 1)
    tight = rows.T @ rows / len(points)
    shifts = np.linalg.inv(tight[3:, 3:] + 1e-3 * np.eye(3))
    turns = tight[:3, :3] - tight[:3, 3:] @ shifts @ tight[3:, :3]
    return bool(np.linalg.eigvalsh(turns)[0] < SLIPS)


def reversal(problem: Problem, state: State, width: float = 3.0) -> float:
    """How much worse the tracks fit when the object's depth and turning are read in reverse.

    Seen from afar a thing and its mirror image, turning the other way, look the same (Necker's
    cube). The reversed reading is fitted to a few frames, and what the robust cost rises by is
    returned, in units of squared deviations for each frame. Perspective and measured depth make it
    large; where it is small, nobody can tell the two apart.
    """
    seen = np.flatnonzero(problem.object.shows(6))
    if len(seen) < 2:
        return 0.0
    frames = seen[np.unique(np.linspace(0, len(seen) - 1, FRAMES).astype(int))]
    tracks, scale = problem.object.frames(frames), state.log_scale[frames]
    pose = (state.camera.inv() * state.motion)[frames]
    known = (scale, problem.noise)
    here = loss(problem.camera, tracks, arrays(pose), state.points, *known, width)
    points, pose = _mirrored(pose, state.points)
    for bound in (15.0, 8.0, width, width):
        points = nearer(problem.camera, tracks, arrays(pose), points, *known)
        steps = closer(problem.camera, tracks, arrays(pose), points, *known, bound)
        pose = stepped(pose, steps)
    there = loss(problem.camera, tracks, arrays(pose), points, *known, width)
    return float(2 * (there - here) / len(frames))


def _mirrored(pose: RigidTransform, points: Array) -> tuple[Array, RigidTransform]:
    """Points (N, 3) mirrored in depth as the middle frame sees them, and T poses that show them
    as far as a distant camera can tell."""
    middle = np.median(points, axis=0)
    centre = pose.apply(middle)
    view = centre / np.linalg.norm(centre, axis=-1, keepdims=True)
    mirror = np.eye(3) - 2 * view[:, :, None] * view[:, None, :]
    turn = pose.rotation.as_matrix()
    base = len(turn) // 2
    # Mirrored as the base frame sees them, in the thing's own axes: M = R_b^T S_b R_b.
    own = turn[base].T @ mirror[base] @ turn[base]
    turned = Rotation.from_matrix(mirror @ turn @ own)
    flipped = middle + (points - middle) @ own.T
    return flipped, RigidTransform.from_components(centre - turned.apply(middle), turned)
