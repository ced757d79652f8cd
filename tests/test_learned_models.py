"""The networks, tiny and random: the same code path as real checkpoints, beside an oracle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="perception with weights is not installed")
transformers = pytest.importorskip("transformers", reason="likewise")

from ego_ops.errors import Rejection, UserError  # noqa: E402
from ego_ops.perception.learned import detect  # noqa: E402
from ego_ops.perception.learned.depth import DepthNetwork  # noqa: E402
from ego_ops.perception.learned.depth_scale import DepthScale, ScaleFit  # noqa: E402
from ego_ops.perception.learned.detect import Detector, iou  # noqa: E402
from ego_ops.perception.learned.device import Device  # noqa: E402
from ego_ops.perception.learned.images import Preparation  # noqa: E402
from ego_ops.perception.learned.segment import Prompts, Sam  # noqa: E402
from ego_ops.perception.learned.segment_video import SamVideo  # noqa: E402
from ego_ops.perception.tracks import Tracks  # noqa: E402
from tests import tiny_models  # noqa: E402

CPU = Device("cpu")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write(tmp_path_factory.mktemp("weights"), *tiny_models.MAKERS)


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """Five frames of blurred noise that drifts, 90 x 120."""
    random = np.random.default_rng(3)
    coarse = torch.from_numpy(random.uniform(0, 255, (1, 3, 14, 18))).float()
    wide = torch.nn.functional.interpolate(coarse, (110, 140), mode="bicubic").clamp(0, 255)
    image = wide[0].permute(1, 2, 0).numpy().astype(np.uint8)
    return np.stack([image[2 * t : 2 * t + 90, 3 * t : 3 * t + 120] for t in range(5)])


def boxes(steps: int, *given: tuple[int, list[float]]) -> NDArray[np.float64]:
    found = np.full((steps, 4), np.nan)
    for t, box in given:
        found[t] = box
    return found


def prompts(steps: int = 5, hands: bool = True) -> Prompts:
    thing = boxes(steps, *[(t, [20 + t, 15, 70 + t, 60]) for t in range(steps)])
    hand = boxes(steps, *[(t, [50, 30 + t, 110, 85]) for t in range(1, steps)])
    return Prompts(thing, hand[:, None] if hands else np.zeros((steps, 0, 4)))


# Pictures for the networks


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("GroundingDinoImageProcessorPil", {}),
        ("GroundingDinoImageProcessorPil", {"size": {"shortest_edge": 90, "longest_edge": 100}}),
        ("SamImageProcessorPil", {}),
        ("DPTImageProcessorPil", {"size": {"height": 518, "width": 518}, "keep_aspect_ratio": True,
                                  "ensure_multiple_of": 14}),
        ("DPTImageProcessorPil", {"size": {"height": 100, "width": 70}}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(90, 120), (120, 90), (97, 211)])
def test_pictures_are_prepared_as_transformers_prepares_them(
    kind: str, settings: dict, shape: tuple[int, int], tmp_path: Path
) -> None:
    oracle = getattr(transformers, kind)(**settings)
    oracle.save_pretrained(tmp_path)
    # Neither black nor white, which PIL would cut overshoots at once more, between its passes.
    image = np.random.default_rng(0).integers(80, 170, (*shape, 3)).astype(np.uint8)
    wanted = oracle(images=[image], return_tensors="pt")["pixel_values"]
    ours = Preparation.read(tmp_path)(CPU.upload(image[None]), torch.float32)
    assert ours.shape == wanted.shape
    assert (ours - wanted).abs().max() < 2.1 / 255 / 0.22  # two grey levels
    assert (ours - wanted).abs().mean() < 0.35 / 255 / 0.22  # PIL rounds after each pass


def test_an_unknown_way_to_prepare_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    with pytest.raises(UserError, match=r"preprocessor_config\.json: cannot be read"):
        Preparation.read(tmp_path)
    path.write_text('{"size": {"shortest_edge": 10}, "image_mean": [0, 0, 0], "image_std": [1]}')
    with pytest.raises(UserError, match="a size of"):
        Preparation.read(tmp_path)


# Boxes


def test_boxes_are_those_of_the_networks_own_processor(
    weights: Path, pictures: NDArray[np.uint8]
) -> None:
    folder = weights / tiny_models.DETECTOR
    found = Detector(folder, CPU, threshold=0.0, overlap=1.1).boxes(
        pictures[:2], ["Red cup", "hand"]
    )
    processor = transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessorPil.from_pretrained(folder),
        transformers.AutoTokenizer.from_pretrained(folder),
    )
    network = transformers.GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    given = processor(images=list(pictures[:2]), text=["red cup. hand."] * 2, return_tensors="pt")
    with torch.no_grad():
        output = network(**given)
    wanted = processor.post_process_grounded_object_detection(
        output, given["input_ids"], 0.0, 0.0, target_sizes=[(90, 120)] * 2
    )
    for ours, theirs in zip(found, wanted, strict=True):
        assert len(ours) == network.config.num_queries
        ours_boxes = np.array([one.box for one in ours])
        order = np.argsort(-theirs["scores"].numpy(), kind="stable")
        edges = np.clip(theirs["boxes"].numpy()[order], 0, [120, 90, 120, 90])
        near = [np.abs(edges - box - 0.5).max(1).min() for box in ours_boxes]
        assert max(near) < 0.5  # the preparation's rounding moves a box a little
        assert {one.phrase for one in ours} <= {"Red cup", "hand"}


def test_a_batch_of_boxes_is_what_single_pictures_give(
    weights: Path, pictures: NDArray[np.uint8]
) -> None:
    folder = weights / tiny_models.DETECTOR
    whole = Detector(folder, CPU, batch=8, threshold=0.0).boxes(pictures, ["cup", "hand"])
    single = Detector(folder, CPU, batch=1, threshold=0.0).boxes(pictures, ["cup", "hand"])
    assert len(whole) == 5
    for a, b in zip(whole, single, strict=True):
        assert [one.phrase for one in a] == [one.phrase for one in b]
        assert np.allclose([one.box for one in a], [one.box for one in b], atol=0.01)
        assert [one.score for one in a] == sorted((one.score for one in a), reverse=True)


def test_phrases_are_asked_for_in_the_networks_form() -> None:
    assert (
        detect.prompt([detect._plain("A Red  Cup. "), detect._plain("hand?")]) == "a red cup. hand."
    )
    tokens = ["[CLS]", "red", "[UNK]", ".", "hand", ".", "[SEP]", "[PAD]"]
    assert detect._spans(tokens) == [[1, 2], [4]]


def test_each_token_speaks_for_its_own_phrase() -> None:
    scores = torch.tensor([[[0.0, 0.1, 0.9, 0.0, 0.4, 0.0]]])
    assert detect._by_phrase(scores, [[1, 2], [4]]).tolist() == [
        [[pytest.approx(0.9), pytest.approx(0.4)]]
    ]


def test_a_box_twice_is_one_box(weights: Path) -> None:
    detector = Detector(weights / tiny_models.DETECTOR, CPU, threshold=0.3)
    box = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.52], [0.2, 0.2, 0.1, 0.1]])
    scores = torch.tensor([[0.5, 0.1], [0.9, 0.1], [0.2, 0.8]])
    (found,) = detector._kept(scores[None], box[None], ["cup", "hand"], (90, 120))
    assert [(one.phrase, round(one.score, 2)) for one in found] == [("cup", 0.9), ("hand", 0.8)]
    assert found[1].box == pytest.approx([17.5, 13, 29.5, 22])
    assert iou(found[0].box, found[0].box) == pytest.approx(1)
    assert iou(found[0].box, found[1].box) == pytest.approx(0, abs=1e-6)


def test_nothing_to_look_for_is_an_error(weights: Path, pictures: NDArray[np.uint8]) -> None:
    with pytest.raises(UserError, match="nothing to look for"):
        Detector(weights / tiny_models.DETECTOR, CPU).boxes(pictures, ["cup", " . "])


# Masks


def test_masks_are_those_of_the_networks_own_processor(
    weights: Path, pictures: NDArray[np.uint8]
) -> None:
    folder = weights / tiny_models.FRAMES
    asked = prompts(hands=False)
    found = Sam(folder, CPU).masks(pictures, asked)
    processor = transformers.SamImageProcessorPil.from_pretrained(folder)
    network = transformers.SamModel.from_pretrained(folder).eval()
    given = processor(list(pictures), return_tensors="pt")
    scale = tiny_models.SIDE / 120  # of a picture whose longer side is 120
    placed = torch.from_numpy((asked.object + 0.5) * scale - 0.5).float()[:, None]
    with torch.no_grad():
        output = network(given["pixel_values"], input_boxes=placed, multimask_output=False)
    wanted = processor.post_process_masks(
        output.pred_masks, given["original_sizes"], given["reshaped_input_sizes"],
        pad_size={"height": tiny_models.SIDE, "width": tiny_models.SIDE},
    )  # fmt: skip
    theirs = np.stack([mask[0, 0].numpy() for mask in wanted])
    assert 0.02 < theirs.mean() < 0.98
    assert (found.object == theirs).mean() > 0.97
    assert not found.hand.any()


@pytest.mark.parametrize("kind", [Sam, SamVideo])
def test_a_batch_of_masks_is_what_single_pictures_give(
    kind: type, weights: Path, pictures: NDArray[np.uint8]
) -> None:
    folder = weights / (tiny_models.FRAMES if kind is Sam else tiny_models.VIDEO)
    whole = kind(folder, CPU, batch=4).masks(pictures, prompts())
    single = kind(folder, CPU, batch=1).masks(pictures, prompts())
    assert whole.object.shape == pictures.shape[:3]
    assert (whole.object == single.object).mean() > 0.999
    assert (whole.hand == single.hand).mean() > 0.999
    assert not (whole.object & whole.hand).any()


def test_the_hand_is_cut_out_of_the_object(weights: Path, pictures: NDArray[np.uint8]) -> None:
    sam = Sam(weights / tiny_models.FRAMES, CPU)
    alone, both = sam.masks(pictures, prompts(hands=False)), sam.masks(pictures, prompts())
    assert (both.object == alone.object & ~both.hand).all()
    assert both.hand[1:].any()
    assert not both.hand[0].any()  # no box of it there


def test_sam_draws_nothing_where_there_is_no_box(
    weights: Path, pictures: NDArray[np.uint8]
) -> None:
    asked = Prompts(boxes(5, (2, [20, 15, 70, 60])), np.zeros((5, 0, 4)))
    found = Sam(weights / tiny_models.FRAMES, CPU).masks(pictures, asked)
    assert [mask.any() for mask in found.object] == [False, False, True, False, False]
    assert (
        not SamVideo(weights / tiny_models.VIDEO, CPU)
        .masks(pictures, Prompts(boxes(5), boxes(5)[:, None]))
        .object.any()
    )


@pytest.mark.parametrize("start", [0, 2, 4])
def test_sam_2_follows_a_box_both_ways_as_its_own_loop_does(
    start: int, weights: Path, pictures: NDArray[np.uint8]
) -> None:
    folder = weights / tiny_models.VIDEO
    box = [20.0, 15.0, 70.0, 60.0]
    asked = Prompts(boxes(5, (start, box)), np.zeros((5, 0, 4)))
    found = SamVideo(folder, CPU, batch=2).masks(pictures, asked)
    logits = _propagated(folder, pictures, start, box)
    ours = found.object
    for t in range(5):
        assert (ours[t] == (logits[t] > 0)).mean() > 0.995, t
    assert ours.any()


def _propagated(folder: Path, pictures: NDArray[np.uint8], start: int, box: list[float]) -> list:
    """Logits by transformers' own session and iterator, forwards and then backwards."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    network = transformers.Sam2VideoModel.from_pretrained(folder).eval()
    frames = Preparation.square(tiny_models.SIDE)(CPU.upload(pictures), torch.float32)
    session = Sam2VideoInferenceSession(
        video=frames, video_height=90, video_width=120, dtype=torch.float32
    )
    scale = np.array([tiny_models.SIDE / 120, tiny_models.SIDE / 90] * 2)
    corners = torch.tensor((np.array(box) + 0.5) * scale - 0.5).float().reshape(1, 1, 2, 2)
    session.add_point_inputs(
        session.obj_id_to_idx(1), start,
        {"point_coords": corners, "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32)},
    )  # fmt: skip
    session.obj_with_new_inputs = [1]
    found = {}
    for reverse in (False, True):
        for given in network.propagate_in_video_iterator(session, start, reverse=reverse):
            if reverse and given.frame_idx == start:
                continue
            found[given.frame_idx] = torch.nn.functional.interpolate(
                given.pred_masks, (90, 120), mode="bilinear"
            )[0, 0].numpy()
    return [found[t] for t in range(5)]


# Depth


def tracks(steps: int, *points: list[float]) -> Tracks:
    xy = np.tile(np.array(points), (steps, 1, 1)).astype(float)
    return Tracks(xy, np.ones(xy.shape[:2], bool), np.zeros(len(points), int))


def test_depth_is_that_of_the_networks_own_processor(
    weights: Path, pictures: NDArray[np.uint8]
) -> None:
    folder = weights / tiny_models.METRIC
    network = DepthNetwork(folder, CPU, batch=2)
    assert network.metric
    assert not DepthNetwork(weights / tiny_models.RELATIVE, CPU).metric
    maps = list(network.maps(pictures))
    assert [at for at, _ in maps] == [0, 2, 4]
    ours = np.concatenate([part for _, part in maps])
    assert ours.dtype == np.float32
    processor = transformers.DPTImageProcessorPil.from_pretrained(folder)
    oracle = transformers.DepthAnythingForDepthEstimation.from_pretrained(folder).eval()
    with torch.no_grad():
        output = oracle(**processor(list(pictures), return_tensors="pt"))
    wanted = processor.post_process_depth_estimation(output, target_sizes=[(90, 120)] * 5)
    theirs = np.stack([one["predicted_depth"].numpy() for one in wanted])
    assert ours.shape == theirs.shape
    # The oracle enlarges a map with another filter: what is compared is the maps, not their edges.
    assert np.median(np.abs(ours / theirs - 1)) < 0.01
    assert ours.std() > 0.1 * ours.mean()  # there is something to compare


def test_depth_is_read_where_the_points_are(
    weights: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = DepthNetwork(weights / tiny_models.METRIC, CPU, batch=2)
    ramp = torch.arange(8.0).repeat(4, 1)[None]  # 8 columns for 120 pixels: 15 pixels each
    monkeypatch.setattr(
        DepthNetwork, "_batches", lambda self, images: ((t, ramp + t) for t in range(len(images)))
    )
    seen = tracks(5, [0.0, 0.0], [14.4, 50.0], [14.6, 50.0], [119.0, 89.0], [60.0, 45.0])
    seen.visible[3, 4] = False
    seen.xy[3, 4] = np.nan
    mask = np.zeros((5, 90, 120), bool)
    mask[1, 10:20, 30:45] = True
    values, spread = network.sample(pictures, seen, mask, 50)
    assert values[0].tolist() == [0, 0, 1, 7, 4]
    assert values[2].tolist() == [2, 2, 3, 9, 6]
    assert np.isnan(values[3, 4])
    assert [len(part) for part in spread] == [0, 50, 0, 0, 0]
    assert (spread[1][:, 2] == 3).all()
    assert mask[1][spread[1][:, 1].astype(int), spread[1][:, 0].astype(int)].all()


def test_a_batch_of_depth_is_what_single_pictures_give(
    weights: Path, pictures: NDArray[np.uint8]
) -> None:
    seen = tracks(5, [10.0, 20.0], [100.0, 80.0])
    for name in (tiny_models.METRIC, tiny_models.RELATIVE):
        whole, _ = DepthNetwork(weights / name, CPU, batch=5).sample(pictures, seen)
        single, _ = DepthNetwork(weights / name, CPU, batch=1).sample(pictures, seen)
        assert np.allclose(whole, single, rtol=1e-4)


# Scale of relative depth


def relative_scene(
    steps: int = 40, points: int = 60, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A network's values (T, N), true depths, and the true scale and shift (T,), which sway."""
    random = np.random.default_rng(seed)
    depth = random.uniform(0.3, 1.5, points) + np.zeros((steps, 1))
    wave = np.sin(np.arange(steps) / 6)
    scale, shift = 0.02 * (1 + 0.1 * wave), 0.4 + 0.05 * wave
    return (1 / depth - shift[:, None]) / scale[:, None], depth, scale, shift


def test_scale_and_shift_of_exact_values_are_found() -> None:
    value, depth, scale, shift = relative_scene()
    found = ScaleFit().fit(value, depth)
    assert found.depth(value) == pytest.approx(depth, rel=0.02)
    assert found.scale == pytest.approx(scale, rel=0.06)
    assert found.shift == pytest.approx(shift, rel=0.06)
    steady, depth, _, _ = relative_scene(steps=1)
    assert ScaleFit().fit(steady, depth).depth(steady) == pytest.approx(depth, rel=1e-4)


def test_wrong_and_missing_points_hardly_change_the_scale() -> None:
    value, depth, _, _ = relative_scene()
    random = np.random.default_rng(1)
    known = depth * random.normal(1, 0.02, depth.shape)
    known[:, :20] = random.uniform(0.1, 6, (len(depth), 20))  # a third is wrong
    known[12:20] = np.nan  # and some frames show none
    found = ScaleFit().fit(value, known).depth(value)
    error = np.abs(found / depth - 1)
    assert np.median(error) < 0.015
    assert np.median(error[12:20]) < 0.05
    assert error[:, 20:].max() < 0.15


def test_what_lies_at_infinity_or_behind_has_no_depth() -> None:
    scale = DepthScale(np.array([0.5, 0.5]), np.array([-1.0, 0.0]))
    assert scale.depth(np.array([[4.0, 2.0, 1.0]] * 2)) == pytest.approx(
        np.array([[1, np.nan, np.nan], [0.5, 1, 2]]), nan_ok=True
    )


def test_too_few_known_points_are_a_rejection() -> None:
    value, depth, _, _ = relative_scene(steps=3)
    known = np.full_like(depth, np.nan)
    known[0, :7] = depth[0, :7]
    with pytest.raises(Rejection, match="7 points of known depth, 8 are needed"):
        ScaleFit().fit(value, known)


def test_the_scale_takes_time_linear_in_frames() -> None:
    def seconds(steps: int) -> float:
        value, depth, _, _ = relative_scene(steps)
        begun = time.perf_counter()
        ScaleFit().fit(value, depth)
        return time.perf_counter() - begun

    assert min(seconds(1600) for _ in range(3)) < 12 * min(seconds(200) for _ in range(3)) + 0.05


# Devices and checkpoints


def test_a_process_loads_a_network_once(weights: Path) -> None:
    folder = weights / tiny_models.METRIC
    kind = "DepthAnythingForDepthEstimation"
    first = CPU.load(kind, folder)
    assert Device("cpu", half="bfloat16").load(kind, folder) is first
    assert not first.training
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in first.parameters())


def test_inference_keeps_to_its_threads() -> None:
    before = torch.get_num_threads()
    try:
        with Device("cpu", threads=1).inference():
            assert torch.get_num_threads() == 1
            assert torch.is_inference_mode_enabled()
    finally:
        torch.set_num_threads(before)


def test_devices_and_precisions_that_are_not_there() -> None:
    with pytest.raises(UserError, match="device=abacus"):
        _ = Device("abacus").device
    with pytest.raises(UserError, match="device=cuda:99: there is no such GPU"):
        _ = Device("cuda:99").device
    with pytest.raises(UserError, match="half=int3"):
        Device(half="int3")


def test_a_checkpoint_of_another_network_is_one_clear_line(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded as SamModel"):
        CPU.load("SamModel", tmp_path)
    other = weights / tiny_models.METRIC
    with pytest.raises(UserError, match=str(other)):
        CPU.load("SamModel", other)


@dataclass(frozen=True)
class HalfPrecision(Device):
    """The CPU with a GPU's precision, for what must not mix with it."""

    @property
    def dtype(self) -> torch.dtype:
        return torch.float16


def test_in_half_precision_results_are_nearly_the_same(
    weights: Path, pictures: NDArray[np.uint8]
) -> None:
    half = HalfPrecision("cpu")
    folder = weights / tiny_models.METRIC
    seen = tracks(5, [10.0, 20.0], [100.0, 80.0])
    ours, theirs = (DepthNetwork(folder, one).sample(pictures, seen)[0] for one in (half, CPU))
    assert ours == pytest.approx(theirs, rel=0.01)
    assert (ours != theirs).any()
    for kind, name in ((Sam, tiny_models.FRAMES), (SamVideo, tiny_models.VIDEO)):
        masks = [kind(weights / name, one).masks(pictures, prompts()) for one in (half, CPU)]
        assert (masks[0].object == masks[1].object).mean() > 0.98
        assert (masks[0].hand == masks[1].hand).mean() > 0.98
    folder = weights / tiny_models.DETECTOR
    found = [Detector(folder, one, threshold=0.0).boxes(pictures, ["cup"]) for one in (half, CPU)]
    for a, b in zip(*found, strict=True):
        assert a[0].score == pytest.approx(b[0].score, abs=0.01)
    network = half.load("GroundingDinoForObjectDetection", folder, full=True)
    assert network.dtype == torch.float32


@GPU
def test_on_a_gpu_weights_are_halves_and_results_nearly_the_same(
    weights: Path, pictures: NDArray[np.uint8]
) -> None:
    seen = tracks(5, [10.0, 20.0], [100.0, 80.0])
    gpu = Device("cuda")
    folder = weights / tiny_models.METRIC
    network = gpu.load("DepthAnythingForDepthEstimation", folder)
    assert {(p.dtype, p.device.type) for p in network.parameters()} == {(torch.float16, "cuda")}
    ours, _ = DepthNetwork(folder, gpu).sample(pictures, seen)
    assert np.allclose(ours, DepthNetwork(folder, CPU).sample(pictures, seen)[0], rtol=0.02)
    for kind, name in ((Sam, tiny_models.FRAMES), (SamVideo, tiny_models.VIDEO)):
        masks = [kind(weights / name, where).masks(pictures, prompts()) for where in (gpu, CPU)]
        assert (masks[0].object == masks[1].object).mean() > 0.95
    detector = [Detector(weights / tiny_models.DETECTOR, w, threshold=0.0) for w in (gpu, CPU)]
    found = [one.boxes(pictures[:1], ["cup"])[0][0] for one in detector]
    assert found[0].score == pytest.approx(found[1].score, abs=0.02)
