"""Registration of clouds by PyTorch3D, for machines with CUDA where it is installed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from ego_ops.geometry.dense_align import Aligned, judged, thinned
from ego_ops.geometry.view import Array

ROUNDS = 8
"""Rounds of matching in which the worst matches no longer count."""


def align(source: Array, target: Array, guess: RigidTransform, device: str = "cuda") -> Aligned:
    """Register `source` (n, 3) to `target` (m, 3), metres, from a `guess` of T_target_source.

    ICP from point to point (Besl and McKay 1992), then again without the fifth of the points that
    match worst, because two views of a surface overlap in part only.

    Args:
        device: name of the torch device that computes.

    Raises:
        UserError: PyTorch3D is not installed, or cannot be imported.
    """
    torch, ops = _packages()
    source, target = thinned(source), thinned(target)
    middle = target.mean(0)
    moving, onto = (
        torch.as_tensor(points, dtype=torch.float32, device=device)[None]
        for points in (source - source.mean(0), target - middle)
    )
    begin = _between(guess, source.mean(0), middle)
    form = ops.points_alignment.SimilarityTransform
    # PyTorch3D multiplies rows of points from the right: its R is the transpose of ours.
    start = form(
        torch.as_tensor(begin.rotation.as_matrix().T, dtype=torch.float32, device=device)[None],
        torch.as_tensor(begin.translation, dtype=torch.float32, device=device)[None],
        torch.ones(1, device=device),
    )
    found = ops.iterative_closest_point(moving, onto, start, max_iterations=30).RTs
    for _ in range(ROUNDS):
        moved = moving @ found.R + found.T[:, None]
        near = ops.knn_points(moved, onto, K=1)
        gap = near.dists[..., 0]
        weight = (gap <= gap.quantile(0.8)).to(gap.dtype)
        matched = ops.knn_gather(onto, near.idx)[:, :, 0]
        found = ops.corresponding_points_alignment(moving, matched, weight)
    turn = Rotation.from_matrix(found.R[0].T.double().cpu().numpy())
    own = RigidTransform.from_components(found.T[0].double().cpu().numpy(), turn)
    return judged(source, target, _between(own, -source.mean(0), -middle))


def _between(pose: RigidTransform, source: Array, target: Array) -> RigidTransform:
    """The same motion for points taken from `source` (3,) and given from `target` (3,)."""
    shift = RigidTransform.from_translation
    return shift(-np.asarray(target)) * pose * shift(np.asarray(source))


@functools.cache
def _packages() -> tuple[Any, Any]:
    try:
        import pytorch3d.ops
        import torch
    except ImportError as error:
        raise UserError(
            "clouds cannot be registered by PyTorch3D, which cannot be imported "
            f"({' '.join(str(error).split())[:120]}): install pytorch3d for this machine's CUDA, "
            "or use small_gicp (pip install egoscaler-ray[dense])"
        ) from error
    return torch, pytorch3d.ops
