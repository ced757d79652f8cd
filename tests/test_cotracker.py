"""CoTracker through torch.hub, with a hub folder whose small network really tracks.

The network has the published interface (`facebookresearch/co-tracker`: `hubconf.py`,
`predictor.py`): a predictor that takes a video of floats 0 to 255 and queries (t, x, y), scales
both to a size of its own, follows points forward, and backward on the reversed video.
"""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ego_ops.errors import UserError
from ego_ops.perception.learned.device import Device
from ego_ops.perception.learned.track import CoTracker, best_tracker
from ego_ops.perception.learned.track_windows import spans
from ego_ops.perception.track_lk import LucasKanade
from ego_ops.perception.tracks import Tracks

HUBCONF = '''
"""Template matching as a network: a 1 x 1 convolution, then normalised correlation."""

import json
import os

import torch
import torch.nn.functional as F

dependencies = ["torch"]
HERE = os.path.dirname(os.path.abspath(__file__))
HALF, SEARCH, LEAST = 5, 5, 0.85


def cut(maps, x, y, half):
    """(n, k, k) patches of one map (h, w) around (n,) places."""
    height, width = maps.shape
    step = torch.arange(-half, half + 1, dtype=torch.float32)
    gx = (x[:, None, None] + step[None, None, :]).expand(-1, len(step), -1)
    gy = (y[:, None, None] + step[None, :, None]).expand(-1, -1, len(step))
    grid = torch.stack((2 * gx / (width - 1) - 1, 2 * gy / (height - 1) - 1), -1)
    lifted = maps[None, None].expand(len(x), 1, height, width)
    return F.grid_sample(lifted, grid, align_corners=True, padding_mode="zeros")[:, 0]


def whiten(patches):
    flat = patches - patches.mean(-1, keepdim=True)
    return flat / (flat.norm(dim=-1, keepdim=True) + 1e-3)


def peak(scores):
    """Height of the best of (n, s, s), and (n, 2) where it is, to a part of a pixel."""
    count, size, _ = scores.shape
    best, at = scores.reshape(count, -1).max(-1)
    row, column = at // size, at % size
    who = torch.arange(count)

    def between(low, mid, high):
        bend = low - 2 * mid + high
        return torch.where(bend < -1e-6, 0.5 * (low - high) / bend, torch.zeros_like(bend))

    r, c = row.clamp(1, size - 2), column.clamp(1, size - 2)
    dy = between(scores[who, r - 1, c], scores[who, r, c], scores[who, r + 1, c])
    dx = between(scores[who, r, c - 1], scores[who, r, c], scores[who, r, c + 1])
    inner = (r == row) & (c == column)
    x, y = column + torch.where(inner, dx, 0.0), row + torch.where(inner, dy, 0.0)
    return best, torch.stack((x, y), -1) - size // 2


class Matcher(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 1, 1)
        torch.nn.init.zeros_(self.mix.weight)
        torch.nn.init.zeros_(self.mix.bias)

    def forward(self, video, queries, iters=4):
        maps = self.mix(video[0] / 255)[:, 0].float()
        born, xy = queries[0, :, 0].long(), queries[0, :, 1:].clone()
        tracks = xy.repeat(len(maps), 1, 1)
        seen = torch.zeros(len(maps), len(xy))
        template = torch.zeros(len(xy), (2 * HALF + 1) ** 2)
        for t in range(len(maps)):
            new = born == t
            if new.any():
                template[new] = whiten(cut(maps[t], *xy[new].T, HALF).flatten(1))
                seen[t, new] = 1.0
            old = (born < t).nonzero()[:, 0]
            if len(old):
                around = cut(maps[t], *xy[old].T, HALF + SEARCH)
                windows = F.unfold(around[:, None], 2 * HALF + 1).transpose(1, 2)
                scores = (whiten(windows) @ template[old][..., None])[..., 0]
                best, shift = peak(scores.view(len(old), 2 * SEARCH + 1, -1))
                found = best > LEAST
                xy[old[found]] += shift[found]
                seen[t, old] = found.float()
            tracks[t] = xy
        return tracks[None], seen[None], seen[None], None


class Predictor(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Matcher()
        self.interp_shape = (144, 192)

    @torch.no_grad()
    def forward(self, video, queries=None, backward_tracking=False):
        batch, steps, channels, height, width = video.shape
        low, high = float(video.min()), float(video.max())
        with open(os.path.join(HERE, "calls.jsonl"), "a") as file:
            call = {"steps": steps, "points": queries.shape[1], "low": low, "high": high,
                    "dtype": str(video.dtype), "shape": [batch, channels, height, width]}
            file.write(json.dumps(call) + "\\n")
        rows, columns = self.interp_shape
        scale = torch.tensor([(columns - 1) / (width - 1), (rows - 1) / (height - 1)])
        small = F.interpolate(video[0], (rows, columns), mode="bilinear", align_corners=True)[None]
        asked = queries.clone()
        asked[..., 1:] *= scale
        tracks, seen, *_ = self.model(video=small, queries=asked, iters=6)
        if backward_tracking:
            back = asked.clone()
            back[..., 0] = steps - 1 - back[..., 0]
            found, visible, *_ = self.model(video=small.flip(1), queries=back, iters=6)
            before = torch.arange(steps)[None, :, None] < asked[:, None, :, 0]
            tracks = torch.where(before[..., None], found.flip(1), tracks)
            seen = torch.where(before, visible.flip(1), seen)
        return tracks / scale, seen > 0.9


def cotracker3_offline(*, pretrained=True, **kwargs):
    with open(os.path.join(HERE, "loads.jsonl"), "a") as file:
        file.write(json.dumps(pretrained) + "\\n")
    predictor = Predictor()
    if pretrained:
        torch.nn.init.constant_(predictor.model.mix.weight, 1 / 3)
    return predictor
'''
SIZE = (192, 256)
SHIFT = (1.7, -0.9)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "co-tracker"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """What makes the network see: without it, its convolution is zero."""
    file = tmp_path / "scaled_offline.pth"
    torch.save({"mix.weight": torch.full((1, 3, 1, 1), 1 / 3), "mix.bias": torch.zeros(1)}, file)
    return file


