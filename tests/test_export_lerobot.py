"""Shards to a LeRobotDataset v3.0: read back by us, by plain FFmpeg and NumPy, and by LeRobot."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from ego_ops import shards
from ego_ops.errors import UserError
from ego_ops.quality_policy import Policy
from ego_ops.quality_select import select
from ego_ops.storage import store
from tests.lerobot_files import FPS, commit_shards, lerobot
from tests.lerobot_oracle import picture
from training.config import SourceConfig
from training.data.lerobot_source import LeRobotSource
from training.data.sample import Source, Window
from training.data.shard_source import ShardSource
from workflows.cli import main
from workflows.export_lerobot import LerobotConfig, run

LENGTHS = (7, 12, 2, 30, 9, 5, 21)
KEY = "observation.images.base_0_rgb"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return commit_shards(tmp_path_factory.mktemp("shards"), LENGTHS)


@pytest.fixture(scope="module")
def exported(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of video: at most 4 s, 40 frames, in each."""
    out = tmp_path_factory.mktemp("export") / "dataset"
    run(LerobotConfig(url, str(out), file_seconds=4.0, workers=1, quiet=True))
    return out


def windows(source: Source) -> list[Window]:
    units = [(source.load(n), count) for n, count in enumerate(source.windows())]
    return [unit.window(number) for unit, count in units for number in range(count)]


def test_reading_it_back_gives_the_same_windows(url: str, exported: Path) -> None:
    wanted = windows(ShardSource(SourceConfig(url), horizon=8))
    found = windows(LeRobotSource(SourceConfig(str(exported), kind="lerobot"), horizon=8))
    assert len(found) == len(wanted) == sum(LENGTHS) - len(LENGTHS)
    for one, other in zip(found, wanted, strict=True):
        assert one.instruction == other.instruction
        np.testing.assert_array_equal(one.state, other.state)
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.valid, other.valid)
        near = np.abs(one.images["base_0_rgb"].astype(int) - other.images["base_0_rgb"])
        assert near.mean() < 4  # neighbours differ by 17


def test_every_frame_is_at_its_time(exported: Path) -> None:
    episodes = pq.read_table(exported / "meta/episodes").sort_by("episode_index").to_pylist()
    ids = pq.read_table(exported / "meta/clips.parquet")["clip_id"].to_pylist()
    assert len(set(ids)) == len(episodes) == len(LENGTHS)
    data = pq.read_table(exported / "data").sort_by("index")
    np.testing.assert_array_equal(data["index"], np.arange(sum(LENGTHS)))
    films = sorted((exported / "videos").rglob("*.mp4"))
    assert len(films) == 3
    shown: dict[tuple[int, int], list[Fraction]] = {}
    for number, path in enumerate(films):
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            shown[0, number] = [frame.pts * stream.time_base for frame in film.decode(stream)]
    for one in episodes:
        times = shown[one[f"videos/{KEY}/chunk_index"], one[f"videos/{KEY}/file_index"]]
        first = round(one[f"videos/{KEY}/from_timestamp"] * FPS)
        assert one[f"videos/{KEY}/from_timestamp"] == first / FPS
        assert one[f"videos/{KEY}/to_timestamp"] == (first + one["length"]) / FPS
        rows = data.slice(one["dataset_from_index"], one["length"])
        assert set(rows["episode_index"].to_pylist()) == {one["episode_index"]}
        for step, stamp in enumerate(rows["timestamp"].to_pylist()):
            assert times[first + step] == Fraction(first + step, FPS)
            assert abs(stamp - step / FPS) < 1e-6
    assert sum(map(len, shown.values())) == len(data)


def test_statistics_are_those_of_what_is_in_it(exported: Path) -> None:
    stats = json.loads((exported / "meta/stats.json").read_text())
    data = pq.read_table(exported / "data").sort_by("index")
    for name in ("observation.state", "action", "timestamp", "index", "task_index"):
        values = np.array(data[name].to_pylist(), float).reshape(len(data), -1)
        _same(stats[name], values, 3 / 65536)
    films = sorted((exported / "videos").rglob("*.mp4"))
    pixels = np.concatenate([_pixels(path) for path in films])
    _same(stats[KEY], pixels.reshape(-1, 3) / 255, 1e-9, len(pixels))
    episodes = pq.read_table(exported / "meta/episodes").sort_by("episode_index").to_pylist()
    for one in episodes:
        span = slice(one["dataset_from_index"], one["dataset_to_index"])
        values = np.array(data["action"].to_pylist()[span])
        said = {name: one[f"stats/action/{name}"] for name in stats["action"]}
        _same(said, values, 1e-12)
        said = {name: one[f"stats/{KEY}/{name}"] for name in stats[KEY]}
        _same(said, pixels[span].reshape(-1, 3) / 255, 1e-9, one["length"])


