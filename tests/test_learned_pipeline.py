"""Perception with weights, from files to rows.

What the networks leave to the pipeline (which box, which points, what is sent on) is tested on
rendered clips with their true masks; the whole with tiny random networks, whose masks show nothing,
and which therefore must end every clip in a row that says so.
"""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

pytest.importorskip("transformers", reason="perception with weights is not installed")

from ego_ops import corpora, extraction, job, manifest, quality, work
from ego_ops.camera import PosePath
from ego_ops.claims import Claims
from ego_ops.clip import Box, Clip
from ego_ops.corpora import Corpus, egodex
from ego_ops.errors import AnnotationError, MissingFileError, Rejection, UserError
from ego_ops.manifest import Manifest
from ego_ops.perception.decoded import Decoded, Decoding
from ego_ops.perception.ego_path import with_path
from ego_ops.perception.learned import find, points
from ego_ops.perception.learned.ahead import Ahead
from ego_ops.perception.learned.choose import Chooser, Hands, hands_of, linked
from ego_ops.perception.learned.depth import DepthNetwork
from ego_ops.perception.learned.detect import Detector, Found, iou
from ego_ops.perception.learned.device import Device
from ego_ops.perception.learned.find import Finder
from ego_ops.perception.learned.perceived import LearnedPerceived
from ego_ops.perception.learned.pipeline import LearnedPipeline
from ego_ops.perception.learned.segment import Masks
from ego_ops.perception.learned.vision_endpoint import Located
from ego_ops.perception.surroundings import widened, with_surroundings
from ego_ops.perception.track_lk import LucasKanade
from ego_ops.perception.tracks import Tracks
from ego_ops.pipeline import load
from ego_ops.recording import Recording
from ego_ops.storage import store
from ego_ops.synthetic import render
from ego_ops.synthetic.scene import sample_scene
from tests import egodex_files, pipelines, rendered_corpora, tiny_models
from tests.noted import Noted
from workflows import cli

SIZE = (480, 270)
OVERVIEW = LucasKanade(every=20, most=200, spacing=15)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write(tmp_path_factory.mktemp("weights"), *tiny_models.MAKERS)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Clip]:
    root = rendered_corpora.egodex(tmp_path_factory, SIZE)
    (clip,) = egodex.index(str(root))
    return root, clip


@pytest.fixture(scope="module")
def decoded(rendered: tuple[Path, Clip]) -> Decoded:
    return Decoding(fps=10.0)(rendered[1])


class Truth:
    """What the scene's renderer knows of the decoded frames."""

    def __init__(self, decoded: Decoded):
        scene = sample_scene(0, 0)
        shots = list(render.render_scene(scene, decoded.scene.times, SIZE, depth=True))
        self.masks = Masks(
            np.stack([shot.mask for shot in shots]), np.stack([shot.hands for shot in shots])
        )
        self.times = decoded.scene.times
        self.maps = np.stack([shot.depth for shot in shots]).astype(float)
        self.error = np.exp(np.random.default_rng(0).normal(np.log(1.12), 0.02, len(shots)))

    def depth(self, t: float) -> NDArray[np.float64]:
        """(H, W) metres, wrong by a tenth and a flicker, as a network's."""
        k = int(np.abs(self.times - t).argmin())
        return self.maps[k] * self.error[k]


@pytest.fixture(scope="module")
def truth(decoded: Decoded) -> Truth:
    return Truth(decoded)


def box_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max(), y.max()], float)


# From masks to a trajectory


def observed(decoded: Decoded, truth: Truth, weights: Path, with_poses: bool) -> LearnedPerceived:
    """What the pipeline sends on, given true masks and a depth camera that errs."""
    recording = replace(decoded.scene.recording, depth=truth)
    if not with_poses:
        recording = replace(recording, path=None, hands=())
    scene = replace(decoded.scene, recording=recording)
    whole, path = points.overview(decoded, OVERVIEW), None
    if with_poses:
        scene, path = with_path(None, scene, whole)
    decoded = replace(decoded, scene=scene)
    thing = points.closeup(decoded, truth.masks, LucasKanade())
    thing = points.longest(thing, 200, "the object")
    background = points.longest(points.around(whole, truth.masks), 200, "the background")
    network = DepthNetwork(weights / tiny_models.METRIC, Device("cpu"))
    found = points.measured(decoded, thing, background, path, network, truth.masks, 0)
    end = float(decoded.frames.times[-1]) + 0.1
    return LearnedPerceived.of(decoded, (0.0, end), found, path, {})


