"""Scores against what geometry says they must be, and the limits that are set on them."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops import quality, quality_motion
from ego_ops.camera import Camera
from ego_ops.curation import clamped, smoothed
from ego_ops.errors import Rejection, UserError
from ego_ops.geometry.confidence import FLAGS
from ego_ops.geometry.object_motion import ObjectMotion
from ego_ops.geometry.observed import Estimate, Observed, TrackedPoints
from ego_ops.geometry.trajectory import trajectory
from ego_ops.geometry.view import View
from ego_ops.quality_policy import PRESETS, Bound, Policy, bounds, first, tried

STEPS, RATE = 40, 20.0
TIMES = np.arange(STEPS) / RATE
CAMERA = Camera(300.0, 300.0, 159.5, 119.5, 320, 240)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=40, deadline=None)


def poses(place: np.ndarray, turn: np.ndarray | None = None) -> RigidTransform:
    """T poses with rotation vectors `turn` (T, 3)."""
    vectors = np.zeros_like(place) if turn is None else turn
    return RigidTransform.from_components(place, Rotation.from_rotvec(vectors))


def still(steps: int = STEPS, place: tuple[float, ...] = (0.0, 0.0, 0.5)) -> RigidTransform:
    return poses(np.tile(place, (steps, 1)))


def along(x: np.ndarray, z: float = 0.5) -> RigidTransform:
    """Poses that move along x, (T,) metres, at depth z."""
    return poses(np.stack([x, np.zeros_like(x), np.full_like(x, z)], 1))


def wander(rng: np.random.Generator, size: float, start: tuple[float, ...]) -> RigidTransform:
    place = np.cumsum(rng.normal(0, size / 10, (STEPS, 3)), axis=0)
    turn = np.cumsum(rng.normal(0, size / 5, (STEPS, 3)), axis=0)
    return poses(place - place[0] + start, turn - turn[0])


# What follows from the poses


def test_scores_of_an_even_motion():
    turn = np.stack([0 * TIMES, 0 * TIMES, 0.5 * TIMES], 1)
    thing = poses(np.stack([0.2 * TIMES, 0 * TIMES, 0.5 + 0 * TIMES], 1), turn)
    found = quality_motion.motion_scores(thing, still(place=(0, 0, 0)), TIMES)
    last = TIMES[-1]
    expected = {
        "travel_m": 0.2 * last, "displacement_m": 0.2 * last, "turn_rad": 0.5 * last,
        "top_speed_m_s": 0.2, "top_turn_rad_s": 0.5, "jerk_rms_m_s3": 0, "head_travel_m": 0,
        "head_top_speed_m_s": 0, "head_top_turn_rad_s": 0, "background_similarity": 0,
        "depth_m": 0.5, "side_m": 0.2 * last, "near_m": 0.5, "far_m": 0.5,
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-9)


def test_scores_of_the_head_are_the_head_s():
    head = poses(
        np.stack([0 * TIMES, 0.3 * TIMES, 0 * TIMES], 1),
        np.stack([0.7 * TIMES, 0 * TIMES, 0 * TIMES], 1),
    )
    found = quality_motion.motion_scores(still(), head, TIMES)
    assert found["head_travel_m"] == pytest.approx(0.3 * TIMES[-1])
    assert found["head_top_speed_m_s"] == pytest.approx(0.3)
    assert found["head_top_turn_rad_s"] == pytest.approx(0.7)
    assert found["travel_m"] == found["top_speed_m_s"] == found["turn_rad"] == 0


def test_there_and_back_is_a_way_but_no_displacement():
    x = 0.1 * np.sin(np.linspace(0, 2 * np.pi, STEPS))
    found = quality_motion.motion_scores(along(x), still(), TIMES)
    assert found["travel_m"] == pytest.approx(0.4, rel=0.02)
    assert found["displacement_m"] == pytest.approx(0.1, rel=0.01)


def test_jerk_of_a_cubic_is_its_third_derivative():
    path = np.stack([2 * TIMES**3, -(TIMES**3), 0 * TIMES], 1)
    assert quality_motion.jerk(path, TIMES) == pytest.approx(math.hypot(12, 6))
    assert quality_motion.jerk(path[:4], TIMES[:4]) == 0.0


@few
@given(seeds)
def test_scores_of_motion_do_not_depend_on_where_the_world_is(seed):
    rng = np.random.default_rng(seed)
    thing, head = wander(rng, 0.5, (0.1, 0, 0.6)), wander(rng, 0.4, (0, 0, 0))
    # Both seen from another frame than the first camera's: places differ, motions do not.
    world = RigidTransform.from_components(rng.normal(size=3), Rotation.random(rng=rng))
    one = quality_motion.motion_scores(thing, head, TIMES)
    two = quality_motion.motion_scores(world * thing, world * head, TIMES)
    same = set(one) - {"side_m", "near_m", "far_m"}
    assert {n: two[n] for n in same} == pytest.approx({n: one[n] for n in same}, abs=1e-6)


# Similarity to the background


def test_a_still_thing_moves_as_the_background_does():
    head = wander(np.random.default_rng(0), 1.0, (0, 0, 0))
    assert quality_motion.background_similarity(still(), head) == pytest.approx(1)
    assert quality_motion.background_similarity(still(), still(place=(0, 0, 0))) == 1.0


def test_a_thing_that_moves_before_a_still_head_is_unlike_the_background():
    thing = along(np.linspace(0, 0.2, STEPS))
    assert quality_motion.background_similarity(thing, still(place=(0, 0, 0))) == 0


@few
@given(seeds)
def test_a_thing_that_stays_in_the_same_place_of_the_view_is_unlike_the_background(seed):
    head = wander(np.random.default_rng(seed), 0.5, (0, 0, 0))
    carried = head * RigidTransform.from_translation([0.1, 0, 0.5])
    assert quality_motion.background_similarity(carried, head) == pytest.approx(0, abs=1e-9)


def test_a_thing_that_moves_against_the_background_is_its_opposite():
    x = np.linspace(0, 0.2, STEPS)
    head = poses(np.stack([x, 0 * x, 0 * x], 1))
    assert quality_motion.background_similarity(along(2 * x), head) == pytest.approx(-1)


@few
@given(seeds, st.floats(0.01, 1.0))
def test_similarity_is_one_less_the_share_that_is_the_thing_s_own_motion(seed, size):
    rng = np.random.default_rng(seed)
    thing, head = wander(rng, size, (0, 0.1, 0.6)), wander(rng, 0.5, (0, 0, 0))
    found = quality_motion.background_similarity(thing, head)
    place = thing.translation
    own = ((place - place[0]) ** 2).sum()
    seen = np.stack([pose.inv().apply(p) for pose, p in zip(head, place, strict=True)])
    rest = np.stack([pose.inv().apply(place[0]) for pose in head])
    size = ((seen - seen[0]) ** 2).sum() + ((rest - rest[0]) ** 2).sum()
    assert found == pytest.approx(1 - own / size)
    assert -1 - 1e-9 <= found <= 1
    # The scale of the reconstruction is no part of it.
    bigger = [
        RigidTransform.from_components(3 * one.translation, one.rotation) for one in (thing, head)
    ]
    assert quality_motion.background_similarity(*bigger) == pytest.approx(found)


# Others


@pytest.mark.parametrize(
    ("covered", "gap"),
    [("1111", 0.0), ("1011", 2.0), ("1001", 3.0), ("0111", 1.0), ("1110", 1.0), ("10110001", 4.0)],
)
def test_longest_gap_reaches_from_the_last_frame_seen_to_the_next(covered, gap):
    mask = np.array([c == "1" for c in covered])
    assert quality_motion.longest_gap(mask, np.arange(len(mask), dtype=float)) == gap


def test_motion_begins_where_it_is_beyond_doubt():
    x = np.concatenate([np.zeros(10), np.linspace(0.004, 0.12, 30)])
    sure, unsure = np.full(STEPS, 0.001), np.full(STEPS, 0.02)
    shift = along(x)
    begun = quality_motion.onset(shift, sure, sure)
    assert x[begun - 1] <= 0.01 < x[begun]
    later = quality_motion.onset(shift, unsure, unsure)
    assert x[later - 1] <= 0.06 < x[later]
    lost = np.full(STEPS, 0.05)
    assert quality_motion.onset(shift, lost, lost) == 0
    assert [quality_motion.is_static(shift, sd, sd) for sd in (sure, unsure, lost)] == [0, 0, 1]
    spun = poses(np.tile([0, 0, 0.5], (STEPS, 1)), np.stack([0 * x, 0 * x, 10 * x], 1))
    assert quality_motion.is_static(spun, sure, sure) == 0
    assert quality_motion.is_static(still(), sure, sure) == 1


def test_spread_is_the_relative_deviation_whatever_the_scale():
    rng = np.random.default_rng(0)
    factors = np.exp(rng.normal(0, 0.05, 4000))
    assert quality_motion.spread(factors) == pytest.approx(0.05, rel=0.05)
    wild = factors.copy()
    wild[:40] = 100.0
    assert quality_motion.spread(7 * wild) == pytest.approx(0.05, rel=0.05)
    assert quality_motion.spread(np.ones(9)) == 0
    assert math.isnan(quality_motion.spread(np.array([np.nan, 1.0, 0.0])))


# Of a whole clip


def clip(rng: np.random.Generator, noise: float = 0.5) -> tuple[Observed, Estimate, RigidTransform]:
    """A thing that is lifted before a moving head, seen exactly but for `noise` pixels."""
    x = np.concatenate([np.zeros(10), 0.15 * np.sin(np.linspace(0, np.pi / 2, 30))])
    thing = RigidTransform.from_components(
        np.stack([x - 0.05, -x / 2, 0.6 - x / 3], 1),
        Rotation.from_rotvec(np.stack([0 * x, 3 * x, x], 1)),
    )
    sway = np.sin(TIMES)
    head = poses(
        0.03 * np.stack([sway, 0 * sway, sway], 1), 0.05 * np.stack([0 * sway, sway, 0 * sway], 1)
    )
    points = rng.uniform(-0.03, 0.03, (25, 3))
    ground = rng.uniform((-0.3, -0.2, 0.7), (0.3, 0.2, 1.2), (60, 3))
    at_object = np.stack([pose.apply(points) for pose in head.inv() * thing])
    at_ground = np.stack([pose.apply(ground) for pose in head.inv()])
    object_xy = CAMERA.project(at_object) + rng.normal(0, noise, at_object.shape)[..., :2]
    ground_xy = CAMERA.project(at_ground) + rng.normal(0, noise, at_ground.shape)[..., :2]
    seen, seen_ground = rng.random((STEPS, 25)) < 0.8, rng.random((STEPS, 60)) < 0.9
    error = np.linalg.norm(object_xy - CAMERA.project(at_object), axis=-1)
    missed = np.linalg.norm(ground_xy - CAMERA.project(at_ground), axis=-1)
    observed = Observed(
        CAMERA, TIMES,
        TrackedPoints(object_xy, seen, at_object[..., 2]),
        TrackedPoints(ground_xy, seen_ground, at_ground[..., 2]),
    )  # fmt: skip
    estimate = Estimate(
        object=thing, camera=head, points=points, background=ground,
        depth_scale=np.full(STEPS, 0.9),
        inliers=seen & (error < 3), background_inliers=seen_ground & (missed < 3),
        reprojection=np.where(seen, error, np.nan),
        position_sd=np.full(STEPS, 0.002), rotation_sd=np.full(STEPS, 0.03),
        confidence=np.linspace(0.5, 1, STEPS), observed=np.ones(STEPS, bool),
        flags=frozenset(),
    )  # fmt: skip
    return observed, estimate, head


def test_scores_of_an_estimate_are_what_was_made():
    rng = np.random.default_rng(0)
    observed, estimate, _ = clip(rng)
    found = quality.score_estimate(observed, estimate)
    assert set(found) <= set(quality.SCORES)
    assert set(quality.SCORES) - set(found) == {"forward_backward_px", "clock_offset_s"}
    # Noise of 0.5 px in x and in y, of which what misses by 3 px is next to nothing.
    assert found["reprojection_rmse_px"] == pytest.approx(0.5 * math.sqrt(2), rel=0.1)
    assert found["background_rmse_px"] == pytest.approx(0.5 * math.sqrt(2), rel=0.1)
    assert found["inlier_share"] > 0.99
    assert found["background_inlier_share"] > 0.99
    assert found["visible_share"] == pytest.approx(0.8, abs=0.03)
    assert found["object_points"] == 25
    assert found["in_frame_share"] == 1
    assert found["confidence"] == pytest.approx(0.75)
    assert found["depth_scale"] == pytest.approx(0.9)
    assert found["depth_scale_spread"] == 0
    assert (found["is_static"], found["is_symmetric"], found["is_ambiguous"]) == (0, 0, 0)
    assert TIMES[10] < found["motion_start_s"] <= TIMES[14]
    assert found["observed_share"] == 1
    assert found["longest_gap_s"] == 0
    assert found["displacement_m"] == pytest.approx(0.175, rel=0.01)
    quality.judge(found)


def test_scores_of_an_estimate_say_what_is_wrong_with_it():
    rng = np.random.default_rng(1)
    observed, estimate, _ = clip(rng)
    gap = estimate.observed.copy()
    gap[20:30] = False
    outliers = estimate.inliers & (np.arange(25) < 10)
    worse = replace(
        estimate,
        observed=gap,
        inliers=outliers,
        points=np.where(np.arange(25)[:, None] < 20, estimate.points, np.nan),
        depth_scale=np.exp(0.2 * (-1.0) ** np.arange(STEPS)),
        flags=frozenset({"symmetric", "ambiguous"}),
    )
    found = quality.score_estimate(observed, worse)
    assert found["longest_gap_s"] == pytest.approx(11 / RATE)
    assert 0.5 < found["observed_share"] < 0.75
    assert found["inlier_share"] == pytest.approx(0.4, abs=0.05)
    assert found["object_points"] == 20
    assert found["depth_scale_spread"] == pytest.approx(0.2)
    assert [found[f"is_{flag}"] for flag in ("symmetric", "ambiguous", "uncertain")] == [1, 1, 0]
    assert set(quality.FLAGGED) <= set(FLAGS)


def test_points_that_leave_the_picture_are_counted_in_the_worst_frame():
    observed, estimate, _ = clip(np.random.default_rng(2))
    side = estimate.object.translation.copy()
    # Its middle lies on the picture's right border at the last step: half of it is outside.
    last = estimate.camera[-1].apply(CAMERA.rays(np.array([319.0, 119.5])) * 0.6)
    side[-1] = last
    moved = RigidTransform.from_components(side, estimate.object.rotation)
    points = np.random.default_rng(3).normal(0, 0.002, (200, 3))
    found = quality.score_estimate(observed, replace(estimate, object=moved, points=points))
    assert found["in_frame_share"] == pytest.approx(0.5, abs=0.12)
    side[-1, 2] = -0.5
    behind = RigidTransform.from_components(side, estimate.object.rotation)
    found = quality.score_estimate(observed, replace(estimate, object=behind))
    assert found["in_frame_share"] == 0


def test_both_methods_are_scored_alike():
    observed, estimate, head = clip(np.random.default_rng(4))
    thing, tracks = estimate.object, observed.object
    motion = thing * thing[0].inv()
    rest = thing[0].apply(estimate.points)
    found = ObjectMotion(
        motion, rest, estimate.inliers, 10, estimate.position_sd, estimate.rotation_sd
    )
    view = View(CAMERA, head, TIMES, tracks.xy, tracks.visible)
    error = view.from_object(motion).error(rest)
    old = quality.score(found, trajectory(found, head), TIMES, tracks.visible, error)
    new = quality.score_estimate(observed, estimate)
    # One takes the median of the points for the object's origin, the other what it was given.
    about = {"travel_m", "displacement_m", "depth_m", "side_m", "near_m", "far_m",
             "top_speed_m_s", "background_similarity", "jerk_rms_m_s3"}  # fmt: skip
    exact = set(old) - about - {"motion_start_s"}
    assert {n: old[n] for n in exact} == pytest.approx({n: new[n] for n in exact}, abs=1e-6)
    for name in about:
        assert old[name] == pytest.approx(new[name], rel=0.2, abs=0.03), name
    quality.judge(old)


# Limits


GOOD = {
    "displacement_m": 0.2, "observed_share": 0.9, "longest_gap_s": 0.1, "position_sd_m": 0.002,
    "rotation_sd_rad": 0.05, "inlier_share": 0.9, "top_speed_m_s": 1.0, "depth_m": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("limit", quality.LIMITS, ids=lambda limit: limit.score)
def test_each_limit_rejects_what_is_beyond_it(limit):
    quality.judge(GOOD)
    quality.judge(GOOD | {limit.score: limit.bound})
    off = 1e-6 if limit.relation == ">" else -1e-6
    for value in (limit.bound + off, math.nan, math.inf if off > 0 else -math.inf):
        with pytest.raises(Rejection) as caught:
            quality.judge(GOOD | {limit.score: value})
        assert caught.value.reason == limit.reason
        assert limit.score in caught.value.detail


def test_limits_are_set_on_scores_that_both_methods_have():
    observed, estimate, _ = clip(np.random.default_rng(5))
    known = quality.score_estimate(observed, estimate)
    assert {limit.score for limit in quality.LIMITS} <= set(known) <= set(quality.SCORES)


def test_every_field_of_a_policy_is_a_limit_on_a_score():
    everything = Policy(**{f.name: 0.5 for f in fields(Policy) if f.name != "fence"})
    found = bounds(everything)
    assert [one.reason for one in found] == [f.name for f in fields(Policy) if f.name != "fence"]
    for one in found:
        low = one.reason.startswith("min_")
        assert (one.low, one.high) == ((0.5, math.inf) if low else (-math.inf, 0.5))


def test_presets_grow_stricter():
    default, strict = ({b.reason: b for b in bounds(PRESETS[n])} for n in ("default", "strict"))
    assert default.keys() <= strict.keys()
    for name, bound in default.items():
        assert strict[name].low >= bound.low
        assert strict[name].high <= bound.high
    paper = {b.reason: b for b in bounds(PRESETS["paper"])}
    assert paper["max_background_similarity"].high == 0.7
    assert "min_travel_m" in paper


def test_changes_to_a_policy_replace_and_lift_its_limits():
    changed = PRESETS["paper"].with_changes(Policy(min_travel_m=-math.inf, min_confidence=0.5))
    found = {bound.reason for bound in bounds(changed)}
    before = {bound.reason for bound in bounds(PRESETS["paper"])}
    assert found == before - {"min_travel_m"} | {"min_confidence"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_far_m": math.nan}, "--max-far-m nan: must be a number"),
        ({"fence": 0.0}, "--fence 0: must be above 0"),
        ({"fence": -1.0}, "--fence -1: must be above 0"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        Policy(**change)


def test_the_first_limit_failed_is_the_reason_and_a_missing_score_passes():
    limits = [Bound("a", "travel_m", 0.7, math.inf), Bound("b", "depth_m", -math.inf, 2.0)]
    scores = {
        "travel_m": np.array([0.7, 0.69, 1.0, np.nan, 0.1, np.nan], np.float32),
        "depth_m": np.array([2.0, 3.0, 2.01, np.nan, 1.0, 9.0], np.float32),
    }
    failed = tried(limits, scores, 6)
    assert first(failed).tolist() == [-1, 0, 1, -1, 0, 1]
    assert failed.sum(1).tolist() == [2, 3]
    assert first(tried([], scores, 6)).tolist() == [-1] * 6


def test_a_fence_keeps_the_crowd_and_drops_the_outlier():
    rng = np.random.default_rng(0)
    crowd = rng.normal(1.0, 0.1, 999).astype(np.float32)
    values = np.append(crowd, np.float32(4.0))
    (fence,) = bounds(Policy(fence=2.5), {"depth_m": values})
    assert fence.reason == "fence_depth_m"
    assert np.flatnonzero(fence.fails(values)).tolist() == [999]
    quarter = np.percentile(crowd, 75) - np.percentile(crowd, 25)
    assert fence.high == pytest.approx(np.percentile(crowd, 75) + 2.5 * quarter, rel=0.01)
    few_values = {"depth_m": values[-5:]}
    assert bounds(Policy(fence=2.5), few_values) == []
    assert bounds(Policy(fence=math.inf), {"depth_m": values}) == []


# What readers do with a path


@few
@given(seeds, st.sampled_from([1, 3, 5, 9]))
def test_smoothing_is_the_mean_of_each_window(seed, window):
    rng = np.random.default_rng(seed)
    noisy = wander(rng, 1.0, (0, 0, 0.5))
    place, turn = noisy.translation, noisy.rotation.as_quat()
    turn *= rng.choice([-1, 1], (STEPS, 1))  # the same rotations
    found, spun = smoothed(place, turn, window)
    for t in range(STEPS):
        half = min(t, STEPS - 1 - t, window // 2)
        inside = slice(t - half, t + half + 1)
        np.testing.assert_allclose(found[t], place[inside].mean(0), atol=1e-12)
        mean = Rotation.from_quat(turn[inside]).mean()
        assert (Rotation.from_quat(spun[t]) * mean.inv()).magnitude() < 1e-6
    assert ((spun[1:] * spun[:-1]).sum(1) > 0).all()
    assert (spun[0] @ turn[0]) > 0


@few
@given(seeds)
def test_smoothing_does_not_depend_on_the_world(seed):
    rng = np.random.default_rng(seed)
    noisy = wander(rng, 1.0, (0, 0, 0.5))
    world = RigidTransform.from_components(rng.normal(size=3), Rotation.random(rng=rng))
    place, turn = smoothed(noisy.translation, noisy.rotation.as_quat())
    after = world * noisy
    place2, turn2 = smoothed(after.translation, after.rotation.as_quat())
    np.testing.assert_allclose(place2, world.apply(place), atol=1e-9)
    gap = Rotation.from_quat(turn2).inv() * (world.rotation * Rotation.from_quat(turn))
    assert gap.magnitude().max() < 1e-6


def test_smoothing_keeps_even_motion_and_the_ends_and_quietens_noise():
    even = np.outer(TIMES, [0.3, 0.1, -0.2])
    spin = Rotation.from_rotvec(np.outer(TIMES, [0, 0.8, 0]))
    place, turn = smoothed(even, spin.as_quat())
    np.testing.assert_allclose(place, even, atol=1e-12)
    assert (Rotation.from_quat(turn) * spin.inv()).magnitude().max() < 1e-6
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, even.shape)
    shaken = spin * Rotation.from_rotvec(rng.normal(0, 0.05, even.shape))
    place, turn = smoothed(even + noise, shaken.as_quat())
    np.testing.assert_allclose(place[[0, -1]], (even + noise)[[0, -1]], atol=1e-12)
    inner = slice(2, -2)
    assert (place - even)[inner].std() < 0.6 * noise[inner].std()
    left = (Rotation.from_quat(turn) * spin.inv()).magnitude()[inner].mean()
    assert left < 0.6 * (shaken * spin.inv()).magnitude()[inner].mean()
    one, same = smoothed(even[:1], spin.as_quat()[:1])
    assert (one.shape, same.shape) == ((1, 3), (1, 4))


@pytest.mark.parametrize(
    ("place", "turn", "window", "message"),
    [
        (np.zeros((4, 3)), np.eye(4), 4, "no middle"),
        (np.zeros((4, 3)), np.eye(4), -1, "no middle"),
        (np.zeros((3, 3)), np.eye(4), 5, r"\(3, 3\) and \(4, 4\)"),
        (np.zeros((0, 3)), np.zeros((0, 4)), 5, r"\(0, 3\)"),
        (np.full((4, 3), np.nan), np.eye(4), 5, "not finite"),
    ],
)
def test_a_path_that_cannot_be_smoothed(place, turn, window, message):
    with pytest.raises(ValueError, match=message):
        smoothed(place, turn, window)


def test_clamping_moves_only_what_is_outside_of_the_workspace():
    place = np.array([[0.5, -0.5, 1.0], [3.0, 0.0, 1.0], [0.0, -9.0, -1.0], [0, 0, 7.0]])
    expected = [[0.5, -0.5, 1.0], [2.0, 0.0, 1.0], [0.0, -2.0, 0.0], [0, 0, 2.5]]
    np.testing.assert_array_equal(clamped(place), expected)
    np.testing.assert_array_equal(clamped(place, ((-1, -1, 0), (1, 1, 1)))[1], [1, 0, 1])
