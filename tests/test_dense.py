"""Registration of clouds of visible surface, against rendered truth."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

pytest.importorskip("small_gicp", reason="dense registration is not installed")

from ego_ops.geometry.dense import DensePoses, register_clouds
from ego_ops.geometry.dense_align import align_gicp, thinned
from tests.surface_clouds import Filmed, filmed

GAP = slice(10, 20)


@cache
def clip(name: str, **how: float) -> Filmed:
    return filmed(name, steps=30, **how)


def bridged(one: Filmed, gap: slice = GAP) -> tuple[DensePoses, np.ndarray]:
    have = np.ones(len(one.times), bool)
    have[gap] = False
    nonsense = RigidTransform.from_translation([9.0, 9.0, 9.0])
    known = [one.poses[t] if have[t] else nonsense for t in range(len(have))]
    found = register_clouds(one.clouds, RigidTransform.concatenate(known), have, one.times)
    return found, ~have


def errors(found: RigidTransform, truth: RigidTransform) -> tuple[np.ndarray, np.ndarray]:
    turned = (truth.rotation.inv() * found.rotation).magnitude()
    return np.linalg.norm(found.translation - truth.translation, axis=-1), turned


@pytest.mark.parametrize("name", ["box", "mug", "bottle", "bowl", "sphere"])
def test_a_gap_is_bridged_and_the_deviations_cover_the_errors(name: str) -> None:
    one = clip(name)
    found, gap = bridged(one)
    shift, turn = errors(found.poses, one.poses)
    assert (found.measured == gap).all()
    assert np.allclose(found.poses[~gap].as_matrix(), one.poses[~gap].as_matrix())
    assert np.isnan(found.position_sd[~gap]).all()
    assert shift[gap].max() < 0.008
    assert turn[gap].max() < np.radians(4)
    assert np.mean((shift / found.position_sd)[gap] ** 2) < 1.6**2
    assert np.mean((turn / found.rotation_sd)[gap] ** 2) < 1.6**2
    assert found.share[gap].min() > 0.9


def test_only_surfaces_that_hold_their_turn_are_sure_of_it() -> None:
    sd = {name: np.median(bridged(clip(name))[0].rotation_sd[GAP]) for name in
          ("box", "bottle", "bowl", "sphere", "plane")}  # fmt: skip
    assert sd.pop("box") < np.radians(3)
    assert min(sd.values()) > np.radians(15)


def test_a_plane_that_slips_is_not_sure_of_its_place_either() -> None:
    found, gap = bridged(clip("plane"))
    assert found.position_sd[gap].min() > 0.02
    assert bridged(clip("box"))[0].position_sd[gap].max() < 0.006


def test_frames_far_from_the_known_ones_do_not_drift() -> None:
    one = clip("box", turn=1.2)
    found, gap = bridged(one, slice(5, 30))
    shift, turn = errors(found.poses, one.poses)
    assert found.measured[gap].all()
    assert shift.max() < 0.012
    assert turn.max() < np.radians(5)


def test_with_nothing_known_the_largest_cloud_is_the_reference() -> None:
    one = clip("box", turn=0.8)
    none = np.zeros(len(one.times), bool)
    found = register_clouds(one.clouds, one.poses, none, one.times)
    first = max(range(len(none)), key=lambda t: len(one.clouds[t]))
    assert found.measured.all()
    assert found.position_sd[first] == 0
    assert found.poses[first].rotation.magnitude() < 1e-12
    middle = np.median(one.clouds[first], axis=0)
    assert np.linalg.norm(found.poses[first].translation - middle) < 1e-6
    own = one.poses[first].inv() * found.poses[first]
    shift, turn = errors(found.poses, one.poses * own)
    assert shift.max() < 0.03
    assert turn.max() < np.radians(8)
    moving = np.arange(len(none)) != first
    assert np.mean((shift[moving] / found.position_sd[moving]) ** 2) < 1.6**2


def test_a_cloud_of_something_else_is_not_believed() -> None:
    one = clip("box")
    clouds = list(one.clouds)
    rng = np.random.default_rng(0)
    clouds[14] = clouds[14].mean(0) + rng.uniform(-0.3, 0.3, (900, 3))
    clouds[15] = np.zeros((0, 3))
    clouds[16] = np.full((500, 3), np.nan)
    clouds[17] = np.tile([0.0, 0.0, 0.5], (2000, 1))
    found, _ = bridged(Filmed(clouds, one.poses, one.times))
    assert not found.measured[14:18].any()
    assert np.isnan(found.rotation_sd[14:18]).all()
    assert found.measured[[10, 11, 12, 13, 18, 19]].all()
    # What is not measured lies between its neighbours.
    assert errors(found.poses, one.poses)[0][14:18].max() < 0.02


def test_points_behind_the_edges_of_the_mask_do_no_harm() -> None:
    one = clip("box")
    rng = np.random.default_rng(1)
    clouds = []
    for cloud in one.clouds:
        stray = cloud[rng.random(len(cloud)) < 0.1]
        clouds.append(np.concatenate((cloud, stray * rng.uniform(1.2, 2.0, (len(stray), 1)))))
    found, gap = bridged(Filmed(clouds, one.poses, one.times))
    shift, turn = errors(found.poses, one.poses)
    assert found.measured[gap].all()
    assert shift.max() < 0.01
    assert turn.max() < np.radians(5)


def test_a_rigid_change_of_the_object_frame_changes_nothing_else() -> None:
    one = clip("box")
    own = RigidTransform.from_components([0.05, -0.02, 0.03], Rotation.from_rotvec([0.4, 2.0, 0.3]))
    found, gap = bridged(one)
    other, _ = bridged(Filmed(one.clouds, one.poses * own, one.times))
    shift, turn = errors(other.poses * own.inv(), found.poses)
    assert shift[gap].max() < 0.003
    assert turn[gap].max() < np.radians(1.5)


def test_no_clouds_at_all_leave_the_known_poses_and_no_measurement() -> None:
    one = clip("box")
    found, gap = bridged(Filmed([np.zeros((0, 3))] * 30, one.poses, one.times))
    assert not found.measured.any()
    assert np.allclose(found.poses[~gap].as_matrix(), one.poses[~gap].as_matrix())
    with pytest.raises(ValueError, match="same number of frames"):
        register_clouds(one.clouds[:-1], one.poses, ~gap, one.times)


def test_gicp_finds_an_exact_motion_among_points_that_are_exact() -> None:
    cloud = clip("mug", noise=0, bias=0).clouds[0]
    truth = RigidTransform.from_components(
        [0.02, -0.01, 0.015], Rotation.from_rotvec([0.1, 0.15, -0.1])
    )
    middle = RigidTransform.from_translation(thinned(cloud).mean(0))
    truth = middle * truth * middle.inv()
    points = thinned(cloud)
    found = align_gicp(points, truth.apply(points), RigidTransform.identity())
    step = truth.inv() * found.pose
    assert step.rotation.magnitude() < 1e-3
    assert np.linalg.norm(step.apply(points) - points, axis=1).max() < 5e-4
    assert found.share == 1
    assert found.rmse < 5e-4


def test_without_pytorch3d_one_line_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['pytorch3d'] = None\n"
        "import numpy as np; from scipy.spatial.transform import RigidTransform\n"
        "from ego_ops.errors import UserError\nfrom ego_ops.geometry import dense_pytorch3d\n"
        "points = np.zeros((9, 3))\n"
        "try: dense_pytorch3d.align(points, points, RigidTransform.identity())\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=False, timeout=60)  # fmt: skip
    assert "small_gicp (pip install egoscaler-ray[dense])" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


PYTORCH3D = """
import sys, types
import numpy as np
import torch
from scipy.spatial import cKDTree

