"""The object is found where no hand is recorded, and no hand is taken for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops import corpora, synthetic
from ego_ops.camera import PosePath
from ego_ops.clip import Box, Clip
from ego_ops.corpora import Corpus, egodex
from ego_ops.errors import Rejection
from ego_ops.geometry.view import View
from ego_ops.perception.anchors import AnchoredDepth, Surface
from ego_ops.perception.depth import TriangulatedDepth
from ego_ops.perception.geometric import GeometricPipeline
from ego_ops.perception.scene import OBJECT, Scene
from ego_ops.perception.segment import MovingGroup
from ego_ops.perception.tracks import Tracks
from ego_ops.pipeline import Extraction
from ego_ops.recording import Recording
from ego_ops.report.measure import compare, read_truth
from ego_ops.storage import LocalStore
from ego_ops.synthetic import egodex as writer
from ego_ops.synthetic.render import render_scene
from ego_ops.synthetic.scene import sample_scene
from tests import rendered_corpora
from tests.simulated import CAMERA, Simulated, simulate

SIZE = (640, 360)


# Tracks of a simulated scene


def seen(simulated: Simulated, moved: np.ndarray) -> View:
    """What the camera sees of points (T, N, 3)."""
    rng = np.random.default_rng(1)
    local = np.stack([simulated.path[t].inv().apply(moved[t]) for t in range(len(moved))])
    xy = CAMERA.project(local) + rng.normal(0, 0.4, (*local.shape[:2], 2))
    return View(CAMERA, simulated.path, simulated.times, xy, CAMERA.contains(xy, 2))


def visitor(simulated: Simulated) -> View:
    """Twenty points of a hand that comes from aside, goes with the object, and leaves it."""
    rng = np.random.default_rng(0)
    grip = simulated.points.mean(0) + [0.05, 0.0, -0.06] + rng.uniform(-0.03, 0.03, (20, 3))
    carried = np.stack([motion.apply(grip) for motion in simulated.motion])
    t = np.arange(len(carried))
    away = np.clip(1 - t / simulated.start, 0, 1) + np.clip((t - 51) / 8, 0, 1)
    return seen(simulated, carried + away[:, None, None] * np.array([0.35, 0.2, -0.05]))


def segmented(simulated: Simulated, *others: View, boxed: np.ndarray | None = None) -> np.ndarray:
    blank = np.zeros((len(simulated.times), 540, 960), np.uint8)
    recording = Recording(CAMERA, PosePath(simulated.times, simulated.path))
    scene = Scene(blank, simulated.times, CAMERA, recording)
    views = (simulated.view, simulated.background_view, *others)
    tracks = Tracks.joined(
        [Tracks(view.xy, view.visible, view.visible.argmax(0)) for view in views]
    )
    depth = TriangulatedDepth().depth(scene, simulated.path, tracks)
    return MovingGroup().segment(scene, simulated.path, tracks, depth, boxed)


def box_at(simulated: Simulated, t: int, shift: float = 0.0) -> np.ndarray:
    boxed = np.zeros((len(simulated.times), 540, 960), bool)
    low = np.floor(np.nanmin(simulated.view.xy[t], 0) + shift).astype(int) - 4
    high = np.ceil(np.nanmax(simulated.view.xy[t], 0) + shift).astype(int) + 4
    boxed[t, max(low[1], 0) : high[1], max(low[0], 0) : high[0]] = True
    return boxed


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_what_a_hand_came_to_is_the_object_and_the_hand_is_not(seed: int) -> None:
    simulated = simulate(seed, noise=0.4, sway=0.08)
    labels = segmented(simulated, visitor(simulated))
    assert (labels[:30] == OBJECT).mean() > 0.6
    assert not (labels[30:] == OBJECT).any()


def test_a_hand_that_lay_still_and_moves_by_itself_is_not_the_object() -> None:
    with pytest.raises(Rejection) as caught:
        segmented(simulate(4, noise=0.4, sway=0.08))
    assert caught.value.reason == "no_hand_seen"


def test_a_hand_that_arrives_pauses_and_goes_on_is_not_the_object() -> None:
    """It was not where it paused before it came there."""
    simulated = simulate(4, noise=0.4, sway=0.08)
    moved = np.stack([motion.apply(simulated.points) for motion in simulated.motion])
    away = np.clip(1 - np.arange(len(moved)) / 8, 0, 1)[:, None, None]
    xy = seen(simulated, moved + away * np.array([0.35, 0.2, -0.05]))
    tracks = replace(simulated, view=xy)
    later = seen(simulated, moved)  # corners found once it rests
    later.visible[:8] = False
    with pytest.raises(Rejection) as caught:
        segmented(tracks, later)
    assert caught.value.reason in ("no_hand_seen", "no_rigid_group")


def test_a_box_before_the_hand_comes_vouches_for_the_object() -> None:
    simulated = simulate(4, noise=0.4, sway=0.08)
    labels = segmented(simulated, boxed=box_at(simulated, 10))
    assert (labels[:30] == OBJECT).mean() > 0.6
    assert not (labels[30:] == OBJECT).any()


@pytest.mark.parametrize("t", [10, 40])
def test_what_is_outside_the_boxes_is_not_the_object(t: int) -> None:
    simulated = simulate(4, noise=0.4, sway=0.08)
    assert (segmented(simulated, visitor(simulated)) == OBJECT).any()
    with pytest.raises(Rejection) as caught:
        segmented(simulated, visitor(simulated), boxed=box_at(simulated, t, -200))
    assert caught.value.reason in ("nothing_moves", "no_hand_seen", "no_rigid_group")


# Depth from landmarks


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 3), st.floats(-0.8, 0.8), st.floats(-0.8, 0.8), st.integers(0, 99))
def test_landmarks_of_a_plane_give_its_depth_and_those_behind_do_not(
    z: float, a: float, b: float, seed: int
) -> None:
    """The plane z = z0 + a x + b y, seen among landmarks of a wall that it hides."""
    rng = np.random.default_rng(seed)
    rays = CAMERA.rays(rng.uniform((200, 150), (760, 390), (6000, 2)))
    depth = z / (1 - a * rays[:, 0] - b * rays[:, 1])
    behind = rng.random(len(rays)) < 0.5
    points = rays * np.where(behind, 1.5 * depth + 0.3, depth)[:, None]
    points += rng.normal(0, 0.002, points.shape) * depth[:, None]
    seen = rng.uniform((300, 200), (660, 340), (50, 2))
    found = Surface().depth(CAMERA, points, seen)
    at = CAMERA.rays(seen)
    true = z / (1 - a * at[:, 0] - b * at[:, 1])
    assert np.isfinite(found).mean() > 0.7
    # By chance a pixel may have too few landmarks of the plane about it.
    assert (np.abs(found / true - 1) > 0.04).sum() <= 2


def test_landmarks_that_do_not_agree_or_are_far_off_say_nothing() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.uniform((300, 200), (500, 400), (400, 2))
    fog = CAMERA.rays(pixels) * np.geomspace(0.3, 30, 400)[rng.permutation(400), None]
    assert np.isfinite(Surface().depth(CAMERA, fog, pixels[:100])).mean() < 0.1
    wall = CAMERA.rays(pixels)
    assert np.isnan(Surface().depth(CAMERA, wall, np.array([[700.0, 300], [100, 100]]))).all()
    assert np.isnan(Surface().depth(CAMERA, wall[:3], pixels[:3])).all()
    assert np.isnan(Surface().depth(CAMERA, -wall, pixels[:3])).all()


def test_without_landmarks_there_is_nothing_to_anchor_to() -> None:
    simulated = simulate()
    view = simulated.view
    scene = Scene(np.zeros((60, 540, 960), np.uint8), simulated.times, CAMERA, Recording(CAMERA))
    tracks = Tracks(view.xy, view.visible, np.zeros(30, int))
    with pytest.raises(Rejection, match="landmarks"):
        AnchoredDepth().depth(scene, simulated.path, tracks)


# Rendered clips


def run(clip: Clip, **recorded: object) -> Extraction:
    """Through the pipeline, without recorded hands and with what is given instead."""

    def recording(asked: Clip) -> Recording:
        return replace(egodex.recording(asked), hands=(), **recorded)

    corpora.CORPORA["no_hands"] = Corpus(egodex.index, recording)
    try:
        pipeline, asked = GeometricPipeline(), replace(clip, corpus="no_hands")
        return pipeline.solve(asked, pipeline.perceive(asked))
    finally:
        del corpora.CORPORA["no_hands"]


def right(root: Path, clip: Clip, found: Extraction) -> bool:
    truth = read_truth(LocalStore(str(root / "truth")), clip.video_uid)
    assert truth is not None
    figures = compare(found, truth).figures
    return (
        figures["position_median_m"] < 0.02
        and np.degrees(figures["rotation_median_rad"]) < 5
        and figures["placement_m"] < 0.03
    )


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Clip]:
    root = rendered_corpora.egodex(tmp_path_factory, SIZE)
    (clip,) = egodex.index(str(root))
    return root, clip


def test_a_rendered_clip_needs_no_hands(rendered: tuple[Path, Clip]) -> None:
    root, clip = rendered
    assert right(root, clip, run(clip))


def test_a_hand_alone_is_not_the_object(rendered: tuple[Path, Clip]) -> None:
    root, clip = rendered
    truth = np.load(root / "truth" / f"{clip.video_uid}.npz")
    for interval in ((0.0, truth["contact_time"] - 0.05), (truth["release_time"], clip.t_end)):
        with pytest.raises(Rejection):
            run(replace(clip, t_start=float(interval[0]), t_end=float(interval[1])))


def test_boxes_of_another_thing_are_believed(rendered: tuple[Path, Clip]) -> None:
    _, clip = rendered
    with pytest.raises(Rejection) as caught:
        run(replace(clip, boxes=(Box(0.3, 10, 10, 100, 80), Box(2.5, 10, 10, 100, 80))))
    assert "annotated boxes" in caught.value.detail


def held_still(seed: int, index: int) -> synthetic.Scene:
    """The same scene with a twentieth of the head's motion."""
    scene = sample_scene(seed, index)
    rest = scene.camera(np.array([0.5]))[0]

    def camera(times: np.ndarray) -> RigidTransform:
        way = rest.inv() * scene.camera(times)
        little = Rotation.from_rotvec(0.2 * way.rotation.as_rotvec())
        return rest * RigidTransform.from_components(0.05 * way.translation, little)

    return replace(scene, camera=camera)