def tracker(hub: Path, **options: object) -> CoTracker:
    settings: dict = {"every": 10, "most": 30, "device": Device("cpu"), **options}
    return CoTracker(hub=str(hub), **settings)


def calls(hub: Path) -> list[dict]:
    return [json.loads(line) for line in (hub / "calls.jsonl").read_text().splitlines()]


def film(steps: int, shift: tuple[float, float] = SHIFT, colour: bool = True) -> np.ndarray:
    """(T, H, W, 3) a textured plane that moves by `shift` pixels a frame, there and back."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (SIZE[0] + 80, SIZE[1] + 80, 3)).astype(np.uint8)
    wide = cv2.normalize(cv2.GaussianBlur(wide, (0, 0), 4.0), None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for x, y in offsets(steps, shift):
        move = np.array([[1, 0, x - 40], [0, 1, y - 40]], float)
        frames.append(cv2.warpAffine(wide, move, SIZE[::-1], flags=cv2.INTER_CUBIC))
    images = np.stack(frames)
    return images if colour else np.stack([cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in images])


def offsets(steps: int, shift: tuple[float, float] = SHIFT) -> np.ndarray:
    """(T, 2) where the plane is: a triangle wave, so that it stays in the picture."""
    swing = np.abs((np.arange(steps) + 10) % 40 - 20) - 10
    return swing[:, None] * np.array(shift)


def grid(*starts: int) -> np.ndarray:
    """(N, 3) queries in each of the frames `starts`, where the plane never leaves the picture."""
    x, y = np.meshgrid(np.linspace(45, 210, 6), np.linspace(40, 150, 4))
    places = np.column_stack([x.ravel(), y.ravel()])
    return np.concatenate([np.insert(places, 0, start, axis=1) for start in starts])


def inner(steps: int) -> np.ndarray:
    """(T, H, W) away from the border, past which a template knows nothing."""
    where = np.zeros((steps, *SIZE), bool)
    where[:, 30:-30, 40:-40] = True
    return where


def misses(found: Tracks, where: np.ndarray) -> np.ndarray:
    """(T, N) pixels off the truth, NaN where not visible, of points that move along (T, 2)."""
    begun = found.xy[found.start, np.arange(found.count)]
    truth = begun + where[:, None] - where[found.start]
    return np.linalg.norm(found.xy - truth, axis=-1)


# What comes out


def test_points_of_every_keyframe_are_followed_both_ways(hub: Path) -> None:
    found = tracker(hub).track(film(24), inner(24))
    assert set(found.start) == {0, 10, 20}
    off = misses(found, offsets(24))
    assert found.visible.mean() > 0.9
    assert np.nanmedian(off) < 0.3
    assert np.nanpercentile(off, 95) < 1.0
    # Before the frame that they were chosen in, too.
    late = found.start == 20
    assert found.visible[0, late].mean() > 0.8
    assert np.nanmedian(off[0, late]) < 0.5
    np.testing.assert_array_equal(np.isfinite(found.xy[..., 0]), found.visible)


def test_grey_frames_are_followed_as_coloured_ones_are(hub: Path) -> None:
    found = tracker(hub).track(film(12, colour=False))
    assert np.nanmedian(misses(found, offsets(12))) < 0.25


def test_the_network_is_given_bytes_as_floats_at_the_frames_own_size(hub: Path) -> None:
    tracker(hub).track(film(5))
    (call,) = calls(hub)
    assert call["shape"] == [1, 3, *SIZE]
    assert call["dtype"] == "torch.float32"
    assert call["low"] >= 0
    assert 200 < call["high"] <= 255


def test_given_points_are_followed_instead_of_corners(hub: Path) -> None:
    asked = np.array([[3, 120.0, 90.0], [7, 60.5, 100.25]])
    found = tracker(hub).track(film(12), queries=asked)
    np.testing.assert_array_equal(found.start, [3, 7])
    np.testing.assert_allclose(found.xy[3, 0], [120, 90], atol=1e-3)
    np.testing.assert_allclose(found.xy[7, 1], [60.5, 100.25], atol=1e-3)
    assert np.nanmax(misses(found, offsets(12))) < 1.0


def test_corners_are_chosen_only_where_asked(hub: Path) -> None:
    where = np.zeros((24, *SIZE), bool)
    where[0, 40:90, 50:120] = True
    where[20, 100:150, 150:220] = True
    found = tracker(hub).track(film(24), where)
    assert set(found.start) == {0, 20}
    x, y = found.xy[found.start, np.arange(found.count)].T
    first = found.start == 0
    assert ((x[first] >= 49) & (x[first] <= 120) & (y[first] >= 39) & (y[first] <= 90)).all()
    assert ((x[~first] >= 149) & (y[~first] >= 99)).all()


def test_a_picture_without_corners_has_no_tracks_and_needs_no_network(hub: Path) -> None:
    found = tracker(hub).track(np.full((6, *SIZE), 90, np.uint8))
    assert found.count == 0
    assert found.xy.shape == (6, 0, 2)
    assert not (hub / "calls.jsonl").exists()


def test_a_covered_point_is_not_visible_and_is_found_again(hub: Path) -> None:
    frames = film(16, (0.0, 0.0))
    frames[6:10, 60:140, 90:170] = 127
    found = tracker(hub).track(frames, queries=grid(0))
    x, y = found.xy[0].T
    covered = (x > 100) & (x < 160) & (y > 70) & (y < 130)
    assert covered.sum() == 4
    assert not found.visible[6:10, covered].any()
    assert found.visible[11:, covered].all()


# Windows and chunks


@pytest.mark.parametrize(("steps", "window", "overlap"), [(80, 24, 8), (61, 60, 20), (25, 24, 1)])
def test_windows_cover_a_clip_and_overlap_enough(steps: int, window: int, overlap: int) -> None:
    found = spans(steps, window, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == steps
    assert all(end - first == window for first, end in found)
    assert all(a[1] - b[0] >= overlap for a, b in itertools.pairwise(found))
    # One less would not do.
    assert (len(found) - 1) * (window - overlap) + overlap < steps
    assert spans(window, window, overlap) == [(0, window)]


def test_a_long_clip_is_followed_through_windows_to_both_ends(hub: Path) -> None:
    found = tracker(hub, window=24, overlap=8).track(film(64), queries=grid(0, 30, 60))
    assert {call["steps"] for call in calls(hub)} == {24}
    off = misses(found, offsets(64))
    assert found.visible.mean() > 0.9
    assert found.visible[63, found.start == 0].mean() > 0.8
    assert found.visible[0, found.start == 60].mean() > 0.8
    assert np.nanmedian(off) < 0.6
    assert np.nanpercentile(off, 95) < 2.0
    # Where windows meet, nothing jumps.
    step = np.linalg.norm(np.diff(found.xy, axis=0), axis=-1)
    assert np.nanpercentile(step, 99.5) < np.hypot(*SHIFT) + 1.0


def test_a_point_that_is_covered_where_windows_meet_is_lost_and_not_invented(hub: Path) -> None:
    frames = film(40, (0.0, 0.0))
    frames[14:26, 60:140, 90:170] = 127  # windows of 24 of 40 frames share 16 to 23
    found = tracker(hub, window=24, overlap=8).track(frames, queries=grid(0))
    x, y = found.xy[0].T
    covered = (x > 100) & (x < 160) & (y > 70) & (y < 130)
    assert covered.sum() == 4
    assert not found.visible[14:, covered].any()
    assert [call["points"] for call in calls(hub)] == [24, 20]
    far = (x < 80) | (x > 180)
    assert found.visible[39, far].all()


def test_points_are_sent_in_chunks(hub: Path) -> None:
    whole = tracker(hub, chunk=1000).track(film(12))
    parts = tracker(hub, chunk=7).track(film(12))
    counts = [call["points"] for call in calls(hub)[1:]]
    assert max(counts) == 7
    assert sum(counts) == whole.count
    np.testing.assert_allclose(parts.xy, whole.xy, atol=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"overlap": 60}, {"overlap": 0}, {"chunk": 0}, {"every": 0}], ids=str
)
def test_windows_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="CoTracker: window"):
        CoTracker(**wrong)


# Loading


def test_the_network_is_loaded_once_a_process(hub: Path) -> None:
    for _ in range(2):
        tracker(hub).track(film(3))
    assert (hub / "loads.jsonl").read_text().splitlines() == ["true"]


def test_weights_come_from_a_file_where_one_is_named(hub: Path, weights: Path) -> None:
    found = tracker(hub, checkpoint=str(weights)).track(film(8))
    assert (hub / "loads.jsonl").read_text().splitlines() == ["false"]
    assert np.nanmedian(misses(found, offsets(8))) < 0.25


class Creating:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


@pytest.mark.parametrize("damage", ["absent", "half", "other", "code"])
def test_weights_that_are_none_end_in_one_line(hub: Path, weights: Path, damage: str) -> None:
    if damage == "absent":
        weights.unlink()
    elif damage == "half":
        weights.write_bytes(weights.read_bytes()[:300])
    elif damage == "other":
        torch.save({"other.weight": torch.zeros(1)}, weights)
    else:
        torch.save(Creating(str(weights.with_name("created"))), weights)
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        tracker(hub, checkpoint=str(weights)).track(film(3))
    assert str(weights) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not weights.with_name("created").exists()  # code in a file of weights is not run


@pytest.mark.parametrize("code", ["x = 1", "import nothing_of_this_name", "dependencies = ['nix']"])
def test_a_folder_without_cotracker_ends_in_one_line(tmp_path: Path, code: str) -> None:
    (tmp_path / "hubconf.py").write_text(code)
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        tracker(tmp_path).track(film(3))
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UserError, match="cannot be loaded"):
        tracker(tmp_path / "absent").track(film(3))


# Which one


def test_auto_takes_cotracker_where_it_is_and_says_so(
    hub: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tracker(hub, checkpoint=str(weights))
    assert whole.missing() == ""
    assert best_tracker("auto", whole) is whole
    assert [record.getMessage() for record in caplog.records] == [
        f"tracker: CoTracker 3 from {hub}"
    ]


def test_auto_takes_lucas_kanade_where_code_or_weights_are_not_and_says_so(
    hub: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    flow = LucasKanade(every=9)
    lacking = [CoTracker(), tracker(hub), tracker(hub, checkpoint="/none.pth"), tracker(tmp_path)]
    with caplog.at_level(logging.WARNING):
        for one in lacking:
            assert best_tracker("auto", one, flow) is flow
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert all(line.startswith("tracker: Lucas-Kanade, without CoTracker 3 (") for line in said)
    assert "facebookresearch_co-tracker_main" in said[0]
    assert "scaled_offline.pth" in said[1]


def test_auto_finds_what_torch_hub_fetched_earlier(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    code = tmp_path / "torch/hub/facebookresearch_co-tracker_main"
    code.mkdir(parents=True)
    (code / "hubconf.py").write_text(HUBCONF)
    (tmp_path / "torch/hub/checkpoints").mkdir()
    weights.rename(tmp_path / "torch/hub/checkpoints/scaled_offline.pth")
    found = best_tracker("auto", CoTracker(device=Device("cpu"), every=10, most=30))
    assert isinstance(found, CoTracker)
    tracks = found.track(film(8))  # torch.hub takes it from there, without the network
    assert np.nanmedian(misses(tracks, offsets(8))) < 0.25


def test_a_tracker_that_is_named_is_the_one_taken(
    hub: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    whole, flow = tracker(hub, checkpoint=str(weights)), LucasKanade()
    assert best_tracker("cotracker", whole, flow) is whole
    with pytest.raises(UserError, match=r"there is no .*hubconf.py; name a checkout"):
        best_tracker("cotracker", CoTracker(), flow)  # it is not fetched by every worker
    with pytest.raises(UserError, match=r"there is no .*scaled_offline.pth; name a checkout"):
        best_tracker("cotracker", tracker(hub), flow)
    assert best_tracker("lk", whole, flow) is flow
    with pytest.raises(UserError, match="auto, cotracker or lk"):
        best_tracker("best")
