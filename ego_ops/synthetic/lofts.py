"""Shapes of things: smooth bodies around a curved middle line, as textured triangle meshes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ego_ops.synthetic.meshes import Mesh

Floats = NDArray[np.float64]


def loft(
    middle: ArrayLike, width: ArrayLike, height: ArrayLike, dip: ArrayLike = 0.0, around: int = 24
) -> Mesh:
    """A closed body whose cross-sections are ellipses across x.

    Args:
        middle: (N, 3) centres of the sections, x rising, metres.
        width, height: (N,) half axes along y and z, metres.
        dip: (N,) how far the upper side is pressed in, metres: makes a spoon's hollow.
        around: corners of a section.

    Returns:
        The mesh; u runs along x and v around.
    """
    centres = np.asarray(middle, float)
    count = len(centres)
    half_y, half_z, hollow = (
        np.broadcast_to(np.asarray(value, float), count)[:, None] for value in (width, height, dip)
    )
    angle = np.linspace(0, 2 * np.pi, around + 1)
    y, z = half_y * np.cos(angle), half_z * np.sin(angle)
    z = z - hollow * np.sin(angle).clip(0)  # the deepest in the middle, nothing at the rim
    points = np.stack([np.zeros_like(y), y, z], axis=-1) + centres[:, None]
    u = np.linspace(0, 1, count)
    uv = np.stack(np.broadcast_arrays(u[:, None], angle / (2 * np.pi)), axis=-1)
    faces = _faces(count, around + 1)
    ends = np.array([points[0].mean(0), points[-1].mean(0)])
    last = (count - 1) * (around + 1)
    tip = count * (around + 1)
    k = np.arange(around)
    caps = [
        np.stack([np.full(around, tip), k + 1, k], axis=1),
        np.stack([np.full(around, tip + 1), last + k, last + k + 1], axis=1),
    ]
    vertices = np.concatenate([points.reshape(-1, 3), ends])
    triangles = np.concatenate([faces, *caps])
    coordinates = np.concatenate([uv.reshape(-1, 2), [[0, 0.5], [1, 0.5]]])
    normals = _normals(vertices, triangles, count, around + 1)
    return Mesh(vertices, normals, coordinates, triangles)


def _faces(rows: int, columns: int) -> NDArray[np.int64]:
    """Triangles of a grid of vertices, anticlockwise seen from outside."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1, 1)
    quads = corner + np.array([0, columns, columns + 1, 1])
    return np.concatenate([quads[:, [0, 2, 1]], quads[:, [0, 3, 2]]])


def _normals(vertices: Floats, faces: NDArray[np.int64], rows: int, columns: int) -> Floats:
    """(V, 3) mean of the neighbouring faces' normals; the seam's two sides share theirs."""
    corners = vertices[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], flat)
    grid = total[: rows * columns].reshape(rows, columns, 3)
    grid[:, 0] = grid[:, -1] = grid[:, 0] + grid[:, -1]
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(total / np.maximum(length, 1e-12))
