"""The clips that geometry is measured on: they show what their truth says, and err as asked."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

if importlib.util.find_spec("mujoco") is None:  # importing it would settle how it renders
    pytest.skip("the extra `demo` is not installed", allow_module_level=True)

from bench import geometry_scenes
from bench.geometry_growth import made_up
from bench.geometry_peer import pnp
from bench.geometry_scenes import OCCLUDED, degraded, make_clip
from bench.geometry_score import scale_of_places, score
from bench.geometry_tracks import NOISE, OBJECT, Points
from ego_ops.camera import rigid

FRAMES = 20


@pytest.fixture(scope="module")
def clip():
    return make_clip(0, frames=FRAMES, fps=10.0)


def places(clip):
    """(T, N, 3) true places of the object's points in each camera frame."""
    local = np.stack([pose.apply(clip.object_points) for pose in clip.object])
    return np.stack([p.apply(x) for p, x in zip(clip.path.inv(), local, strict=True)])


def test_truth_projects_onto_the_tracks_to_within_their_noise(clip):
    for tracks, local in (
        (clip.observed.object, places(clip)),
        (
            clip.observed.background,
            np.stack([p.apply(clip.background_points) for p in clip.path.inv()]),
        ),
    ):
        off = clip.observed.camera.project(local) - tracks.xy
        known = tracks.visible & np.isfinite(local).all(-1)
        assert known.sum() > 1000
        # Half of a normal distribution lies within 0.6745 standard deviations; drift adds some.
        spread = np.median(np.abs(off[known])) / 0.6745
        assert NOISE * 0.95 < spread < NOISE * 1.5
        begins = known[0] & (np.arange(tracks.count) < known[0].sum() // 2)
        assert off[0, begins].std() == pytest.approx(NOISE, rel=0.2)  # nothing has drifted yet


def test_rendered_pixels_of_tracked_points_keep_their_colour(clip):
    # Independent of the projection's code being used to draw: where truth says that one point is
    # seen, the pictures must show the same surface.
    film = clip.film
    on_it = np.isfinite(clip.object_points[:, 0])
    points = Points(np.full(on_it.sum(), OBJECT), clip.object_points[on_it])
    seen = film.seen(points)
    column, row = np.rint(film.camera.project(film.place(points))).astype(int).transpose(2, 0, 1)
    first, later = 0, 3
    both = seen[first] & seen[later]
    assert both.sum() > 50

    def colours(frame, shift=0):
        picture = film.images[frame].astype(float)
        return picture[row[frame, both] + shift, column[frame, both]]

    apart = np.abs(colours(first) - colours(later)).mean()
    assert apart < 0.7 * np.abs(colours(first) - colours(later, 5)).mean()


def test_hidden_points_are_hidden(clip):
    film = clip.film
    on_it = np.isfinite(clip.object_points[:, 0])
    points = Points(np.full(on_it.sum(), OBJECT), clip.object_points[on_it])
    seen, local = film.seen(points), film.place(points)
    # The middle of a solid thing is behind its surface whoever looks.
    inside = film.seen(Points(np.array([OBJECT]), points.local.mean(0, keepdims=True) * 0.2))
    assert not inside.any() or clip.name.endswith(("bowl", "mug"))
    column, row = np.rint(film.camera.project(local)).astype(int).transpose(2, 0, 1)
    frame = np.arange(FRAMES)[:, None]
    shown = film.depth[frame, np.clip(row, 0, None), np.clip(column, 0, None)]
    ahead = seen & (shown < local[..., 2] - 0.01)
    assert ahead.sum() < 0.01 * seen.sum()
    # Most of what is hidden, the tracker says is hidden; and it overlooks some.
    said = clip.observed.object.visible[:, on_it][~seen]
    assert 0.01 < said.mean() < 0.5


def test_depth_errs_as_asked():
    flat = np.ones((40, 48, 64), np.float32)
    made = [degraded(flat, np.random.default_rng(seed)).astype(float) for seed in range(60)]
    scales = np.array([np.median(depth) for depth in made])
    assert scales.std() == pytest.approx(geometry_scenes.SCALE_ERROR, rel=0.3)
    flicker, bias, rough = [], [], []
    for depth, scale in zip(made, scales, strict=True):
        level = np.median(depth, axis=(1, 2))
        flicker.append((level / scale).std())
        shape = depth / level[:, None, None] - 1
        bias.append(np.sqrt(np.mean(shape**2)))
        rough.append(np.abs(np.diff(shape, axis=2)).max())
    assert np.mean(flicker) == pytest.approx(geometry_scenes.FLICKER, rel=0.2)
    assert np.mean(bias) == pytest.approx(geometry_scenes.BIAS, rel=0.25)
    assert max(rough) < 0.03  # smooth from pixel to pixel


def test_depth_of_tracks_is_read_from_the_degraded_picture(clip):
    tracks = clip.observed.object
    known = tracks.visible & np.isfinite(places(clip)).all(-1) & np.isfinite(tracks.depth)
    ratio = tracks.depth[known] / places(clip)[..., 2][known]
    whole = np.median(clip.depth / clip.film.depth)
    assert np.median(ratio) == pytest.approx(whole, rel=0.1)
    assert np.isnan(tracks.depth[~tracks.visible]).all()


def test_variants_differ_in_what_they_say_they_do(clip):
    noise = (clip.with_path.path[0].inv() * clip.with_path.path).inv() * clip.path
    assert 0.001 < np.linalg.norm(noise.translation, axis=1).mean() < 0.01
    assert np.degrees(noise.rotation.magnitude()).mean() < 0.5
    gone = ~clip.occluded.object.visible.any(1)
    assert gone.sum() == round(OCCLUDED * FRAMES)
    assert not gone[:5].any()
    assert np.abs(np.diff(gone.astype(int))).sum() in (2, 4) or gone[-1]


def test_the_score_forgives_scale_and_the_choice_of_the_objects_frame_only(clip):
    truth, factor = clip.object, 1.3
    matrices = truth.as_matrix().copy()
    matrices[:, :3, 3] *= factor
    turned = RigidTransform.from_components([0.02, -0.03, 0.05], Rotation.from_rotvec([0.4, 1, 2]))
    same = rigid(matrices) * turned
    start = truth[0].apply(clip.object_points)
    scale = scale_of_places(start * factor, start)
    assert scale == pytest.approx(1 / factor)
    good = score(same, truth, clip.centre, scale)
    assert good.aligned < 1e-9
    assert good.rotation < 1e-9
    assert good.metric == pytest.approx(
        np.sqrt(np.mean(np.sum(
            ((truth * truth[0].inv()).apply(clip.centre) * (factor - 1)) ** 2, axis=1
        ))), rel=1e-6,
    )  # fmt: skip
    shift = np.zeros((FRAMES, 3))
    shift[FRAMES // 2 :, 0] = 0.02
    moved = RigidTransform.from_translation(shift) * truth
    bad = score(moved, truth, clip.centre, 1.0)
    assert 0.012 < bad.aligned < 0.0142  # 2 cm in half of the frames
    assert bad.rotation == pytest.approx(0, abs=1e-9)


def test_plain_pnp_comes_near_the_truth_and_does_not_reach_it(clip):
    motion = pnp(clip.observed)
    start = clip.object[0].apply(clip.object_points)
    off = score(motion.object, clip.object, clip.centre, scale_of_places(motion.places, start))
    assert 1e-4 < off.aligned < 0.05
    assert off.rotation < np.radians(15)


def test_made_up_tracks_have_the_size_asked_for():
    observed = made_up(30, 101)
    assert observed.object.xy.shape == (30, 50, 2)
    assert observed.background.xy.shape == (30, 51, 2)
    assert 0.2 < observed.object.visible.mean() < 0.6  # half of the ball faces away
    assert observed.background.visible.mean() > 0.4