def _pixels(path: Path) -> np.ndarray:
    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


def _same(stats: dict, values: np.ndarray, step: float, count: int | None = None) -> None:
    """`step`: what quantiles may be off by, relative to the range."""
    flat = {name: np.array(value).reshape(-1) for name, value in stats.items()}
    assert flat["count"] == [count or len(values)]
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(flat[name], getattr(values, name)(0), rtol=1e-6, atol=1e-9)
    for name, share in {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}.items():
        true = np.quantile(values, share, axis=0, method="inverted_cdf")
        assert (np.abs(flat[name] - true) <= step * np.ptp(values, axis=0) + 1e-9).all(), name


def test_lerobot_reads_it(exported: Path, tmp_path: Path) -> None:
    lerobot("read", exported, 6, tmp_path / "found.npz")
    found = np.load(tmp_path / "found.npz")
    ours = LeRobotSource(SourceConfig(str(exported), kind="lerobot"), horizon=6)
    assert len(found["index"]) == sum(LENGTHS)
    images = found[KEY].transpose(0, 2, 3, 1)
    for episode in range(len(ours.windows())):
        unit = ours.load(episode)
        for number in range(int(ours.windows()[episode])):
            at = int(np.flatnonzero(found["episode_index"] == episode)[number])
            window = unit.window(number)
            np.testing.assert_array_equal(window.state, found["observation.state"][at])
            np.testing.assert_array_equal(window.actions, found["action"][at])
            assert window.instruction == found["task"][at]
            near = np.abs(images[at].astype(int) - window.images["base_0_rgb"])
            assert near.max() <= 3  # one video, two conversions to RGB
            # Where a chunk passes the end LeRobot's begins one later: the filler counts as real.
            assert (found["action_is_pad"][at][1:] == ~window.valid[:-1]).all()
    for feature in (KEY, "observation.state", "action", "timestamp", "frame_index"):
        for name in ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"):
            said, again = (found[f"{kind}/{feature}/{name}"] for kind in ("stats", "again"))
            assert said.shape == again.shape
            span = found[f"again/{feature}/max"] - found[f"again/{feature}/min"]
            # Its histogram has 5,000 bins; its reader's RGB may be one level from ours.
            room = 1 / 2500 * span + (1.5 / 255 if feature == KEY else 1e-6)
            assert (np.abs(said - again) <= (0 if name == "count" else room)).all(), (feature, name)


