"""Triangle meshes with texture coordinates, built from arrays.

All meshes are y up and in metres. Texture coordinates follow OpenGL: u to the right, v up, so the
top row of an image is v = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """V vertices with a normal and a texture coordinate each, and F triangles (anticlockwise)."""

    vertices: Floats
    """(V, 3) metres."""
    normals: Floats
    """(V, 3) unit length, outward."""
    uv: Floats
    """(V, 2) in [0, 1]."""
    faces: NDArray[np.int64]
    """(F, 3) indices of vertices."""

    def moved(self, offset: ArrayLike) -> Mesh:
        return Mesh(self.vertices + np.asarray(offset), self.normals, self.uv, self.faces)

    def in_cell(self, u0: float, v0: float, u1: float, v1: float) -> Mesh:
        """The same mesh, textured from one rectangle of the image."""
        uv = np.array([u0, v0]) + self.uv * np.array([u1 - u0, v1 - v0])
        return Mesh(self.vertices, self.normals, uv, self.faces)

    def obj(self) -> bytes:
        """The mesh as a Wavefront OBJ file."""
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in self.vertices]
        lines += [f"vt {u:.6f} {v:.6f}" for u, v in self.uv]
        lines += [f"vn {x:.5f} {y:.5f} {z:.5f}" for x, y, z in self.normals]
        lines += ["f " + " ".join(f"{i}/{i}/{i}" for i in face) for face in self.faces + 1]
        return "\n".join(lines).encode()

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """(count, 3) points spread evenly over the surface."""
        corners = self.vertices[self.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(normal, axis=1)
        chosen = corners[rng.choice(len(area), size=count, p=area / area.sum())]
        a, b = np.sqrt(rng.random(count)), rng.random(count)
        weights = np.stack([1 - a, a * (1 - b), a * b], axis=1)
        return np.einsum("nc,ncd->nd", weights, chosen)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
        np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=False)]),
    )


BOX_SIDES = ("front", "right", "top", "back", "left", "bottom")
"""Sides of a box in the order of its texture's cells, three a row, from the top left."""

_OUT_AND_UP = {
    "front": ((0, 0, 1), (0, 1, 0)),
    "right": ((1, 0, 0), (0, 1, 0)),
    "top": ((0, 1, 0), (0, 0, -1)),
    "back": ((0, 0, -1), (0, 1, 0)),
    "left": ((-1, 0, 0), (0, 1, 0)),
    "bottom": ((0, -1, 0), (0, 0, 1)),
}


def box(size: ArrayLike, atlas: bool) -> Mesh:
    """Box around the origin, `size` (3,) metres.

    Each side shows its own cell of the texture (`atlas`, see `BOX_SIDES`) or all of it.
    """
    half = np.asarray(size, float) / 2
    sides = []
    for index, side in enumerate(BOX_SIDES):
        out, up = (np.array(v, float) for v in _OUT_AND_UP[side])
        right = np.cross(up, out)
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        vertices = np.array([(out + a * right + b * up) * half for a, b in corners])
        uv = (np.array(corners, float) + 1) / 2
        mesh = Mesh(vertices, np.tile(out, (4, 1)), uv, np.array([[0, 1, 2], [0, 2, 3]]))
        if atlas:
            column, row = index % 3, index // 3
            mesh = mesh.in_cell(column / 3, (1 - row) / 2, (column + 1) / 3, (2 - row) / 2)
        sides.append(mesh)
    return merge(sides)


