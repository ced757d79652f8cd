"""Each step of perception against what is known of the scene."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import PosePath
from ego_ops.clip import Box, Clip
from ego_ops.errors import Rejection
from ego_ops.geometry.view import View
from ego_ops.perception.clock import estimate_offset
from ego_ops.perception.depth import RecordedDepth, TriangulatedDepth
from ego_ops.perception.localise import AnnotatedBoxes, NearHands
from ego_ops.perception.scene import BACKGROUND, OBJECT, Scene
from ego_ops.perception.segment import MovingGroup
from ego_ops.perception.track_lk import LucasKanade
from ego_ops.perception.tracks import Tracks
from ego_ops.recording import Hand, Recording
from tests.simulated import CAMERA, Simulated, simulate

CLIP = Clip("0" * 16, "x", "1", "v", "/", "v.mp4", "", 0.0, 3.0, "pick up the cup")


def scene_of(simulated: Simulated, **recorded: object) -> Scene:
    blank = np.zeros((len(simulated.times), 540, 960), np.uint8)
    recording = Recording(CAMERA, PosePath(simulated.times, simulated.path))
    return Scene(blank, simulated.times, CAMERA, replace(recording, **recorded))


def tracks_of(*views: View) -> Tracks:
    parts = [
        Tracks(view.xy, view.visible, np.where(view.visible.any(0), view.visible.argmax(0), 0))
        for view in views
    ]
    return Tracks.joined(parts)


def hand_on(simulated: Simulated, side: str = "right", offset: float = 0.0) -> Hand:
    """A hand of two joints that comes to the object and moves with it."""
    grip = simulated.points.mean(0) + [0.03, 0, 0]
    joints = np.stack([motion.apply(grip) for motion in simulated.motion])
    away = np.clip(1 - np.arange(len(joints)) / simulated.start, 0, 1)[:, None]
    joints = joints + away * [0.3, 0.3, 0] + [offset, 0, 0]
    return Hand(side, simulated.times, np.stack((joints, joints + [0.02, 0, 0]), 1), (0, 1))


# Tracker


def moving_texture(shift: tuple[float, float], steps: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (200, 260), np.uint8), (0, 0), 2.5)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for t in range(steps):
        move = np.array([[1, 0, shift[0] * t], [0, 1, shift[1] * t]], np.float32)
        frames.append(cv2.warpAffine(picture, move, (260, 200), flags=cv2.INTER_CUBIC))
    return np.stack(frames)


@settings(max_examples=10, deadline=None)
@given(st.floats(-4, 4), st.floats(-4, 4))
def test_corners_are_followed_to_a_tenth_of_a_pixel(dx: float, dy: float) -> None:
    tracks = LucasKanade(every=4).track(moving_texture((dx, dy)))
    steps = np.arange(8)[:, None, None]
    from_start = tracks.xy - tracks.xy[tracks.start, np.arange(tracks.count)]
    expected = (steps - tracks.start[:, None]) * np.array([dx, dy])
    error = np.linalg.norm(from_start - expected, axis=-1)[tracks.visible]
    assert tracks.count > 50
    assert np.median(error) < 0.1
    assert np.percentile(error, 95) < 0.4


def test_corners_are_followed_to_both_ends_of_the_clip() -> None:
    tracks = LucasKanade(every=7).track(moving_texture((1.5, 0.5)))
    later = tracks.start == 7
    assert later.any()
    assert tracks.visible[0, later].any()


def test_a_point_that_is_covered_is_lost_and_not_invented() -> None:
    frames = moving_texture((0.0, 0.0))
    frames[4:, 60:140, 80:180] = 128
    tracks = LucasKanade(every=20).track(frames)
    x, y = tracks.xy[0].T
    covered = (x > 90) & (x < 170) & (y > 70) & (y < 130)
    assert covered.sum() > 5
    assert not tracks.visible[5:, covered].any()


def test_corners_are_sought_only_where_asked_and_not_twice() -> None:
    where = np.zeros((8, 200, 260), bool)
    where[:, 50:150, 50:150] = True
    tracks = LucasKanade(every=1, spacing=9).track(moving_texture((0.0, 0.0)), where)
    assert ((tracks.xy[0] >= 49) & (tracks.xy[0] <= 151)).all()
    gaps = np.linalg.norm(tracks.xy[0][:, None] - tracks.xy[0][None], axis=-1)
    assert gaps[~np.eye(len(gaps), dtype=bool)].min() > 7.5


def test_a_picture_without_corners_has_no_tracks() -> None:
    tracks = LucasKanade().track(np.full((6, 100, 100), 90, np.uint8))
    assert tracks.count == 0


# Clock


@pytest.mark.parametrize("offset", [-0.02, 0.0, 0.01, 0.033])
def test_the_clock_offset_is_found(offset: float) -> None:
    simulated = simulate(1, noise=0.3)
    late = PosePath(simulated.times + offset, simulated.path)
    scene = scene_of(simulated, path=late)
    found = estimate_offset(scene, tracks_of(simulated.background_view, simulated.view))
    assert found == pytest.approx(offset, abs=0.003)


def test_a_camera_at_rest_says_nothing_of_the_clock() -> None:
    simulated = simulate(1, noise=0.3, sway=0.0)
    still = RigidTransform.identity(len(simulated.times))
    scene = scene_of(simulated, path=PosePath(simulated.times + 0.02, still))
    assert estimate_offset(scene, tracks_of(simulated.background_view)) == 0.0


# Depth


def test_what_rests_is_triangulated_until_it_moves() -> None:
    simulated = simulate(2, noise=0.4)
    tracks = tracks_of(simulated.view)
    depth = TriangulatedDepth().depth(scene_of(simulated), simulated.path, tracks)
    known = np.isfinite(depth)
    assert known[: simulated.start - 2].mean() > 0.5
    assert known[simulated.start + 8 :].mean() < 0.02
    error = np.abs(depth - simulated.depth)[: simulated.start]
    assert np.nanmedian(error) < 0.01


def test_without_parallax_no_depth_is_claimed() -> None:
    simulated = simulate(2, noise=0.4, sway=0.002)
    depth = TriangulatedDepth().depth(
        scene_of(simulated), simulated.path, tracks_of(simulated.background_view)
    )
    assert np.isfinite(depth).mean() < 0.05


class Maps:
    """Depth maps at half the tracking size: a plane that comes nearer."""

    def depth(self, t: float) -> np.ndarray:
        image = np.full((270, 480), 1.0 - 0.1 * t)
        image[:, :40] = 0.0  # the sensor's word for unknown
        return image


def test_recorded_depth_is_read_at_the_tracks() -> None:
    simulated = simulate(3)
    tracks = tracks_of(simulated.background_view)
    found = RecordedDepth().depth(scene_of(simulated, depth=Maps()), None, tracks)
    clear = tracks.visible & (tracks.xy[..., 0] > 82)
    expected = np.broadcast_to((1.0 - 0.1 * simulated.times)[:, None], found.shape)
    assert np.allclose(found[clear], expected[clear])
    assert np.isnan(found[tracks.visible & (tracks.xy[..., 0] < 78)]).all()
    assert np.isnan(found[~tracks.visible]).all()


def test_no_depth_and_no_path_is_a_reason() -> None:
    simulated = simulate(3)
    scene, tracks = scene_of(simulated), tracks_of(simulated.view)
    for estimator in (RecordedDepth(), TriangulatedDepth()):
        with pytest.raises(Rejection) as caught:
            estimator.depth(scene, None, tracks)
        assert caught.value.reason == "no_metric_scale"


# Localisation


def test_boxes_say_where_to_look_for_a_while_and_where_the_object_is() -> None:
    simulated = simulate()
    full = CAMERA.scaled(1920, 1080)
    scene = scene_of(simulated, camera=full)
    clip = replace(CLIP, boxes=(Box(0.52, 200, 100, 400, 300), Box(9.0, 0, 0, 99, 99)))
    exact = AnnotatedBoxes(margin=0.0).exact(clip, scene)
    assert exact.any((1, 2)).nonzero()[0].tolist() == [10]
    rows, columns = exact[10].nonzero()
    found = (rows.min(), rows.max(), columns.min(), columns.max())
    assert np.abs(np.subtract(found, (50, 150, 100, 200))).max() <= 3
    where = AnnotatedBoxes(lasts=0.5, drift=1.0).localise(clip, scene)
    frames = where.any((1, 2)).nonzero()[0]
    assert (frames.min(), frames.max()) == (1, 20)
    assert where[20].sum() > 2 * exact[10].sum()
    for boxes in ((), clip.boxes[1:]):
        none = replace(clip, boxes=boxes)
        assert AnnotatedBoxes().localise(none, scene) is None
        assert AnnotatedBoxes().exact(none, scene) is None


@dataclass(frozen=True)
class OnItsSide:
    """The upright camera's picture stored turned by 90 degrees, as Aria's is."""

    size: tuple[int, int] = (1080, 1920)

    def stored(self, rays: np.ndarray) -> np.ndarray:
        upright = CAMERA.scaled(1920, 1080).project(rays)
        return np.stack((1079 - upright[..., 1], upright[..., 0]), -1)


def test_a_box_of_the_stored_picture_is_found_in_the_upright_one() -> None:
    simulated = simulate()
    scene = scene_of(simulated, camera=CAMERA.scaled(1920, 1080), lens=OnItsSide())
    clip = replace(CLIP, boxes=(Box(0.5, 779, 200, 979, 400),))
    rows, columns = AnnotatedBoxes(margin=0.0).exact(clip, scene)[10].nonzero()
    found = (rows.min(), rows.max(), columns.min(), columns.max())
    assert np.abs(np.subtract(found, (50, 150, 100, 200))).max() <= 3


def test_where_fingers_go_is_looked_at_before_they_arrive() -> None:
    simulated = simulate()
    scene = scene_of(simulated, hands=(hand_on(simulated),))
    where = NearHands(radius=0.1).localise(CLIP, scene)
    at = np.rint(CAMERA.project(simulated.path[0].inv().apply(simulated.points))).astype(int)
    assert where[0, at[:, 1], at[:, 0]].all()
    assert where[0].mean() < 0.8
    assert NearHands().localise(CLIP, scene_of(simulated)) is None


# Segmentation


def segmented(simulated: Simulated, *others: View, hands: tuple[Hand, ...] = ()) -> np.ndarray:
    scene = scene_of(simulated, hands=hands)
    tracks = tracks_of(simulated.view, simulated.background_view, *others)
    depth = TriangulatedDepth().depth(scene, simulated.path, tracks)
    return MovingGroup().segment(scene, simulated.path, tracks, depth)


def test_the_thing_that_moves_is_told_from_what_rests() -> None:
    simulated = simulate(4, noise=0.4, sway=0.08)
    labels = segmented(simulated, hands=(hand_on(simulated),))
    mine, rest = labels[:30], labels[30:]
    assert (mine == OBJECT).mean() > 0.6
    assert not (rest == OBJECT).any()
    assert (rest == BACKGROUND).mean() > 0.5
    assert not (mine == BACKGROUND).any()


def test_a_thing_that_moves_without_a_hand_is_not_the_object() -> None:
    simulated = simulate(5, noise=0.4, sway=0.08)
    far = replace(hand_on(simulated), joints=hand_on(simulated).joints + [0, 0, 1.0])
    with pytest.raises(Rejection) as caught:
        segmented(simulated, hands=(far,))
    assert caught.value.reason == "nothing_moves"


def test_points_on_the_hand_itself_are_not_the_object() -> None:
    simulated = simulate(6, noise=0.4, sway=0.08)
    hand = hand_on(simulated)
    rng = np.random.default_rng(0)
    skin = hand.joints[:, rng.integers(0, 2, 15)] + rng.uniform(-0.006, 0.006, (15, 3))
    local = np.stack([simulated.path[t].inv().apply(skin[t]) for t in range(len(skin))])
    xy = CAMERA.project(local)
    on_skin = View(CAMERA, simulated.path, simulated.times, xy, CAMERA.contains(xy, 2))
    labels = segmented(simulated, on_skin, hands=(hand,))
    assert not (labels[-15:] == OBJECT).any()
    assert (labels[:30] == OBJECT).mean() > 0.5


def test_a_still_scene_has_no_object() -> None:
    simulated = simulate(7, noise=0.4)
    scene = scene_of(simulated)
    tracks = tracks_of(simulated.background_view)
    depth = TriangulatedDepth().depth(scene, simulated.path, tracks)
    with pytest.raises(Rejection) as caught:
        MovingGroup().segment(scene, simulated.path, tracks, depth)
    assert caught.value.reason == "nothing_moves"


def test_things_that_scatter_are_not_one_object() -> None:
    simulated = simulate(8, noise=0.4, sway=0.08)
    rng = np.random.default_rng(1)
    moved = np.repeat(simulated.points[None], len(simulated.times), 0)
    since = np.clip(np.arange(len(moved)) - simulated.start, 0, None)[:, None, None]
    moved = moved + 0.01 * since * rng.normal(0, 1, (1, 30, 3))
    local = np.stack([simulated.path[t].inv().apply(moved[t]) for t in range(len(moved))])
    xy = CAMERA.project(local) + rng.normal(0, 0.4, (*local.shape[:2], 2))
    crowd = View(CAMERA, simulated.path, simulated.times, xy, CAMERA.contains(xy, 2))
    scene, tracks = scene_of(simulated), tracks_of(crowd, simulated.background_view)
    depth = TriangulatedDepth().depth(scene, simulated.path, tracks)
    with pytest.raises(Rejection) as caught:
        MovingGroup().segment(scene, simulated.path, tracks, depth)
    assert caught.value.reason in ("no_rigid_group", "lost_track")
