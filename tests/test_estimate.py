"""The joint estimate against analytic truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import Rejection
from ego_ops.geometry.estimate import estimate
from ego_ops.geometry.observed import Estimate, TrackedPoints
from tests.tracked_scenes import Truth, box_clouds, tracked_scene


def errors(truth: Truth, found: Estimate) -> tuple[float, float]:
    """RMS position in metres after the best scale, mean rotation in degrees."""
    since = found.object * found.object[0].inv()
    seen = np.isfinite(found.points[:, 0])
    where = truth.motion.apply(truth.points[seen].mean(0))
    got = since.apply(found.object[0].apply(found.points[seen].mean(0)))
    scale = (got * where).sum() / (got * got).sum()
    off = np.linalg.norm(scale * got - where, axis=1)
    turn = (since.rotation * truth.motion.rotation.inv()).magnitude()
    return float(np.sqrt((off**2).mean())), float(np.degrees(turn.mean()))


@pytest.mark.parametrize("seed", range(3))
def test_a_carried_thing_is_followed(seed):
    truth = tracked_scene(seed, flicker=0.02, scale=1.12)
    found = estimate(truth.observed)
    position, rotation = errors(truth, found)
    assert position < 0.003
    assert rotation < 0.6
    assert found.observed.all()
    assert found.trusted
    camera = (found.camera.rotation * truth.camera.rotation.inv()).magnitude()
    assert np.degrees(camera.max()) < 0.3


def test_recorded_poses_give_the_metric_scale():
    truth = tracked_scene(4, scale=1.2, pixel=0.3)
    guessed = estimate(truth.observed)
    found = estimate(replace(truth.observed, path=truth.camera))
    assert found.scale == pytest.approx(1.2, rel=0.02)
    assert guessed.scale == pytest.approx(1.0, rel=0.02)
    where = truth.motion.apply(truth.points.mean(0))
    got = np.stack([pose.apply(np.nanmean(found.points, 0)) for pose in found.object])
    assert np.linalg.norm(got - where, axis=1).max() < 0.01


def test_frames_without_tracks_are_bridged_with_a_larger_deviation():
    truth = tracked_scene(2, flicker=0.02)
    thing = truth.observed.object
    hidden = np.zeros(50, bool)
    hidden[20:32] = True
    visible = thing.visible & ~hidden[:, None]
    found = estimate(replace(truth.observed, object=replace(thing, visible=visible)))
    assert not found.observed[hidden].any()
    assert found.position_sd[25] > 3 * np.median(found.position_sd[~hidden])
    assert found.confidence[25] < 0.7 * np.median(found.confidence[~hidden])
    position, rotation = errors(truth, found)
    assert position < 0.01
    assert rotation < 3.0


@pytest.mark.parametrize(
    ("hidden", "position", "rotation"), [(slice(14, 40), 0.003, 1.0), (slice(25, 50), 0.01, 6.0)]
)
def test_clouds_hold_the_pose_where_there_are_no_tracks(hidden, position, rotation):
    truth = tracked_scene(3, shape="box", count=120)
    thing = truth.observed.object
    visible = thing.visible.copy()
    visible[hidden] = False
    blind = replace(truth.observed, object=replace(thing, visible=visible))
    without = estimate(blind)
    found = estimate(replace(blind, clouds=box_clouds(truth)))
    assert found.observed[hidden].mean() > 0.8
    assert not without.observed[hidden].any()
    off = errors(truth, found)
    assert off[0] < min(position, 0.3 * errors(truth, without)[0])
    assert off[1] < rotation
    assert found.position_sd[hidden].mean() < 0.3 * without.position_sd[hidden].mean()


def test_deviations_are_of_the_size_of_the_errors():
    """Over many clips the rotation's errors are between a third and three times what is said."""
    ratios = []
    for seed in range(8):
        truth = tracked_scene(seed, flicker=0.02, pixel=0.7, count=60, still=80)
        found = estimate(truth.observed)
        since = (found.object * found.object[0].inv()).rotation
        turn = (since * truth.motion.rotation.inv()).magnitude()
        ratios.append(np.sqrt(np.mean((turn[1:] / found.rotation_sd[1:]) ** 2)))
    assert 0.1 < np.sqrt(np.mean(np.square(ratios))) < 1.5  # tracks here are independent


def test_other_moving_things_do_not_bend_the_camera_path():
    truth = tracked_scene(1)
    back, thing = truth.observed.background, truth.observed.object
    mixed = TrackedPoints(*(
        np.concatenate((getattr(back, name), getattr(thing, name)[:, :40]), 1)
        for name in ("xy", "visible", "depth")
    ))  # fmt: skip
    found = estimate(replace(truth.observed, background=mixed))
    turn = (found.camera.rotation * truth.camera.rotation.inv()).magnitude()
    assert np.degrees(turn.max()) < 0.4
    assert errors(truth, found)[1] < 0.6


