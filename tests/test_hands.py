"""Hands in the picture, and which thing they manipulate."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops import corpora
from ego_ops.camera import Camera
from ego_ops.perception.learned import hands
from ego_ops.perception.learned.contact import ContactChoice, boxes_of
from ego_ops.perception.learned.hands import MediaPipeHands, SeenHands
from ego_ops.perception.track_lk import LucasKanade
from ego_ops.synthetic import Scene, intrinsics, render_scene, sample_scene
from ego_ops.synthetic.hand import DIGITS
from ego_ops.video import decode_window

# Of MediaPipe's own code under protobuf 6.
pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "egodex"


# Hands in real pictures


@cache
def looked_at(uid: str) -> tuple[SeenHands, np.ndarray, np.ndarray]:
    """What MediaPipe sees of a real clip; recorded fingertips (T, 2, 5, 2) in pixels; whether each
    hand is in the picture (T, 2)."""
    pytest.importorskip("mediapipe", reason=f"mediapipe is not installed: {hands.INSTALL}")
    if not REAL.is_dir():
        pytest.skip("the real EgoDex clips are not beside this checkout")
    (clip,) = (c for c in corpora.get("egodex").index(str(REAL)) if c.video_uid == uid)
    recording = corpora.get("egodex").recording(clip)
    frames = decode_window(clip.video, clip.t_start, clip.t_end, fps=20, max_side=960)
    camera = recording.camera.scaled(*frames.images.shape[2:0:-1])
    path = recording.path.held(frames.pts + 0.011)
    tips, inside = [], []
    for hand in sorted(recording.hands, key=lambda hand: hand.side):
        joints = hand.at(np.clip(frames.pts + 0.011, hand.times[0], hand.times[-1]))
        pixels = np.stack(
            [camera.project(p.inv().apply(j)) for p, j in zip(path, joints, strict=True)]
        )
        tips.append(pixels[:, list(hand.tips)])
        inside.append(camera.contains(pixels, 5).mean(1) > 0.5)
    return MediaPipeHands().find(frames.images), np.stack(tips, 1), np.stack(inside, 1)


def matched(uid: str) -> tuple[np.ndarray, np.ndarray]:
    """(T, 2) median miss of the fingertips of each recorded hand from the nearer of those seen, in
    pixels of a picture 960 wide, infinite where none is seen; and whether it is in the picture."""
    seen, tips, inside = looked_at(uid)
    off = np.linalg.norm(seen.tips[:, None] - tips[:, :, None], axis=-1)
    miss = np.nan_to_num(np.median(off, -1), nan=np.inf).min(-1)
    return miss, inside


@pytest.mark.parametrize("uid", ["add_remove_lid/0", "basic_pick_and_place/0"])
def test_hands_are_seen_where_they_were_recorded(uid: str) -> None:
    miss, inside = matched(uid)
    assert inside.sum() > 100
    found = (miss < 100)[inside]
    assert found.mean() > 0.9
    # The headset's own fingertips are off by as much where a finger is hidden.
    assert np.median(miss[inside]) < 25
    assert np.percentile(miss[inside][found], 90) < 40


@pytest.mark.parametrize("uid", ["add_remove_lid/0", "basic_pick_and_place/0"])
def test_a_hand_keeps_its_place_and_its_box_holds_its_fingertips(uid: str) -> None:
    seen, tips, inside = looked_at(uid)
    off = np.linalg.norm(seen.landmarks.mean(2)[:, :, None] - tips.mean(2)[:, None], axis=-1)
    both = seen.visible.all(1) & inside.all(1)
    assert both.sum() > 30
    straight, crossed = off[both][:, [0, 1], [0, 1]].sum(1), off[both][:, [0, 1], [1, 0]].sum(1)
    share = (straight < crossed).mean()
    assert share in (0.0, 1.0)  # never swapped
    low, high = np.split(seen.boxes()[seen.visible][:, None], 2, axis=-1)
    at = seen.tips[seen.visible]
    assert ((at > low) & (at < high)).all()
    assert (seen.scores > 0).tolist() == seen.visible.tolist()


def test_the_same_clip_gives_the_same_hands_after_another(capfd: pytest.CaptureFixture) -> None:
    first = looked_at("add_remove_lid/0")[0]
    looked_at("basic_pick_and_place/0")
    looked_at.cache_clear()
    capfd.readouterr()
    again = looked_at("add_remove_lid/0")[0]
    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    assert capfd.readouterr().err == ""  # its libraries say nothing


def test_pictures_without_hands_have_none() -> None:
    pytest.importorskip("mediapipe", reason=f"mediapipe is not installed: {hands.INSTALL}")
    seen = MediaPipeHands().find(np.full((3, 120, 160, 3), 90, np.uint8))
    assert not seen.visible.any()
    assert np.isnan(seen.boxes()).all()
    assert not seen.scores.any()


def test_without_mediapipe_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['mediapipe'] = None\n"
        "import numpy as np\n"
        "from ego_ops.errors import UserError\n"
        "from ego_ops.perception.learned.hands import MediaPipeHands\n"
        "try: MediaPipeHands().find(np.zeros((1, 8, 8, 3), np.uint8))\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "pip install --no-deps mediapipe==0.10.21" in done.stdout
    assert done.stderr == ""


def test_what_is_no_noise_still_reaches_standard_error(capfd: pytest.CaptureFixture) -> None:
    with hands._hushed():
        subprocess.run(["sh", "-c", "echo W0000 1 noise >&2; echo worth reading >&2"], check=True)
    subprocess.run(["sh", "-c", "echo W0000 later >&2"], check=True)
    assert capfd.readouterr().err == "worth reading\nW0000 later\n"


def test_hands_keep_their_places_whatever_order_they_are_found_in() -> None:
    seats = hands._Seats(np.array([640, 480]))
    assert seats.taken(np.array([[500.0, 300.0]])) == [1]
    assert seats.taken(np.array([[480.0, 300.0], [100.0, 300.0]])) == [1, 0]
    assert seats.taken(np.array([[130.0, 300.0], [460.0, 300.0]])) == [0, 1]
    assert seats.taken(np.zeros((0, 2))) == []
    assert seats.taken(np.array([[300.0, 300.0]])) == [1]  # it comes from 460, the other was at 130


def test_a_hand_found_twice_is_one() -> None:
    one = np.random.default_rng(0).uniform(0, 100, (21, 2))
    twice, apart = np.stack([one, one + 10]), np.stack([one, one + 120])
    kept, scores = hands._distinct(twice, np.array([0.6, 0.9]))
    np.testing.assert_array_equal(kept, twice[1:])
    assert scores.tolist() == [0.9]
    assert len(hands._distinct(apart, np.array([0.6, 0.9]))[0]) == 2


# Contact, constructed: 40 frames, three boxes in a row, a hand that comes from below

STEPS = 40
MIDDLES = np.array([[100.0, 100.0], [220.0, 100.0], [340.0, 100.0]])
HALF = 30.0


def row(moved: int | None = None, speed: float = 6.0) -> np.ndarray:
    """(T, 3, 4) boxes; number `moved` goes up and right from frame 15 to 30."""
    middles = np.repeat(MIDDLES[None], STEPS, 0)
    if moved is not None:
        middles[:, moved] += np.clip(np.arange(STEPS) - 15, 0, 15)[:, None] * [speed, -speed]
    return np.concatenate([middles - HALF, middles + HALF], -1)


def hand_at(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fingertips (T, 1, 5, 2) and box (T, 1, 4) of one hand whose tips are around (T, 2)."""
    spread = np.array([[-12, 0], [-6, -6], [0, -8], [6, -6], [12, 0]])
    tips = places[:, None, None] + spread
    return tips, np.concatenate([places - [35, 20], places + [35, 80]], -1)[:, None]