@pytest.mark.parametrize("with_poses", [True, False])
def test_true_masks_give_the_true_trajectory(
    with_poses: bool, rendered: tuple[Path, Clip], decoded: Decoded, truth: Truth, weights: Path
) -> None:
    root, clip = rendered
    sent = pickle.dumps(observed(decoded, truth, weights, with_poses), -1)
    perceived = pickle.loads(sent)
    assert len(sent) - sum(map(len, perceived.asked.frames)) < 700_000
    found = extraction.extract_jointly(perceived.asked, perceived.observed, perceived.clock_offset)
    assert len(found.timestamps) == len(found.frames) == len(decoded.frames.times)
    with np.load(root / "truth" / f"{clip.video_uid}.npz") as made:
        thing, camera = (
            PosePath.from_matrices(made["times"], made[f"T_world_{name}"]).held(found.timestamps)
            for name in ("object", "camera")
        )
    first = camera[0].inv()
    true = first * thing * (first * thing[0]).inv()
    poses = RigidTransform.from_components(found.position, Rotation.from_quat(found.rotation))
    ours = poses * poses[0].inv()
    shift = true.apply(found.position[0]) - ours.apply(found.position[0])
    if not with_poses:  # then the depth's error is the trajectory's scale
        shift = true.apply(found.position[0]) - found.position[0]
        moved = ours.apply(found.position[0]) - found.position[0]
        shift = shift - moved * (shift * moved).sum() / (moved**2).sum()
    turn = np.degrees((ours.rotation.inv() * true.rotation).magnitude())
    assert np.median(np.linalg.norm(shift, axis=-1)) < (0.01 if with_poses else 0.02)
    assert np.median(turn) < 3
    assert found.quality["clock_offset_s"] == pytest.approx(0.010 if with_poses else 0, abs=0.004)
    assert set(found.quality) <= set(quality.SCORES)


def test_points_stay_in_their_masks(decoded: Decoded, truth: Truth) -> None:
    thing = points.closeup(decoded, truth.masks, LucasKanade())
    background = points.around(points.overview(decoded, OVERVIEW), truth.masks)
    either = truth.masks.object | truth.masks.hand
    for tracks, allowed in ((thing, truth.masks.object), (background, ~either)):
        inside = []
        for t in range(len(tracks.visible)):
            x, y = np.rint(tracks.xy[t, tracks.visible[t]]).astype(int).T
            inside.append(allowed[t, y, x])
        assert np.concatenate(inside).mean() > 0.9
        assert np.concatenate(inside).size > 500


def test_no_mask_and_no_texture_are_rejections(decoded: Decoded) -> None:
    nothing = Masks.empty(decoded.images.shape)
    with pytest.raises(Rejection, match="empty in every frame"):
        points.closeup(decoded, nothing, LucasKanade())
    few = Tracks(np.zeros((9, 4, 2)), np.ones((9, 4), bool), np.zeros(4, int))
    with pytest.raises(Rejection, match="4 tracks on the object, 5 are needed") as caught:
        points.longest(few, 200, "the object")
    assert caught.value.reason == "too_few_tracks"