def knn_points_idx(one, other, many, more, norm, k, version):
    # PyTorch3D's wheels are for CUDA: what its alignment asks of the compiled part, by SciPy.
    pairs = [cKDTree(b).query(a, [*range(1, k + 1)]) for a, b in zip(one.numpy(), other.numpy())]
    gaps, index = (np.stack(part) for part in zip(*pairs))
    return torch.as_tensor(index), torch.as_tensor(gaps**2, dtype=one.dtype)

compiled = types.ModuleType("pytorch3d._C")
compiled.knn_points_idx = knn_points_idx
compiled.__getattr__ = lambda name: None
import pytorch3d
sys.modules["pytorch3d._C"] = pytorch3d._C = compiled
from scipy.spatial.transform import RigidTransform
from ego_ops.geometry.dense_pytorch3d import align
source, target = (np.load(f"{sys.argv[1]}/{name}.npy") for name in ("source", "target"))
found = align(source, target, RigidTransform.identity(), device="cpu")
np.save(f"{sys.argv[1]}/found.npy", found.pose.as_matrix())
print(found.share)
"""


def test_pytorch3d_agrees_with_the_truth(tmp_path: Path) -> None:
    folder = os.environ.get("EGOSCALER_META_PACKAGES", "")
    if not any(Path(one, "pytorch3d").is_dir() for one in (folder or "/nonexistent", *sys.path)):
        pytest.skip("EGOSCALER_META_PACKAGES names no folder with pytorch3d")
    one = clip("mug", noise=0.001, bias=0)
    np.save(tmp_path / "source.npy", one.clouds[3])
    np.save(tmp_path / "target.npy", one.clouds[0])
    paths = (str(Path(__file__).resolve().parents[1]), folder)
    done = subprocess.run(
        [sys.executable, "-c", PYTORCH3D, str(tmp_path)], capture_output=True, text=True,
        check=False, timeout=120, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.9
    found = RigidTransform.from_matrix(np.load(tmp_path / "found.npy"))
    truth = one.poses[0] * one.poses[3].inv()
    points = one.clouds[3]
    assert np.linalg.norm(found.apply(points) - truth.apply(points), axis=1).mean() < 0.004