def visit(boxes: np.ndarray, which: int) -> np.ndarray:
    """(T, 2) places of a hand that comes to a box by frame 13, stays with it and leaves at 32."""
    middle = (boxes[:, which, :2] + boxes[:, which, 2:]) / 2
    away = np.clip(np.abs(np.arange(STEPS) - 22.5) - 9.5, 0, None)[:, None]
    return middle + away * [0.0, 15.0]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_box_that_moves_with_the_hand_is_chosen(which: int) -> None:
    boxes = row(which)
    choice = ContactChoice().choose(boxes, *hand_at(visit(boxes, which)), None)
    assert choice.index == which
    assert choice.margin > 0.5
    assert 0.3 < choice.scores[which] < 0.6  # 15 of 40 frames, and the lag


def test_a_hand_that_works_at_one_thing_does_not_choose_another_that_moves() -> None:
    boxes = row(2)
    tips, box = hand_at(visit(row(), 0))
    choice = ContactChoice().choose(boxes, tips, box, None)
    assert choice.scores[2] < 0.02
    assert choice.index == 0  # touched, at least
    assert choice.scores[0] < 0.1


def test_where_nothing_moves_the_touched_thing_is_chosen() -> None:
    choice = ContactChoice().choose(row(), *hand_at(visit(row(), 1)), None)
    assert choice.index == 1
    assert choice.margin > 0.9
    assert choice.scores[1] < 0.05


def test_nothing_is_chosen_with_any_margin_where_no_hand_is() -> None:
    boxes = row(1)
    tips, box = np.full((STEPS, 2, 5, 2), np.nan), np.full((STEPS, 2, 4), np.nan)
    choice = ContactChoice().choose(boxes, tips, box, None)
    assert choice.margin == 0.0
    assert not choice.scores.any()


