"""Metrics against what geometry says they must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.geometry import metrics
from ego_ops.geometry.comparison import Comparison, compare, reframed

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=40, deadline=None)


def path(rng: np.random.Generator, steps: int = 20) -> RigidTransform:
    """A wandering path of poses."""
    place = np.cumsum(rng.normal(0, 0.05, (steps, 3)), axis=0)
    turn = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.1, (steps, 3)), axis=0))
    return RigidTransform.from_components(place, turn)


def near(rng: np.random.Generator, truth: RigidTransform) -> RigidTransform:
    off = RigidTransform.from_components(
        rng.normal(0, 0.01, (len(truth), 3)),
        Rotation.from_rotvec(rng.normal(0, 0.02, (len(truth), 3))),
    )
    return truth * off


def motion(rng: np.random.Generator) -> RigidTransform:
    return RigidTransform.from_components(rng.normal(size=3), Rotation.random(rng=rng))


def test_summary_of_known_errors():
    found = metrics.summary([0.0, 3.0, 4.0, 1.0])
    assert (found.mean, found.median, found.max, found.last) == (2.0, 2.0, 4.0, 1.0)
    assert found.rmse == pytest.approx(np.sqrt(26 / 4))
    with pytest.raises(ValueError, match="no errors"):
        metrics.summary([])


@few
@given(seeds)
def test_errors_do_not_depend_on_the_world(seed):
    rng = np.random.default_rng(seed)
    truth = path(rng)
    found, world = near(rng, truth), motion(rng)
    before = metrics.displacement(found.translation, truth.translation)
    after = metrics.displacement((world * found).translation, (world * truth).translation)
    np.testing.assert_allclose(after, before, atol=1e-12)
    turns = metrics.geodesic(found.rotation.as_quat(), truth.rotation.as_quat())
    turned = metrics.geodesic(
        (world * found).rotation.as_quat(), (world * truth).rotation.as_quat()
    )
    np.testing.assert_allclose(turned, turns, atol=1e-12)


@few
@given(seeds)
def test_relative_error_does_not_depend_on_either_world(seed):
    rng = np.random.default_rng(seed)
    truth = path(rng)
    found = near(rng, truth)
    one = metrics.relative_error(found, truth, step=3)
    two = metrics.relative_error(motion(rng) * found, motion(rng) * truth, step=3)
    assert len(one[0]) == 17
    np.testing.assert_allclose(two[0], one[0], atol=1e-12)
    np.testing.assert_allclose(two[1], one[1], atol=1e-12)
    same = metrics.relative_error(motion(rng) * truth, truth)
    assert max(same[0].max(), same[1].max()) < 1e-12


def test_relative_error_of_a_drift_is_the_drift_of_a_step():
    truth = path(np.random.default_rng(0), 11)
    drift = RigidTransform.from_translation(np.arange(11)[:, None] * [0.002, 0, 0])
    straight = RigidTransform.from_components(truth.translation, Rotation.identity(11))
    metres, radians = metrics.relative_error(drift * straight, straight, step=5)
    np.testing.assert_allclose(metres, 0.01, atol=1e-15)
    assert radians.max() == 0


@pytest.mark.parametrize("step", [0, 4, 9])
def test_relative_error_wants_enough_poses(step):
    truth = path(np.random.default_rng(0), 4)
    with pytest.raises(ValueError, match=f"4 poses have no motions over {step}"):
        metrics.relative_error(truth, truth, step)


@few
@given(seeds, st.floats(0, np.pi))
def test_geodesic_is_the_angle_turned_and_blind_to_the_sign(seed, angle):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    base = Rotation.random(rng=rng)
    a, b = base.as_quat(), (base * turn).as_quat()
    for sign in (1, -1):
        # At half a turn the angle's own derivative is zero, so float noise grows to its root.
        assert metrics.geodesic(a, sign * b) == pytest.approx(angle, abs=1e-7)
        assert metrics.geodesic(a * 3, sign * a) == pytest.approx(0, abs=1e-15)


def test_geodesic_resolves_tiny_angles():
    turn = Rotation.from_rotvec([[1e-10, 0, 0]]).as_quat()
    assert metrics.geodesic(turn, [[0, 0, 0, 1.0]])[0] == pytest.approx(1e-10, rel=1e-6)


@few
@given(seeds, st.floats(0.05, 20))
def test_umeyama_recovers_a_similarity(seed, size):
    rng = np.random.default_rng(seed)
    points, true = rng.normal(size=(12, 3)), motion(rng)
    target = size * true.rotation.apply(points) + true.translation
    fit = metrics.umeyama(points, target)
    assert fit.scale == pytest.approx(size, rel=1e-9)
    assert (fit.rotation.inv() * true.rotation).magnitude() < 1e-7
    np.testing.assert_allclose(fit.apply(points), target, atol=1e-8)
    assert metrics.absolute_error(points, target, "similarity") < 1e-8
    assert metrics.absolute_error(true.apply(points), points, "rigid") < 1e-8


@few
@given(seeds)
def test_umeyama_never_mirrors_and_nothing_near_is_better(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(10, 3))
    target = points * [1, 1, -1] + rng.normal(0, 0.05, (10, 3))
    fit = metrics.umeyama(points, target)
    assert np.linalg.det(fit.rotation.as_matrix()) == pytest.approx(1)
    best = ((fit.apply(points) - target) ** 2).sum()
    for _ in range(20):
        other = metrics.Similarity(
            fit.scale * np.exp(rng.normal(0, 0.02)),
            Rotation.from_rotvec(rng.normal(0, 0.02, 3)) * fit.rotation,
            fit.translation + rng.normal(0, 0.02, 3),
        )
        assert ((other.apply(points) - target) ** 2).sum() >= best


def test_umeyama_of_one_place_is_a_shift():
    fit = metrics.umeyama(np.ones((5, 3)), np.full((5, 3), 3.0))
    assert fit.scale == 1.0
    np.testing.assert_allclose(fit.apply(np.ones((5, 3))), 3.0)


@few
@given(seeds, st.floats(0.01, 100))
def test_scale_is_recovered_and_leaves_nothing(seed, size):
    points = np.random.default_rng(seed).normal(size=(9, 3))
    assert metrics.scale(points, size * points) == pytest.approx(size, rel=1e-12)
    assert metrics.absolute_error(points, size * points, "scale") < 1e-10 * size


def test_scale_of_nothing_is_unknown_and_changes_nothing():
    still, truth = np.zeros((4, 3)), np.ones((4, 3))
    assert np.isnan(metrics.scale(still, truth))
    np.testing.assert_array_equal(metrics.aligned(still, truth, "scale"), still)


@few
@given(seeds)
def test_more_freedom_never_fits_worse(seed):
    rng = np.random.default_rng(seed)
    truth = path(rng).translation
    found = 1.3 * truth + rng.normal(0, 0.02, truth.shape)
    none, size, rigid, both = (
        metrics.absolute_error(found, truth, align)
        for align in ("none", "scale", "rigid", "similarity")
    )
    assert both <= min(size, rigid) + 1e-12
    assert max(size, rigid) <= none + 1e-12


def test_baselines():
    times = np.array([0.0, 1.0, 4.0])
    turn = Rotation.from_rotvec([[0, 0, 0], [1.0, 0, 0], [0, 0, 0.8]])
    place = np.array([[1.0, 0, 0], [5, 5, 5], [3.0, 4, 0]])
    truth = RigidTransform.from_components(place, turn)
    still = metrics.static(truth)
    np.testing.assert_allclose(still.translation, [[1.0, 0, 0]] * 3)
    assert still.rotation.magnitude().max() == 0
    line = metrics.straight_line(truth, times)
    np.testing.assert_allclose(line.translation, [[1, 0, 0], [1.5, 1, 0], [3, 4, 0]], atol=1e-12)
    np.testing.assert_allclose(
        line.rotation.as_rotvec(), [[0, 0, 0], [0, 0, 0.2], [0, 0, 0.8]], atol=1e-12
    )
    assert len(metrics.straight_line(truth[:1], [0.0])) == 1


@few
@given(seeds)
def test_geodesic_is_a_distance(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (Rotation.random(50, rng=rng).as_quat() for _ in range(3))
    ab, bc, ac = metrics.geodesic(a, b), metrics.geodesic(b, c), metrics.geodesic(a, c)
    assert (ac <= ab + bc + 1e-12).all()
    np.testing.assert_allclose(metrics.geodesic(b, a), ab, atol=1e-12)
    assert ((ab >= 0) & (ab <= np.pi)).all()


def test_no_scale_mirrors_a_path():
    truth = np.random.default_rng(0).normal(size=(9, 3))
    assert metrics.scale(-truth, truth) == pytest.approx(-1)
    np.testing.assert_array_equal(metrics.aligned(-truth, truth, "scale"), -truth)


def resized(poses: RigidTransform, size: float) -> RigidTransform:
    return RigidTransform.from_components(size * poses.translation, poses.rotation)


def figures(found: Comparison) -> np.ndarray:
    lengths = [list(vars(part).values()) for part in (found.metric, found.scaled)]
    turns = [found.rotation_mean, found.rotation_final, found.rotation_rpe]
    return np.array([*lengths[0], *lengths[1], *turns])


@few
@given(seeds, st.floats(0.05, 20))
def test_scaled_errors_do_not_depend_on_the_scale(seed, size):
    rng = np.random.default_rng(seed)
    truth = path(rng)
    found = near(rng, truth)
    one, two = compare(found, truth), compare(resized(found, size), truth)
    assert vars(two.scaled) == pytest.approx(vars(one.scaled), abs=1e-10)
    assert two.scale == pytest.approx(one.scale / size)
    assert two.rotation_mean == pytest.approx(one.rotation_mean)
    exact = compare(resized(truth, size), truth)
    assert max(vars(exact.scaled).values()) < 1e-9
    assert exact.metric.ade == pytest.approx(
        abs(size - 1) * np.linalg.norm(truth.translation, axis=1).mean()
    )


@few
@given(seeds)
def test_comparisons_do_not_depend_on_the_axes_of_the_first_camera(seed):
    rng = np.random.default_rng(seed)
    truth = path(rng)
    found = near(rng, truth)
    turn = RigidTransform.from_rotation(Rotation.random(rng=rng))
    np.testing.assert_allclose(
        figures(compare(turn * found, turn * truth, step=2)),
        figures(compare(found, truth, step=2)),
        atol=1e-9,
    )


@few
@given(seeds)
def test_comparisons_can_leave_the_object_s_own_frame_open(seed):
    rng = np.random.default_rng(seed)
    truth, own = path(rng), motion(rng)
    found = near(rng, truth)
    again = compare(found, truth * own, reframe=True)
    np.testing.assert_allclose(
        figures(again), figures(compare(found, truth, reframe=True)), atol=1e-9
    )
    exact = compare(truth * own, truth, reframe=True)
    assert figures(exact).max() < 1e-7
    there = reframed(truth, found)
    np.testing.assert_allclose(there[0].as_matrix(), found[0].as_matrix(), atol=1e-12)
    moved = there * there[0].inv()
    should = truth * truth[0].inv()
    np.testing.assert_allclose(moved.as_matrix(), should.as_matrix(), atol=1e-9)


@few
@given(seeds)
def test_comparisons_are_the_metrics_one_by_one(seed):
    rng = np.random.default_rng(seed)
    truth = path(rng)
    found = resized(near(rng, truth), 1.2)
    both = compare(found, truth)
    gap = np.linalg.norm(found.translation - truth.translation, axis=1)
    assert (both.metric.ade, both.metric.fde) == pytest.approx((gap.mean(), gap[-1]))
    assert both.metric.rmse == pytest.approx(
        metrics.absolute_error(found.translation, truth.translation, "none")
    )
    assert both.scaled.rmse == pytest.approx(
        metrics.absolute_error(found.translation, truth.translation, "scale")
    )
    assert both.metric.ate <= both.metric.rmse + 1e-12
    assert both.scaled.ate <= min(both.scaled.rmse, both.metric.ate) + 1e-12
    assert both.scaled.rmse <= both.metric.rmse + 1e-12
    metres, radians = metrics.relative_error(found, truth)
    assert both.metric.rpe == pytest.approx(np.sqrt((metres**2).mean()))
    assert both.rotation_rpe == pytest.approx(np.sqrt((radians**2).mean()))


def test_known_errors_of_a_shifted_and_turned_path():
    truth = path(np.random.default_rng(0), 6)
    off = RigidTransform.from_translation([0.0, 0.03, 0.0])
    spin = RigidTransform.from_rotation(Rotation.from_rotvec([0, 0, 0.2]))
    found = compare(off * truth * spin, truth)
    assert (found.metric.ade, found.metric.fde) == pytest.approx((0.03, 0.03))
    assert found.metric.ate < 1e-9
    assert (found.rotation_mean, found.rotation_final) == pytest.approx((0.2, 0.2))


@few
@given(seeds)
def test_without_registration_a_still_thing_seems_to_move_as_the_head_does(seed):
    rng = np.random.default_rng(seed)
    camera, place = path(rng), motion(rng)
    still = RigidTransform.concatenate([place] * len(camera))
    seen = metrics.no_registration(still, camera)
    np.testing.assert_allclose((camera * seen).as_matrix(), still.as_matrix(), atol=1e-9)
    turned = seen.rotation * seen.rotation[0].inv()
    head = camera.rotation.inv() * camera.rotation[0]
    np.testing.assert_allclose(turned.magnitude(), head.magnitude(), atol=1e-7)
    unmoved = RigidTransform.concatenate([RigidTransform.identity()] * len(camera))
    same = metrics.no_registration(camera, unmoved)
    np.testing.assert_allclose(same.as_matrix(), camera.as_matrix(), atol=1e-12)


def test_lengths_must_match_and_numbers_be_finite():
    with pytest.raises(ValueError, match=r"\(3, 3\) and \(4, 3\)"):
        metrics.displacement(np.zeros((3, 3)), np.zeros((4, 3)))
    truth = path(np.random.default_rng(0), 5)
    for pair in ((truth, truth[:4]), (truth[:4], truth)):
        for measure in (compare, metrics.relative_error, reframed, metrics.no_registration):
            with pytest.raises(ValueError, match="poses do not match"):
                measure(*pair)
    place = truth.translation.copy()
    place[2, 1] = np.nan
    odd = RigidTransform.from_translation(place)
    for pair in ((odd, truth), (truth, odd)):
        with pytest.raises(ValueError, match=r"pose 2 of the .* 5 is not finite"):
            compare(*pair)
    with pytest.raises(ValueError, match=r"not finite at \[2, 1\] of shape \(5, 3\)"):
        metrics.scale(place, truth.translation)
    with pytest.raises(ValueError, match="norm 0"):
        metrics.geodesic(np.zeros((1, 4)), [[0, 0, 0, 1.0]])
    with pytest.raises(ValueError, match="no motions over 1"):
        compare(truth[:1], truth[:1])


@pytest.mark.parametrize("times", [[0.0, 1.0], [0.0, 1.0, 1.0], [0.0, np.nan, 2.0]])
def test_a_straight_line_wants_rising_times(times):
    with pytest.raises(ValueError, match="rise once for each of 3 poses"):
        metrics.straight_line(path(np.random.default_rng(0), 3), times)