@pytest.mark.slow
def test_landmarks_place_what_a_head_at_rest_looks_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "sample_scene", held_still)
    synthetic.write_clip(tmp_path, 0, 0, SIZE, 0.0)
    (clip,) = egodex.index(str(tmp_path))
    with pytest.raises(Rejection) as caught:
        run(clip)
    assert caught.value.reason == "too_little_parallax"
    # What an earlier view from elsewhere measured: the scene of the first frame, a step aside.
    scene = sample_scene(0, 0)
    pose = scene.camera(np.array([0.0]))[0] * RigidTransform.from_translation([0.05, 0.03, 0.0])
    aside = replace(scene, camera=lambda times: RigidTransform.concatenate([pose] * len(times)))
    (shot,) = render_scene(aside, np.zeros(1), (960, 540), depth=True)
    camera = egodex.recording(clip).camera.scaled(960, 540)
    y, x = np.mgrid[0:540:5, 0:960:5]
    rays = camera.rays(np.stack((x, y), -1).astype(float))
    points = (rays * shot.depth[::5, ::5, None]).reshape(-1, 3)
    noise = np.random.default_rng(0).normal(0, 0.003, points.shape)
    found = run(clip, landmarks=pose.apply(points) + noise)
    assert right(tmp_path, clip, found)