def test_relative_depth_is_scaled_by_what_the_camera_path_gives(
    decoded: Decoded, truth: Truth, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's values are the truth's inverse, scaled and shifted anew in each frame."""
    import torch

    steps = len(decoded.images)
    wave = np.sin(np.arange(steps) / 9)
    values = (1 / truth.maps - 0.3 - 0.05 * wave[:, None, None]) / (
        0.01 + 0.001 * wave[:, None, None]
    )
    maps = torch.from_numpy(values).float()
    monkeypatch.setattr(DepthNetwork, "_batches", lambda self, images: iter([(0, maps)]))
    network = DepthNetwork(weights / tiny_models.RELATIVE, Device("cpu"))
    whole = points.overview(decoded, OVERVIEW)
    scene, path = with_path(None, decoded.scene, whole)
    decoded = replace(decoded, scene=scene)
    thing = points.longest(points.closeup(decoded, truth.masks, LucasKanade()), 50, "it")
    background = points.longest(points.around(whole, truth.masks), 200, "the background")
    found = points.measured(decoded, thing, background, path, network, truth.masks, 20)
    t, n = np.nonzero(found.object.visible)
    x, y = np.rint(thing.xy[t, n]).astype(int).T
    error = found.object.depth[t, n] / truth.maps[t, y, x] - 1
    assert np.median(np.abs(error)) < 0.03
    t = int(np.argmax(truth.masks.object.sum((1, 2))))
    assert found.clouds[t].shape == (20, 3)
    assert np.median(found.clouds[t][:, 2]) == pytest.approx(
        np.median(truth.maps[t][truth.masks.object[t]]), rel=0.05
    )
    with pytest.raises(Rejection, match="relative depth needs recorded camera poses"):
        points.measured(decoded, thing, background, None, network, truth.masks, 0)


# Which box


def candidates(truth: Truth, every: int = 3) -> dict[int, list[Found]]:
    """Boxes of the moved thing, and of one that the detector likes better but that lies still."""
    still = np.array([20.0, 160.0, 70.0, 200.0])
    found = {}
    for t in range(0, len(truth.times), every):
        boxes = [Found(still + t * 0.1, 0.9, "box")]
        if truth.masks.object[t].any():
            boxes.append(Found(box_of(truth.masks.object[t]), 0.5, "box"))
        found[t] = boxes
    return found


def test_the_thing_that_moves_with_a_hand_is_chosen(decoded: Decoded, truth: Truth) -> None:
    hands = find.recorded_hands(decoded.scene)
    assert hands is not None
    background = points.overview(decoded, OVERVIEW).xy
    inside = np.ones(len(truth.times), bool)
    chain = Chooser().manipulated(candidates(truth), inside, hands, background, SIZE)
    assert chain is not None
    assert set(chain.scores.values()) == {0.5}
    drawn = chain.drawn(len(truth.times))
    error = [iou(drawn[t], box_of(truth.masks.object[t])) for t in range(len(drawn))
             if np.isfinite(drawn[t, 0]) and truth.masks.object[t].any()]  # fmt: skip
    assert np.median(error) > 0.7
    nobody = Hands(np.full((len(drawn), 2, 4), np.nan), np.zeros((len(drawn), 2, 0, 2)))
    chain = Chooser().manipulated(candidates(truth), inside, nobody, background, SIZE)
    assert set(chain.scores.values()) == {0.9}  # where no hand is known: what is seen best


def test_recorded_hands_are_where_the_picture_shows_them(decoded: Decoded, truth: Truth) -> None:
    hands = find.recorded_hands(decoded.scene)
    seen = np.isfinite(hands.boxes).all(-1)
    assert seen.any()
    for t, k in np.argwhere(seen):
        x0, y0, x1, y1 = np.rint(hands.boxes[t, k]).astype(int)
        assert truth.masks.hand[t, y0 : y1 + 1, x0 : x1 + 1].mean() > 0.1, (t, k)
    assert hands.tips.shape[:2] == seen.shape


def test_boxes_are_linked_and_drawn_between_frames() -> None:
    box = np.array([10.0, 10, 30, 30])
    far = box + 200
    chains = linked({0: [(box, 0.5), (far, 0.4)], 5: [(box + 4, 0.6)], 20: [(far, 0.9)]}, 0.2)
    assert [sorted(chain.boxes) for chain in chains] == [[0, 5], [0, 20]]
    assert chains[0].best == 5
    drawn = chains[0].drawn(8)
    assert drawn[:6, 0] == pytest.approx([10, 10.8, 11.6, 12.4, 13.2, 14])
    assert np.isnan(drawn[6:]).all()


def test_two_hands_keep_their_columns() -> None:
    left, right = np.array([0.0, 0, 50, 50]), np.array([300.0, 0, 350, 50])
    found = {t: [Found(right + t, 0.9, "hand"), Found(left, 0.8, "hand")] for t in (0, 5, 10)}
    found[15] = [Found(left + 5, 0.7, "hand")]
    hands = hands_of(found, 20)
    assert hands.boxes.shape == (20, 2, 4)
    assert hands.tips.shape == (20, 2, 0, 2)
    columns = {int(box[0] // 300): k for k, box in enumerate(hands.boxes[0])}
    assert np.isfinite(hands.boxes[:16, columns[0]]).all()
    assert np.isnan(hands.boxes[11:, columns[1]]).all()


def test_annotated_boxes_need_no_detector(
    rendered: tuple[Path, Clip], decoded: Decoded, truth: Truth, tmp_path: Path
) -> None:
    t = 20
    box = box_of(truth.masks.object[t])
    clip = replace(rendered[1], boxes=(Box(float(truth.times[t]), *box),))
    finder = Finder(Detector(tmp_path / "none", Device("cpu")))  # it would fail to load
    prompts = finder.find(clip, decoded, None, points.overview(decoded, OVERVIEW))
    assert np.flatnonzero(np.isfinite(prompts.object[:, 0])).tolist() == [t] == [prompts.start]
    assert iou(prompts.object[t], box) > 0.8
    assert prompts.hands.shape[2] == 4


def test_a_noun_that_nothing_shows_is_a_rejection(
    rendered: tuple[Path, Clip], decoded: Decoded, weights: Path
) -> None:
    finder = Finder(
        Detector(weights / tiny_models.DETECTOR, Device("cpu"), threshold=1.0), every=22
    )
    whole = points.overview(decoded, OVERVIEW)
    located = Located(0.0, 3.0, "cup", True, 1.0)
    with pytest.raises(Rejection, match="'cup' is seen in none of 2 frames looked at"):
        finder.find(rendered[1], decoded, located, whole)
    with pytest.raises(Rejection, match="no box of the thing is annotated"):
        finder.find(rendered[1], decoded, None, whole)


# Decoding


def test_the_next_clip_is_decoded_ahead(rendered: tuple[Path, Clip]) -> None:
    first, second, third = (replace(rendered[1], clip_id=f"{k:016}") for k in range(3))
    ahead = Ahead(Decoding(fps=5.0))
    for clip in (first, second, first):
        ahead.begin(clip)
    assert list(ahead._begun) == [first.clip_id, second.clip_id]
    now = Decoding(fps=5.0)(first)
    assert (ahead.take(first).images == now.images).all()
    ahead.begin(third)
    assert list(ahead._begun) == [second.clip_id, third.clip_id]
    ahead.begin(first)  # two clips' frames at most
    assert list(ahead._begun) == [third.clip_id, first.clip_id]
    assert (ahead.take(second).images == now.images).all()  # decoded once more
    ahead.begin(replace(second, video_path="missing.mp4", clip_id="f" * 16))
    with pytest.raises(MissingFileError):
        ahead.take(replace(second, clip_id="f" * 16))


@pytest.mark.parametrize("killer", ["", "2"])
def test_a_worker_decodes_one_clip_ahead_but_not_near_one_that_killed(
    killer: str, tmp_path: Path
) -> None:
    made = pipelines.clips(5)
    manifest.write(str(tmp_path / "manifest"), made, 1)
    where = Manifest(str(tmp_path / "manifest"))
    begun = job.begin(str(tmp_path / "shards"), where, "tests.noted:Noted", {})
    unit = work.Unit(0, "", "g")
    names = [clip.clip_id for clip in where.clips(0, "", "g")]
    if killer:
        claims = Claims(store(begun.out), 0, unit.first, unit.last)
        claims.enter("perceive", names[int(killer)])  # and its worker is never heard of again
    Noted.calls.clear()
    found = work.perceive(begun, unit)
    assert {one.outcome.label for one in found} == {"noted"}
    near = {int(killer), int(killer) - 1} if killer else set()
    wanted = []
    for k, name in enumerate(names):
        wanted += [f"ahead {after}" for after in names[k + 1 : k + 2] if k not in near]
        wanted += [name] * (str(k) != killer)  # which is run in a process of its own
    assert Noted.calls == wanted


def test_surroundings_are_left_out_where_nothing_was_recorded_of_them(
    rendered: tuple[Path, Clip],
) -> None:
    end = rendered[1].t_end
    tight = replace(rendered[1], interval="annotated", t_start=1.5, t_end=end - 1.0)

    def begins(clip: Clip) -> float:
        """The first time looked at, by what needs the camera's path."""

        def look(asked: Clip) -> float:
            decoded = Decoding(fps=10.0)(asked)
            scene, _ = with_path(asked, decoded.scene, points.overview(decoded, OVERVIEW))
            return float(scene.times[0])

        return with_surroundings(clip, widened(clip, 1.0, 0.3, 10.0), look)

    assert begins(tight) == pytest.approx(0.5, abs=0.05)
    assert begins(replace(tight, interval="whole")) == pytest.approx(1.5, abs=0.05)

    def recording(asked: Clip) -> Recording:
        whole = egodex.recording(asked)
        late = whole.path.times > 2.2  # the poses begin long after the lead does
        return replace(whole, path=PosePath(whole.path.times[late], whole.path.poses[late]))

    corpora.CORPORA["late"] = Corpus(egodex.index, recording)
    try:
        late = replace(tight, corpus="late", t_start=1.9, t_end=end - 0.5)
        assert begins(late) == pytest.approx(1.9, abs=0.05)
        with pytest.raises(AnnotationError):
            begins(replace(late, t_start=1.0))
    finally:
        del corpora.CORPORA["late"]


def test_a_trajectory_has_the_steps_of_its_interval(decoded: Decoded) -> None:
    asked = decoded.asked((1.0, 2.0))
    assert asked.steps == pytest.approx(np.arange(1.0, 1.95, 0.1))
    assert len(asked.frames) == 10
    with pytest.raises(Rejection, match="1 steps, two are needed") as caught:
        decoded.asked((1.0, 1.05))
    assert caught.value.reason == "too_short"


# The whole, with tiny networks


def test_weights_that_are_missing_are_one_line_before_anything_begins(
    rendered: tuple[Path, Clip], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest.write(str(tmp_path / "manifest"), [rendered[1]], 1)
    half = Path(shutil.copytree(weights, tmp_path / "weights"))
    shutil.rmtree(half / tiny_models.VIDEO)
    code = cli.main([
        "extract", "--perception", "learned", "--option", f"weights={half}", "--manifest",
        str(tmp_path / "manifest"), "--out", str(tmp_path / "shards"),
    ])  # fmt: skip
    line = capsys.readouterr().err
    assert code == 1
    assert line.count("\n") == 1
    assert line.startswith("egoscaler: no weights of facebook/sam2.1-hiera-base-plus: looked in ")
    assert line.endswith(f"run: egoscaler weights --fetch --weights {half}\n")
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"detector": "sam-vit-base"}, "no weights 'sam-vit-base' to detect with"),
        ({"segmenter": "/none/sam_vit_b.pth"}, "segmenter=/none/sam_vit_b.pth: no such file"),
        ({"localizer": "gpt"}, "localizer=gpt: annotated or endpoint"),
        ({"hands": "feet"}, "hands=feet: detector or mediapipe"),
        ({"tracker": "raft"}, "tracker=raft"),
        ({"half": "int8"}, "half=int8"),
        ({"batch": 0}, "must be 1 or more"),
        ({"colour": "red"}, "colour"),
        ({"localizer": "endpoint", "endpoint": {"modell": "gpt-4o"}}, "modell"),
    ],
)
def test_options_that_are_none_are_one_line(option: dict, line: str, weights: Path) -> None:
    with pytest.raises(UserError, match=line):
        load("learned", {"weights": str(weights), **option})