@settings(max_examples=3, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 5))
def test_the_order_of_tracks_does_not_matter(random, seed):
    truth = tracked_scene(seed, count=50, still=60)
    order = list(range(50))
    random.shuffle(order)
    one = estimate(truth.observed)
    other = estimate(replace(truth.observed, object=truth.observed.object.select(np.array(order))))
    turn = (one.object.rotation * other.object.rotation.inv()).magnitude()
    assert np.degrees(turn.max()) < 0.1
    assert np.abs(one.object.translation - other.object.translation).max() < 1e-3


@settings(max_examples=3, deadline=None)
@given(st.floats(0.3, 3.0), st.integers(0, 5))
def test_depth_in_another_unit_changes_nothing_but_the_scale(factor, seed):
    """The priors on how hands move are metric, so that equality holds to their small share."""
    truth = tracked_scene(seed, count=50, still=60)

    def scaled(tracks):
        return replace(tracks, depth=tracks.depth * factor)

    observed = truth.observed
    one = estimate(observed)
    other = estimate(
        replace(observed, object=scaled(observed.object), background=scaled(observed.background))
    )
    turn = (one.object.rotation * other.object.rotation.inv()).magnitude()
    assert np.degrees(turn.max()) < 0.5
    gap = np.abs(other.object.translation - factor * one.object.translation).max()
    assert gap < 0.01 * factor


@settings(max_examples=3, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-10, 10)] * 3), st.integers(0, 5))
def test_another_world_frame_changes_nothing(turn, shift, seed):
    truth = tracked_scene(seed, count=50, still=60)
    world = RigidTransform.from_components(shift, Rotation.from_rotvec(turn))
    one = estimate(replace(truth.observed, path=truth.camera))
    other = estimate(replace(truth.observed, path=world * truth.camera))
    gap = (one.object.inv() * other.object).as_exp_coords()
    assert np.abs(gap).max() < 1e-4


def test_points_in_a_line_are_refused():
    with pytest.raises(Rejection, match="line") as caught:
        estimate(tracked_scene(0, shape="line", count=40).observed)
    assert caught.value.reason == "collinear_points"


def test_a_plane_is_said_to_be_one():
    truth = tracked_scene(0, shape="plane", count=60, pixel=0.3)
    found = estimate(truth.observed)
    assert "planar" in found.flags
    assert errors(truth, found)[1] < 2.0 or not found.trusted


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_tracks_are_refused(count):
    truth = tracked_scene(0)
    few = truth.observed.object.select(np.arange(count))
    with pytest.raises(Rejection) as caught:
        estimate(replace(truth.observed, object=few))
    assert caught.value.reason == "too_few_tracks"


def test_without_depth_nothing_is_claimed():
    truth = tracked_scene(0)
    thing = truth.observed.object
    blind = replace(thing, depth=np.full_like(thing.depth, np.nan))
    with pytest.raises(Rejection) as caught:
        estimate(replace(truth.observed, object=blind))
    assert caught.value.reason == "too_few_tracks"


def test_points_behind_the_camera_are_refused():
    truth = tracked_scene(0)
    thing = truth.observed.object
    with pytest.raises(Rejection):
        estimate(replace(truth.observed, object=replace(thing, depth=-thing.depth)))


def test_tracks_that_share_no_motion_are_never_trusted():
    truth = tracked_scene(0)
    rng = np.random.default_rng(0)
    thing = truth.observed.object
    wild = replace(thing, xy=rng.uniform(0, 480, thing.xy.shape))
    try:
        found = estimate(replace(truth.observed, object=wild))
    except Rejection:
        return
    assert not found.trusted
    assert np.median(found.confidence) < 0.3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda o: replace(o, times=o.times[::-1]), "times"),
        (lambda o: replace(o, times=o.times[:-1]), "visible"),
        (lambda o: replace(o, path=o_path(o)[:-1]), "path"),
        (lambda o: replace(o, object=spoilt(o.object)), "track 3 is visible in frame 7"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        estimate(change(tracked_scene(0).observed))


def o_path(observed) -> RigidTransform:
    return RigidTransform.identity(len(observed.times))


def spoilt(tracks: TrackedPoints) -> TrackedPoints:
    xy = tracks.xy.copy()
    xy[7, 3] = np.nan
    visible = tracks.visible.copy()
    visible[7, 3] = True
    return replace(tracks, xy=xy, visible=visible)


def test_time_grows_linearly():
    import time

    def seconds(steps: int) -> float:
        observed = tracked_scene(0, steps=steps, count=250, still=250, moving_from=20).observed
        begun = time.process_time()
        estimate(observed)
        return time.process_time() - begun

    seconds(50)
    assert seconds(600) < 2.6 * seconds(300)