def test_a_candidate_that_is_the_hand_is_not_chosen() -> None:
    boxes = row(1)
    tips, box = hand_at(visit(boxes, 1))
    boxes[:, 0] = box[:, 0] + [3, -2, -4, 5]
    choice = ContactChoice().choose(boxes, tips, box, None)
    assert choice.index == 1
    assert choice.scores[0] == 0.0


def test_a_still_thing_that_a_hand_covers_from_one_side_does_not_move() -> None:
    boxes = row()
    boxes[15:30, 1, 3] -= np.linspace(0, 45, 15)  # its lower side is hidden more and more
    assert ContactChoice().moving(boxes, None).max() < 0.05


def test_two_candidates_that_are_one_leave_no_margin() -> None:
    boxes = row(1)
    boxes[:, 2] = boxes[:, 1]
    choice = ContactChoice().choose(boxes, *hand_at(visit(boxes, 1)), None)
    assert choice.index in (1, 2)
    assert choice.margin == 0.0


def test_boxes_of_hands_serve_where_there_are_no_fingertips() -> None:
    boxes = row(1)
    tips, box = hand_at(visit(boxes, 1))
    choice = ContactChoice().choose(boxes, tips[:, :, :0], box, None)
    assert choice.index == 1
    assert choice.margin > 0.3


def test_gaps_in_what_is_seen_change_little() -> None:
    boxes = row(1)
    tips, box = hand_at(visit(boxes, 1))
    whole = ContactChoice().choose(boxes, tips, box, None)
    boxes[::7] = np.nan
    tips[::5], box[::5] = np.nan, np.nan
    choice = ContactChoice().choose(boxes, tips, box, None)
    assert choice.index == 1
    assert choice.margin > 0.5
    assert choice.scores[1] > 0.4 * whole.scores[1]


@settings(max_examples=20, deadline=None)
@given(
    st.floats(-0.01, 0.01), st.floats(0.99, 1.01), st.floats(-5, 5), st.floats(-5, 5),
    st.permutations([0, 1, 2]), st.integers(0, 99),
)  # fmt: skip
def test_the_cameras_motion_and_the_order_do_not_matter(
    turn: float, zoom: float, dx: float, dy: float, order: list[int], seed: int
) -> None:
    """Every frame is the last one turned, zoomed and shifted; a tenth of the tracks is wrong."""
    boxes = row(1)
    tips, _ = hand_at(visit(boxes, 1))
    rng = np.random.default_rng(seed)
    world = np.repeat(rng.uniform([0, 0], [440, 300], (120, 2))[None], STEPS, 0)
    world[:, :12] += rng.normal(0, 4, (STEPS, 12, 2)).cumsum(0)

    def filmed(points: np.ndarray) -> np.ndarray:
        step = zoom * np.exp(1j * turn) ** np.arange(STEPS)
        z = (points[..., 0] - 220) + 1j * (points[..., 1] - 150)
        z = z * (step * zoom ** np.arange(STEPS)).reshape(-1, *[1] * (z.ndim - 1))
        shift = (np.arange(STEPS) * (dx + 1j * dy)).reshape(-1, *[1] * (z.ndim - 1))
        return np.stack(((z + shift).real + 220, (z + shift).imag + 150), -1)

    middle = filmed((boxes[..., :2] + boxes[..., 2:]) / 2)
    seen = np.concatenate([middle - HALF, middle + HALF], -1)[:, order]
    at = filmed(tips)
    box = np.concatenate([at.min(2) - 10, at.max(2) + 60], -1)
    choice = ContactChoice().choose(seen, at, box, filmed(world) + rng.normal(0, 0.5, world.shape))
    assert order[choice.index] == 1
    assert choice.margin > 0.4


def test_a_third_of_the_background_on_what_moves_does_not_fool() -> None:
    boxes = row(1)
    rng = np.random.default_rng(0)
    world = np.repeat(rng.uniform([0, 0], [440, 300], (90, 2))[None], STEPS, 0)
    world[:, :30] += boxes[:, 1, None, :2] - boxes[0, 1, :2]
    moving = ContactChoice().moving(boxes, world)
    assert moving[18:27, 1].min() > 0.8
    assert moving[:, [0, 2]].max() < 0.1


def test_too_little_background_says_nothing_of_motion() -> None:
    boxes = row(1)
    assert not ContactChoice().moving(boxes, np.zeros((STEPS, 5, 2))).any()
    assert not ContactChoice().moving(boxes[:1], None).any()


def test_no_candidate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no candidates"):
        ContactChoice().choose(np.zeros((5, 0, 4)), *hand_at(np.zeros((5, 2))), None)