def lathe(profile: ArrayLike, segments: int = 48) -> Mesh:
    """Surface of revolution about y of a `profile` (P, 2) of (radius, height).

    The outside lies to the right of the profile's direction, so an outer wall runs from the
    bottom up. v runs along the profile by arc length and u around it. Corners sharper than 40
    degrees stay sharp.
    """
    points = np.asarray(profile, float)
    step = np.diff(points, axis=0)
    length = np.linalg.norm(step, axis=1)
    v = np.concatenate([[0.0], np.cumsum(length)]) / length.sum()
    flat = np.stack([step[:, 1], -step[:, 0]], axis=1) / length[:, None]
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    around = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    bands = []
    for k in range(len(step)):
        rows = []
        for end, neighbour in ((k, k - 1), (k + 1, k + 1)):
            normal = flat[k]
            if 0 <= neighbour < len(step) and flat[k] @ flat[neighbour] > np.cos(np.radians(40)):
                normal = flat[k] + flat[neighbour]
            rows.append((points[end], normal / np.linalg.norm(normal), v[end]))
        bands.append(_band(rows, around, angle / (2 * np.pi)))
    return merge(bands)


def _band(rows: Sequence[tuple[Floats, Floats, float]], around: Floats, u: Floats) -> Mesh:
    vertices, normals, uv = [], [], []
    for (radius, height), (n_out, n_up), v in rows:
        vertices.append(np.insert(around * radius, 1, height, axis=1))
        normals.append(np.insert(around * n_out, 1, n_up, axis=1))
        uv.append(np.stack([u, np.full_like(u, v)], axis=1))
    faces = _grid_faces(2, len(u))
    return Mesh(np.concatenate(vertices), np.concatenate(normals), np.concatenate(uv), faces)


def _grid_faces(rows: int, columns: int) -> NDArray[np.int64]:
    """Triangles of a grid of vertices (row by row, rows upward, columns to the right)."""
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1, 1)
    quads = a + np.array([0, 1, columns + 1, columns])
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def tube(path: ArrayLike, radius: float, segments: int = 12) -> Mesh:
    """Round tube along a `path` (P, 3) that lies in the xy plane."""
    points = np.asarray(path, float)
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.array([0.0, 0.0, 1.0])
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    across = np.cross(side, tangent)
    normals = np.cos(angle)[:, None] * across[:, None] + np.sin(angle)[:, None] * side
    vertices = points[:, None] + radius * normals
    u, v = np.meshgrid(np.linspace(0, 1, segments + 1), np.linspace(0, 1, len(points)))
    faces = _grid_faces(len(points), segments + 1)[:, ::-1]
    uv = np.stack([u, v], axis=-1)
    return Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces)


def hull(centres: ArrayLike, radii: ArrayLike, squash: float = 1.0, per_sphere: int = 160) -> Mesh:
    """Convex hull of spheres: the shape of a finger bone, a palm, a forearm.

    Args:
        centres: (S, 3) metres.
        radii: (S,) metres.
        squash: factor on the thickness (y) of every sphere.

    The texture runs once along x and is mirrored around it, so that it has no seam.
    """
    k = np.arange(per_sphere) + 0.5
    polar, turn = np.arccos(1 - 2 * k / per_sphere), np.pi * (1 + 5**0.5) * k
    sphere = np.stack(
        [np.cos(polar), squash * np.sin(turn) * np.sin(polar), np.cos(turn) * np.sin(polar)], axis=1
    )
    spheres = zip(np.asarray(centres, float), np.asarray(radii, float), strict=True)
    points = np.concatenate([centre + radius * sphere for centre, radius in spheres])
    shape = ConvexHull(points)
    kept, flat = np.unique(shape.simplices, return_inverse=True)
    vertices, faces = points[kept], flat.reshape(-1, 3)
    normal = _face_normals(vertices, faces)
    inward = np.einsum("fd,fd->f", normal, shape.equations[:, :3]) < 0
    faces[inward] = faces[inward][:, ::-1]
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], _face_normals(vertices, faces))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    along = vertices[:, 0] - vertices[:, 0].min()
    centre = vertices.mean(axis=0)
    angle = np.arctan2(vertices[:, 2] - centre[2], vertices[:, 1] - centre[1])
    uv = np.stack([along / along.max(), np.abs(angle) / np.pi], axis=1)
    return Mesh(vertices, normals, uv, faces)


def _face_normals(vertices: Floats, faces: NDArray[np.int64]) -> Floats:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)
