"""The estimators against scenes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import Rejection
from ego_ops.geometry.ego_motion import estimate_path
from ego_ops.geometry.object_motion import pnp, solve, world_points
from ego_ops.geometry.observed import TrackedPoints
from ego_ops.geometry.smooth_motion import refine
from ego_ops.geometry.trajectory import quaternions, trajectory
from ego_ops.geometry.triangulate import first_motion, triangulate
from ego_ops.geometry.view import View
from tests.simulated import CAMERA, simulate

SEEDS = st.integers(0, 10_000)


def errors(found: RigidTransform, truth: RigidTransform, at: np.ndarray) -> tuple:
    """Metres at a place, and degrees, frame by frame."""
    shift = np.linalg.norm(found.apply(at) - truth.apply(at), axis=-1)
    return shift, np.degrees((found.rotation.inv() * truth.rotation).magnitude())


@settings(max_examples=6, deadline=None)
@given(SEEDS)
def test_still_points_are_triangulated_exactly_without_noise(seed: int) -> None:
    scene = simulate(seed, noise=0.0)
    fit = triangulate(scene.background_view)
    often = scene.background_view.visible.sum(0) >= 20
    assert np.abs(fit.points - scene.background)[often].max() < 1e-5
    assert np.nanmax(fit.residual[:, often]) < 1e-3


def test_the_covariance_of_a_triangulation_tells_its_error() -> None:
    ratio = []
    for seed in range(8):
        scene = simulate(seed, noise=0.7)
        fit = triangulate(scene.background_view)
        often = scene.background_view.visible.sum(0) >= 30
        gap = (fit.points - scene.background)[often]
        weighted = np.einsum("ni,nij,nj->n", gap, np.linalg.inv(fit.covariance[often]), gap)
        ratio.append(np.mean(weighted) / 3 / 0.7**2)
    assert 0.6 < np.mean(ratio) < 1.6  # 1 for a perfect covariance


def test_a_track_seen_once_has_no_place() -> None:
    scene = simulate()
    once = scene.background_view.where(np.arange(scene.view.steps)[:, None] == 3)
    assert np.isnan(triangulate(once).points).all()


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_motion_is_noticed_soon_and_rest_is_not_taken_for_motion(seed: int) -> None:
    scene = simulate(seed, noise=0.5)
    onset = first_motion(scene.view)
    judged = scene.view.visible[: scene.start].sum(0) >= 10
    moving = judged & scene.view.visible[scene.start :].all(0)
    assert np.median(onset[moving]) <= scene.start + 6
    assert (onset[moving] >= scene.start - 1).mean() > 0.9
    assert (first_motion(scene.background_view) == scene.view.steps).mean() > 0.95


def test_pnp_finds_the_pose_among_forty_percent_outliers() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-0.1, 0.1, (40, 3))
    truth = RigidTransform.from_components([0.05, -0.02, 0.6], Rotation.from_rotvec([0.3, -1, 0.4]))
    pixels = CAMERA.project(truth.apply(points)) + rng.normal(0, 0.3, (40, 2))
    pixels[:16] += rng.uniform(20, 200, (16, 2))
    found, inliers = pnp(CAMERA, points, pixels)
    assert inliers[16:].all()
    assert not inliers[:16].any()
    assert np.linalg.norm(found.translation - truth.translation) < 0.003
    assert np.degrees((found.rotation.inv() * truth.rotation).magnitude()) < 1.0


@pytest.mark.parametrize("points", [np.zeros((6, 3)), np.zeros((3, 3)), np.full((8, 3), 1e9)])
def test_pnp_of_degenerate_points_is_nothing_or_finite(points: np.ndarray) -> None:
    result = pnp(CAMERA, points, np.random.default_rng(0).uniform(0, 500, (len(points), 2)))
    assert result is None or np.isfinite(result[0].as_matrix()).all()


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_object_motion_is_found_despite_outliers(seed: int) -> None:
    scene = simulate(seed, noise=0.5, outliers=0.25)
    known = np.where(np.arange(30)[:, None] % 3 > 0, scene.points, np.nan)  # a third: not known
    moved = solve(scene.view, known, scene.start)
    shift, turn = errors(moved.motion, scene.motion, scene.points.mean(0))
    assert np.median(shift[scene.start :]) < 0.004
    assert np.median(turn[scene.start :]) < 1.5
    assert shift.max() < 0.03


def test_points_that_appear_during_the_motion_are_placed() -> None:
    scene = simulate(3, noise=0.3)
    known = scene.points.copy()
    known[20:] = np.nan
    moved = solve(scene.view, known, scene.start)
    placed = np.isfinite(moved.points[20:, 0])
    assert placed.mean() > 0.7
    assert np.median(np.linalg.norm(moved.points[20:] - scene.points[20:], axis=-1)[placed]) < 0.01


def test_an_object_unseen_at_the_end_rests_where_it_was_last_seen() -> None:
    scene = simulate(2, steps=80, noise=0.3)
    hidden = scene.view.where(np.arange(80)[:, None] < 70)
    moved = solve(hidden, scene.points, scene.start)
    shift, turn = errors(moved.motion, scene.motion, scene.points.mean(0))
    assert not moved.observed[70:].any()
    assert shift[70:].max() < 0.01
    assert turn[70:].max() < 2.0
    assert moved.position_sd[-1] > moved.position_sd[60]


def test_tracks_without_a_common_motion_are_rejected() -> None:
    scene = simulate(4)
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 500, scene.view.xy.shape)
    noise = View(CAMERA, scene.path, scene.times, xy, np.ones(xy.shape[:2], bool))
    with pytest.raises(Rejection) as caught:
        solve(noise, scene.points, scene.start)
    assert caught.value.reason == "lost_track"


@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_object_motion_does_not_depend_on_the_world_frame(seed: int) -> None:
    scene = simulate(seed, noise=0.4)
    rng = np.random.default_rng(seed)
    world = RigidTransform.from_components(rng.normal(0, 2, 3), Rotation.random(rng=rng))
    elsewhere = View(CAMERA, world * scene.path, scene.times, scene.view.xy, scene.view.visible)
    a = trajectory(solve(scene.view, scene.points, scene.start), scene.path)
    b = trajectory(solve(elsewhere, world.apply(scene.points), scene.start), world * scene.path)
    # The frame's origin is a median, which is taken along the world's axes.
    origin = b.object.translation[0] - a.object.translation[0]
    assert np.linalg.norm(origin) < 0.02
    assert (a.object.rotation.inv() * b.object.rotation).magnitude().max() < 1e-3
    assert np.abs(a.camera.as_matrix() - b.camera.as_matrix()).max() < 1e-9


@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_object_motion_does_not_depend_on_the_order_of_tracks(seed: int) -> None:
    scene = simulate(seed, noise=0.4)
    order = np.random.default_rng(seed).permutation(scene.view.count)
    a = solve(scene.view, scene.points, scene.start).motion
    b = solve(scene.view.select(order), scene.points[order], scene.start).motion
    assert np.abs(a.as_matrix() - b.as_matrix()).max() < 1e-2


def test_refining_the_truth_without_noise_leaves_it() -> None:
    scene = simulate(5, noise=0.0)
    still = np.arange(scene.view.steps) < scene.start
    found, _ = refine(scene.view, scene.motion, scene.points, still)
    shift, turn = errors(found, scene.motion, scene.points.mean(0))
    assert shift.max() < 1e-3
    assert turn.max() < 0.4  # the prior smooths a little


@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_camera_motion_from_background_depth(seed: int) -> None:
    scene = simulate(seed, noise=0.4)
    view = scene.background_view
    depth = view.local(scene.background)[..., 2]
    path = estimate_path(CAMERA, TrackedPoints(view.xy, view.visible, depth), scene.times)
    truth = scene.path[0].inv() * scene.path
    assert np.linalg.norm(path.translation - truth.translation, axis=-1).max() < 0.005
    assert np.degrees((path.rotation.inv() * truth.rotation).magnitude()).max() < 0.3


def test_camera_motion_survives_moving_things_and_wrong_depth() -> None:
    scene = simulate(6, noise=0.4)
    view = scene.background_view
    depth = view.local(scene.background)[..., 2]
    xy = np.concatenate((view.xy, scene.view.xy), 1)
    visible = np.concatenate((view.visible, scene.view.visible), 1)
    depth = np.concatenate((depth, scene.depth), 1)
    depth[:, ::10] *= 1.5
    path = estimate_path(CAMERA, TrackedPoints(xy, visible, depth), scene.times)
    truth = scene.path[0].inv() * scene.path
    assert np.linalg.norm(path.translation - truth.translation, axis=-1).max() < 0.01
    assert np.degrees((path.rotation.inv() * truth.rotation).magnitude()).max() < 0.3


def test_camera_motion_without_background_is_rejected() -> None:
    scene = simulate(7)
    view = scene.background_view
    depth = view.local(scene.background)[..., 2]
    blind = view.visible & (np.arange(view.steps)[:, None] < 10)
    with pytest.raises(Rejection) as caught:
        estimate_path(CAMERA, TrackedPoints(view.xy, blind, depth), scene.times)
    assert caught.value.reason == "lost_background"


def test_tracks_that_agree_on_no_camera_motion_are_rejected() -> None:
    scene = simulate(7)
    view = scene.background_view
    depth = view.local(scene.background)[..., 2]
    adrift = np.cumsum(np.random.default_rng(0).normal(0, 6, view.xy.shape), 0)
    tracks = TrackedPoints(view.xy + adrift, view.visible, depth)
    with pytest.raises(Rejection) as caught:
        estimate_path(CAMERA, tracks, scene.times)
    assert caught.value.reason == "lost_background"


def test_known_depth_places_points_only_before_they_move() -> None:
    scene = simulate(8, noise=0.0)
    onset = np.full(scene.view.count, scene.start)
    found = world_points(scene.view, scene.depth, onset)
    seen = scene.view.visible[: scene.start].any(0)
    assert np.abs(found - scene.points)[seen].max() < 1e-9


def test_a_trajectory_starts_at_the_object_with_the_first_cameras_axes() -> None:
    scene = simulate(9, noise=0.2)
    result = trajectory(solve(scene.view, scene.points, scene.start), scene.path)
    first = result.object[0].as_matrix()
    assert np.allclose(first[:3, :3], np.eye(3), atol=0.01)
    centre = scene.path[0].inv().apply(np.median(scene.points, 0))
    assert np.linalg.norm(first[:3, 3] - centre) < 0.005
    assert np.allclose(result.camera[0].as_matrix(), np.eye(4), atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_quaternions_do_not_jump_to_the_other_side(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.3, (50, 3)), 0))
    found = quaternions(RigidTransform.from_components(np.zeros((50, 3)), turns))
    assert ((found[1:] * found[:-1]).sum(-1) > 0).all()
    assert ((Rotation.from_quat(found) * turns.inv()).magnitude() < 1e-9).all()