def test_boxes_are_those_of_the_masks() -> None:
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 3:8, 10:21] = True
    masks[0, 15, 2] = True
    np.testing.assert_array_equal(boxes_of(masks)[0], [2, 3, 20, 15])
    assert np.isnan(boxes_of(masks)[1]).all()


# Contact in a real clip: boxes drawn by hand around five things in the first frame

TABLE = {
    "phone": (522, 424, 635, 539),
    "stapler": (600, 370, 772, 539),
    "toy": (715, 408, 920, 527),
    "tray": (352, 295, 583, 430),
    "knife": (635, 335, 740, 375),
}


def test_the_carried_stapler_is_chosen_in_a_real_clip() -> None:
    seen = looked_at("basic_pick_and_place/0")[0]
    (video,) = REAL.glob("basic_pick_and_place/0.mp4")
    gray = decode_window(str(video), 0.0, len(seen.scores) / 20, fps=20, max_side=960).gray()
    tracks = LucasKanade(every=20, most=500).track(gray)
    first = tracks.select(tracks.start == 0)
    boxes = np.full((len(gray), len(TABLE), 4), np.nan)
    for k, box in enumerate(np.array(list(TABLE.values()), float)):
        x, y = first.xy[0].T
        inside = first.xy[:, (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])]
        for t in np.flatnonzero(np.isfinite(inside[..., 0]).sum(1) >= 5):
            boxes[t, k] = box + np.tile(np.nanmedian(inside[t] - inside[0], 0), 2)
    choice = ContactChoice().choose(boxes, seen.tips, seen.boxes(), tracks.xy[:, ::4])
    assert list(TABLE)[choice.index] == "stapler"
    assert choice.margin > 0.25


# Contact in rendered scenes: the thing carried, six others and a lamp that hides it for a while

SIZE = (320, 180)


def filmed_scene(scene: Scene, times: np.ndarray) -> tuple[np.ndarray, ...]:
    """Masks (T, K, H, W), the carried thing's first; fingertips, boxes of hands, background."""
    k = intrinsics(SIZE)
    camera = Camera(k[0, 0], k[1, 1], SIZE[0] / 2 - 0.5, SIZE[1] / 2 - 0.5, *SIZE)
    path = scene.camera(times)

    def seen(points: np.ndarray) -> np.ndarray:
        return np.stack(
            [camera.project(p.inv().apply(x)) for p, x in zip(path, points, strict=True)]
        )

    shots = list(render_scene(scene, times, SIZE))
    masks = [np.stack([shot.mask for shot in shots])]
    hidden = np.stack([shot.mask | shot.hands for shot in shots])
    for placed in scene.clutter:
        points = placed.pose.apply(placed.thing.mesh.vertices)
        drawn = np.zeros((len(times), *SIZE[::-1]), np.uint8)
        for t, pixels in enumerate(seen(np.repeat(points[None], len(times), 0))):
            if np.abs(pixels).max() < 4 * SIZE[0]:  # else it is behind the camera, or beside it
                hull = cv2.convexHull(pixels.round().astype(np.int32))
                cv2.fillConvexPoly(drawn[t], hull, 1)
        masks.append((drawn > 0) & ~hidden)
    rng = np.random.default_rng(scene.seed[1])
    tips, boxes = [], []
    for side in scene.arms:
        joints = scene.joints(times, side)
        digits = [name for name in joints if name.startswith(DIGITS)]
        pixels = seen(np.stack([joints[name].translation for name in digits], 1))
        pixels[camera.contains(pixels).mean(1) < 0.5] = np.nan
        # A landmark model misses by about a fiftieth of the picture.
        pixels += rng.normal(0, 0.015 * SIZE[0], (len(times), 1, 2))
        tips.append(pixels[:, [k for k, name in enumerate(digits) if name.endswith("3")]])
        boxes.append(np.concatenate([pixels.min(1), pixels.max(1)], -1))
    table = np.column_stack(
        [rng.uniform(-0.7, 0.7, 200), np.full(200, 0.72), rng.uniform(-1, -0.1, 200)]
    )
    background = seen(np.repeat(table[None], len(times), 0))
    background[~camera.contains(background)] = np.nan
    noisy = background + rng.normal(0, 0.5, background.shape)
    return np.stack(masks, 1), np.stack(tips, 1), np.stack(boxes, 1), noisy


@pytest.mark.parametrize("index", [4])
def test_the_carried_thing_is_chosen_in_a_rendered_scene(index: int) -> None:
    scene = sample_scene(7, index)
    masks, tips, hand_boxes, background = filmed_scene(scene, scene.times[::4])
    boxes = boxes_of(masks)
    boxes[masks.sum((2, 3)) < 20] = np.nan  # next to nothing of it is seen
    assert boxes.shape[1] >= 5
    choice = ContactChoice(lag=2, noise=2.0).choose(boxes, tips, hand_boxes, background)
    assert choice.index == 0
    assert choice.margin > 0.3
