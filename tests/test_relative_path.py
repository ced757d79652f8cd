"""A camera's path up to scale, against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import Rejection
from ego_ops.geometry.bundle import adjust
from ego_ops.geometry.relative_path import RelativePath, relative_path
from ego_ops.geometry.view import View
from tests.simulated import CAMERA
from tests.worn import Worn, swaying, worn


def found(case: Worn) -> RelativePath:
    return relative_path(CAMERA, case.xy, case.visible, case.times)


def errors(case: Worn, path: RigidTransform) -> tuple[float, float]:
    """Largest rotation error, radians; RMS position error after the best scale, metres."""
    turn = (case.path.rotation.inv() * path.rotation).magnitude().max()
    ours, true = path.translation, case.path.translation
    gap = ours * (ours * true).sum() / (ours**2).sum() - true
    return float(turn), float(np.sqrt((gap**2).sum(-1).mean()))


@pytest.mark.parametrize("seed", range(3))
def test_a_swaying_head_is_found_up_to_scale(seed):
    case = worn(swaying(seed), seed)
    result = found(case)
    turn, shift = errors(case, result.path)
    assert turn < np.radians(0.15)
    assert shift < 0.0015
    assert result.noise == pytest.approx(0.4, rel=0.15)
    assert result.path[0].as_matrix() == pytest.approx(np.eye(4), abs=1e-6)
    placed = np.isfinite(result.points[:, 0])
    assert placed[case.still].mean() > 0.9
    # Tracks that move: none of their observations agree in the second half, where they move.
    late = result.inliers[-10:, ~case.still] & case.visible[-10:, ~case.still]
    assert late.mean() < 0.05


def test_the_points_have_the_scale_of_the_path():
    case = worn(swaying(5), 5)
    result = found(case)
    placed = np.isfinite(result.points[:, 0]) & case.still
    ours, true = result.path.translation, case.path.translation
    scale = (ours * true).sum() / (ours**2).sum()
    depth = case.points[placed, 2]
    assert np.median(np.abs(scale * result.points[placed, 2] / depth - 1)) < 0.02


def test_its_uncertainty_is_honest():
    squares: list[float] = []
    for seed in range(2):
        case = worn(swaying(seed), seed)
        result = found(case)
        steps = len(case.times)
        inverse = np.linalg.inv(result.information).reshape(steps, 6, steps, 6)
        error = (case.path.rotation * result.path.rotation.inv()).as_rotvec()
        squares += [
            error[t] @ np.linalg.solve(inverse[t, :3, t, :3], error[t]) / 3 for t in range(1, steps)
        ]
    assert 0.3 < np.mean(squares) < 4


def test_a_plane_is_no_obstacle():
    case = worn(swaying(2), 2, flat=True)
    turn, shift = errors(case, found(case).path)
    assert turn < np.radians(0.3)
    assert shift < 0.003


def over_a_table(
    path: RigidTransform, rng: np.random.Generator, objects: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Tracks, xy and visible, of 250 points of a tilted table that fills the first picture; a share
    of them of things on it."""
    tilt = np.radians(rng.uniform(25, 55))
    rays = CAMERA.rays(rng.uniform([20, 20], [940, 520], (250, 2)))
    points = rays * (0.5 / (rays @ [0, np.sin(tilt), np.cos(tilt)]))[:, None]
    points[: round(250 * objects)] *= rng.uniform(0.85, 0.97, (round(250 * objects), 1))
    xy = CAMERA.project(np.stack([pose.inv().apply(points) for pose in path]))
    xy += rng.normal(0, 0.5, xy.shape)
    steps = len(path)
    t, begun = np.arange(steps)[:, None], rng.integers(-steps // 2, steps // 2, 250)
    visible = CAMERA.contains(xy, 2) & (t >= begun) & (t < rng.integers(steps // 3, 2 * steps, 250))
    return np.where(visible[..., None], xy, np.nan), visible


@pytest.mark.parametrize("seed", [0, 4])
def test_the_other_reading_of_a_table_is_not_taken(seed):
    rng = np.random.default_rng(seed)
    s = np.linspace(0, 1, 61)[:, None]
    way, axis, bend, shake = (rng.normal(size=3) for _ in range(4))
    ease = s * s * (3 - 2 * s)
    path = RigidTransform.from_components(
        0.08 * ease * way / np.linalg.norm(way) + 0.012 * bend * s * np.sin(np.pi * s),
        Rotation.from_rotvec(
            0.12 * (ease * axis / np.linalg.norm(axis) + 0.2 * np.sin(2 * np.pi * s) * shake)
        ),
    )
    xy, visible = over_a_table(path, rng)
    result = relative_path(CAMERA, xy, visible, np.arange(61) / 30)
    turn = ((path[0].inv() * path).rotation.inv() * result.path.rotation).magnitude().max()
    assert turn < np.radians(0.5)


def test_a_straight_way_over_a_table_can_be_read_in_two_ways():
    rng = np.random.default_rng(0)
    way = np.linspace(0, 1, 61)[:, None] ** 1.3 * [0.0, 0.05, 0.1]
    path = RigidTransform.from_translation(way)
    xy, visible = over_a_table(path, rng, objects=0.0)
    with pytest.raises(Rejection) as caught:
        relative_path(CAMERA, xy, visible, np.arange(61) / 30)
    assert caught.value.reason == "ambiguous_path"


def test_a_walk_past_things_that_come_and_go():
    def path(times: np.ndarray) -> RigidTransform:
        where = np.stack((0.35 * times, 0.03 * np.sin(3 * times), 0.1 * np.sin(times)), -1)
        turn = np.stack((0.03 * np.sin(2 * times), 0.1 * np.sin(times), 0 * times), -1)
        return RigidTransform.from_components(where, Rotation.from_rotvec(turn))

    rng = np.random.default_rng(3)
    times = np.arange(80) / 20
    world = rng.uniform([-1.0, -0.5, 0.6], [2.4, 0.5, 1.6], (400, 3))
    poses = path(times)
    xy = CAMERA.project(np.stack([pose.inv().apply(world) for pose in poses]))
    xy += rng.normal(0, 0.4, xy.shape)
    visible = CAMERA.contains(xy, 2)
    begun = rng.integers(-29, 75, 400)
    age = np.arange(80)[:, None] - begun
    visible &= (age >= 0) & (age < 30)
    result = relative_path(CAMERA, np.where(visible[..., None], xy, np.nan), visible, times)
    ours, true = result.path.translation, (poses[0].inv() * poses).translation
    scale = (ours * true).sum() / (ours**2).sum()
    assert np.abs(scale * ours - true).max() < 0.03  # of 1.4 m, seen half a metre at a time
    assert (
        poses.rotation.inv() * poses[0].rotation * result.path.rotation
    ).magnitude().max() < 0.01


def test_a_head_that_only_turns_has_no_path():
    case = worn(swaying(0, amplitude=0.0, turning=0.2))
    with pytest.raises(Rejection) as caught:
        found(case)
    assert caught.value.reason == "too_little_parallax"


def test_tracks_of_nothing_are_turned_down():
    rng = np.random.default_rng(0)
    xy = np.cumsum(rng.normal(0, 8, (40, 100, 2)), 0) + rng.uniform(100, 400, (100, 2))
    with pytest.raises(Rejection) as caught:
        relative_path(CAMERA, xy, np.ones((40, 100), bool), np.arange(40) / 20)
    assert caught.value.reason == "lost_background"
    none = np.zeros((40, 100), bool)
    with pytest.raises(Rejection) as caught:
        relative_path(CAMERA, xy, none, np.arange(40) / 20)
    assert caught.value.reason == "lost_background"


def test_adjustment_returns_to_the_truth():
    case = worn(swaying(1), 1, pixels=0.0)
    kept = case.still & (case.visible.sum(0) > 20)
    rng = np.random.default_rng(0)
    shaken = RigidTransform.from_components(
        rng.normal(0, 0.01, (80, 3)), Rotation.from_rotvec(rng.normal(0, 0.01, (80, 3)))
    )
    start = RigidTransform.concatenate([case.path[:1], (shaken * case.path)[1:]])
    view = View(CAMERA, start, case.times, case.xy, case.visible).select(kept)
    true = case.points[kept]
    done = adjust(view, true + rng.normal(0, 0.02, true.shape))
    turn, shift = errors(case, done.path)
    assert turn < 1e-3
    assert shift < 2e-4