def test_a_killed_export_goes_on_where_it_was(url: str, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    config = f"LerobotConfig({url!r}, {str(out)!r}, file_seconds=4.0, workers=1)"
    code = f"from workflows.export_lerobot import *; run({config})"
    first = tmp_path / "dataset.partial/done/000000.parquet"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    while not first.exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists(), "it was done before it could be killed"
    made = first.stat().st_mtime_ns
    film = next((tmp_path / "dataset.partial/dataset/videos").rglob("file-000.mp4"))
    encoded = film.stat().st_mtime_ns
    run(LerobotConfig(url, str(out), file_seconds=4.0, workers=1, quiet=True))
    assert made < (out / "meta/info.json").stat().st_mtime_ns
    assert next((out / "videos").rglob("file-000.mp4")).stat().st_mtime_ns == encoded
    assert _content(out) == _content(exported)
    assert not (tmp_path / "dataset.partial").exists()


def test_tasks_of_ray_make_the_same_files(
    url: str, exported: Path, tmp_path: Path, ray_cluster: None
) -> None:
    out = tmp_path / "dataset"
    run(LerobotConfig(url, str(out), file_seconds=4.0, workers=2, quiet=True))
    assert _content(out) == _content(exported)


def _content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_again_does_nothing_and_never_overwrites(
    url: str, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    run(LerobotConfig(url, str(exported), file_seconds=4.0, workers=1))
    assert "7 episodes, 86 frames at 10 Hz, 5 tasks" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in exported.rglob("*")} == before
    with pytest.raises(UserError, match="another export is there"):
        run(LerobotConfig(url, str(exported), file_seconds=2.0, workers=1))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    with pytest.raises(UserError, match="something else is there"):
        run(LerobotConfig(url, str(tmp_path / "mine")))
    assert store(str(tmp_path)).names("") == ["mine"]
    assert (tmp_path / "mine/thesis.txt").exists()
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial/thesis.txt").touch()
    with pytest.raises(UserError, match=r"thesis\.txt is in the way"):
        run(LerobotConfig(url, str(tmp_path / "new")))


def test_an_export_of_shards_that_grew_begins_anew(tmp_path: Path) -> None:
    url = commit_shards(tmp_path / "shards", (3, 4))
    config = LerobotConfig(url, str(tmp_path / "out"), workers=1, quiet=True)
    _spoil(url)
    with pytest.raises(UserError, match="no whole JPEG"):
        run(config)
    assert not (tmp_path / "out").exists()
    _delete_parts(url)
    commit_shards(tmp_path / "shards", (5, 6, 7), first=2)
    run(config)
    source = LeRobotSource(SourceConfig(str(tmp_path / "out"), kind="lerobot"), 2)
    np.testing.assert_array_equal(source.windows(), [4, 5, 6])
    red = source.load(0).window(0).images["base_0_rgb"][..., 0].mean()
    assert abs(red - picture(2, 0)[..., 0].mean()) < 4


def _spoil(url: str) -> None:
    """Commit the last clip anew, with a frame that is cut short."""
    part, _ = list(shards.parts(url))[-1]
    path = Path(url, part)
    data = path.read_bytes()
    at = data.rindex(b"\xff\xd8\xff")
    path.write_bytes(data[:at] + b"\0\0\0" + data[at + 3 :])


def _delete_parts(url: str) -> None:
    for path in Path(url).glob("bucket=*/*.parquet"):
        path.unlink()


def test_rates_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = commit_shards(tmp_path / "shards", (5, 6), fps=20)
    commit_shards(tmp_path / "shards", (7, 1), fps=14.994, first=2)
    with pytest.raises(UserError, match=r"clips 2 of 20 Hz, 2 of 15 Hz: choose with --fps"):
        run(LerobotConfig(url, str(tmp_path / "out")))
    with pytest.raises(UserError, match=r"cannot export clips of 30 Hz"):
        run(LerobotConfig(url, str(tmp_path / "out"), fps=30))
    run(LerobotConfig(url, str(tmp_path / "out"), fps=15))
    said = capsys.readouterr().out
    assert "1 episodes, 7 frames at 15 Hz" in said
    assert "1 clips of one step left out; 2 clips of other rates left out" in said
    odd = commit_shards(tmp_path / "odd", (5,), fps=12.5)
    with pytest.raises(UserError, match=r"clips of 12.5 Hz \(a LeRobot dataset's rate is a whole"):
        run(LerobotConfig(odd, str(tmp_path / "odd out")))


def test_a_selection_is_what_is_exported(url: str, tmp_path: Path) -> None:
    path = str(tmp_path / "selection.parquet")
    select(url, path, Policy(min_travel_m=0.25))
    chosen = [row["clip_id"] for row in pq.read_table(path).to_pylist() if row["selected"]]
    assert 0 < len(chosen) < len(LENGTHS)
    run(LerobotConfig(url, str(tmp_path / "out"), selection=path, workers=1, quiet=True))
    ids = pq.read_table(tmp_path / "out/meta/clips.parquet")["clip_id"].to_pylist()
    assert sorted(ids) == sorted(chosen)


def test_nothing_to_export_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none, out = str(tmp_path / "none"), str(tmp_path / "out")
    for what in ("lerobot", "release"):
        assert main(["export", what, "--shards", none, "--out", out]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"egoscaler: {none}: no trajectory is there: nothing to ")
        assert said.count("\n") == 1
    url = commit_shards(tmp_path / "short", (1, 1))
    with pytest.raises(UserError, match="none of 2 clips has two steps"):
        run(LerobotConfig(url, str(tmp_path / "out")))
    with pytest.raises(UserError, match="not within 0 and 1000"):
        run(LerobotConfig(url, str(tmp_path / "out"), file_seconds=2000))


def test_a_full_disk_is_one_line_and_no_dataset(url: str, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk's: both end in OSError of the write."""
    config = LerobotConfig(url, str(tmp_path / "out"), file_seconds=4.0, workers=1, quiet=True)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            run(config)
        except UserError as error:
            os._exit(7 if "cannot write" in str(error) and "\n" not in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not (tmp_path / "out").exists()
    run(config)
    assert len(list(chain((tmp_path / "out").rglob("*.mp4")))) == 3
    assert store(str(tmp_path)).names("") == ["out"]