def test_every_clip_ends_in_one_of_the_ways_there_are(weights: Path, tmp_path: Path) -> None:
    egodex_files.recording(tmp_path, frames=60)
    (clip,) = egodex.index(str(tmp_path))
    nameless = replace(clip, object="", narration="does something")
    pipeline = load("learned", {"weights": str(weights), "fps": 10, "tracker": "lk"})

    def end(one: Clip) -> str:
        try:
            pipeline.solve(one, pipeline.perceive(one))
        except Rejection as rejection:
            return rejection.reason
        return "ok"

    with pytest.raises(MissingFileError):
        pipeline.perceive(replace(clip, video_path="none.mp4"))
    assert end(nameless) == "not_localised"
    assert end(replace(nameless, boxes=(Box(1.0, 60, 30, 120, 80),))) != "not_localised"
    assert end(clip)


@pytest.mark.parametrize("segmenter", [tiny_models.VIDEO, tiny_models.FRAMES])
def test_the_stages_run_in_their_shapes(
    segmenter: str, rendered: tuple[Path, Clip], weights: Path
) -> None:
    pipeline = LearnedPipeline(
        weights=str(weights), segmenter=segmenter, fps=5.0, tracker="lk", device="cpu"
    )
    clip = rendered[1]
    decoded = pipeline._ahead.take(clip)
    steps, height, width = decoded.images.shape[:3]
    whole = points.overview(decoded, pipeline._trackers[1])
    prompts = pipeline._finder.find(clip, decoded, pipeline._located(clip, decoded), whole)
    assert prompts.object.shape == (steps, 4)
    assert prompts.known[prompts.start, 0]
    masks = pipeline._masker.masks(decoded.images, prompts)
    assert masks.object.shape == masks.hand.shape == (steps, height, width)
    found = points.measured(decoded, whole, whole, None, pipeline._network, masks, 30)
    assert found.object.depth.shape == whole.visible.shape
    assert np.isfinite(found.object.depth[whole.visible]).all()
    assert len(found.clouds) == steps
    assert max(map(len, found.clouds)) == 30
