"""What the pose of a registered cloud is worth: where its surface holds it, and where it slips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.geometry.dense_align import spread
from ego_ops.geometry.view import Array

NEIGHBOURS = 15
"""Points that a normal is fitted to."""
INDEPENDENT = 30.0
"""Independent measurements that a cloud amounts to: errors of depth vary smoothly over it, so that
more points do not average them out. Calibrated on rendered things."""
SLIPS = 0.04
"""Constraint, of a surface scaled to unit size, that noisy normals feign where there is none."""


@dataclass(frozen=True)
class Surface:
    """A model to register to: points with normals."""

    points: Array
    """(m, 3) metres, in the object's frame."""
    normals: Array
    """(m, 3) unit length, of either sign."""
    radius: float
    """Median distance of the points from their median, metres: the unit of length here."""
    tree: cKDTree

    @staticmethod
    def of(points: Array) -> Surface:
        """The surface through points (m, 3), m > `NEIGHBOURS`."""
        tree = cKDTree(points)
        patches = points[tree.query(points, NEIGHBOURS)[1]]
        patches = patches - patches.mean(1, keepdims=True)
        normals = np.linalg.eigh(patches.swapaxes(1, 2) @ patches)[1][:, :, 0]
        return Surface(points, normals, spread(points), tree)


def fused(
    cloud: Array, model: Surface, guess: RigidTransform, found: RigidTransform, moves: Array
) -> tuple[RigidTransform, Array]:
    """The pose that registration found, as far as the surface holds it, and its deviations.

    The information of point-to-plane distances, as Gelfand et al. 2003 analyse it: directions in
    which the surface slips along itself carry none. There registration wanders, so the pose stays
    at the guess, with the deviation that the motion allows (as in Zhang, Kaess and Singh 2016).

    Args:
        cloud: (n, 3) in the camera frame.
        guess: T_camera_object that registration began from.
        found: T_camera_object that it ended at.
        moves: (2,) standard deviation of the guess, metres and radians.

    Returns:
        The pose, and (2,) deviations of its position (metres) and rotation (radians), each in its
        worst direction.
    """
    middle, tight = _information(cloud, model, found)
    free = np.array([moves[1]] * 3 + [moves[0] / model.radius] * 3)
    covariance = np.asarray(np.linalg.inv(tight + np.diag(1 / free**2)), np.float64)
    about = RigidTransform.from_translation(middle)
    step = about.inv() * found * guess.inv() * about
    change = np.concatenate((step.rotation.as_rotvec(), step.translation / model.radius))
    kept = covariance @ tight @ change
    small = RigidTransform.from_components(kept[3:] * model.radius, Rotation.from_rotvec(kept[:3]))
    pose = about * small * about.inv() * guess
    arm: Array = (pose.translation - middle) / model.radius
    return pose, _deviations(covariance, arm, model.radius)


def _information(cloud: Array, model: Surface, pose: RigidTransform) -> tuple[Array, Array]:
    """The matched points' middle (3,) in the camera frame, and the information (6, 6) of a turn
    about it (radians) and a shift (radii of the model) of the object."""
    own = pose.inv().apply(cloud)
    gap, index = model.tree.query(own)
    near = gap <= 3 * np.median(gap)
    points, normals = cloud[near], pose.rotation.apply(model.normals[index[near]])
    middle = points.mean(0)
    miss = ((own[near] - model.points[index[near]]) * model.normals[index[near]]).sum(1)
    noise = max(float(np.sqrt(np.mean(miss**2))) / model.radius, 1e-4)
    arms = (points - middle) / model.radius
    rows = np.concatenate((np.cross(arms, normals), normals), 1)
    weight, ways = np.linalg.eigh(rows.T @ rows / len(rows))
    held = np.maximum(weight - SLIPS, 0)
    return middle, INDEPENDENT / noise**2 * (ways * held) @ ways.T


def _deviations(covariance: Array, arm: Array, radius: float) -> Array:
    """(2,) worst deviations of a place `arm` (3,) from where the covariance (6, 6) is about."""
    cross = np.array([[0, -arm[2], arm[1]], [arm[2], 0, -arm[0]], [-arm[1], arm[0], 0]])
    lever = np.concatenate((-cross, np.eye(3)), 1)
    place, turn = lever @ covariance @ lever.T, covariance[:3, :3]
    return np.sqrt([np.linalg.eigvalsh(place)[-1] * radius**2, np.linalg.eigvalsh(turn)[-1]])
