"""LeRobot datasets as a source of windows: v2.0, v2.1 and v3.0, our own and LeRobot's."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from ego_ops.errors import UserError
from tests.lerobot_files import FPS, lerobot, write_v2, write_video
from tests.lerobot_oracle import picture
from training.config import SourceConfig
from training.data.lerobot_source import LeRobotSource

LENGTHS = (9, 4, 12, 1, 6, 7)
TOP, WRIST = "observation.images.top", "observation.images.left_wrist_0_rgb"


@pytest.fixture(scope="module", params=["v2.0", "v2.1"])
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_v2(tmp_path_factory.mktemp("data") / "robot", request.param, LENGTHS)


def source(path: object, horizon: int = 5, **options: object) -> LeRobotSource:
    return LeRobotSource(SourceConfig(str(path), kind="lerobot", **options), horizon)  # type: ignore[arg-type]


def check(image: NDArray[np.uint8], episode: int, step: int) -> None:
    """That it is `picture(episode, step)` and no neighbour: those differ by 17 levels or more."""
    wanted = picture(episode, step, 64).astype(int)
    assert image.shape == wanted.shape
    assert np.abs(image - wanted).mean() < 5


def test_windows_of_an_old_dataset(old: str) -> None:
    found = source(old)
    np.testing.assert_array_equal(found.windows(), LENGTHS)
    assert (found.name, found.cameras) == ("lerobot", ("base_0_rgb",))
    assert (found.state_size, found.action_size) == (2, 3)
    for episode, length in enumerate(LENGTHS):
        unit = found.load(episode)
        for step in range(length):
            window = unit.window(step)
            check(window.images["base_0_rgb"], episode, step)
            assert window.instruction == f"task {episode % 2}"
            np.testing.assert_array_equal(window.state, [100 + step, episode])
            chunk = np.minimum(step + np.arange(5), length - 1)
            np.testing.assert_array_equal(window.actions[:, 0], chunk)
            np.testing.assert_array_equal(window.actions[:, 1], episode)
            np.testing.assert_array_equal(window.valid, step + np.arange(5) < length)
        np.testing.assert_array_equal(unit.states()[:, 0], 100 + np.arange(length))
        np.testing.assert_array_equal(unit.steps()[:, 0], np.arange(length))


def test_without_pictures_no_video_is_opened(old: str, tmp_path: Path) -> None:
    shutil.copytree(old, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/videos")
    found = source(tmp_path / "copy")
    unit = found.load(0, pictures=False)
    assert unit.window(3).images == {}
    np.testing.assert_array_equal(unit.steps()[:, 0], np.arange(LENGTHS[0]))
    with pytest.raises(UserError, match=r"episode_000000\.mp4.*download the whole dataset"):
        found.load(0)


@pytest.mark.parametrize("dtype", ["video", "image"])
def test_what_lerobot_writes(dtype: str, tmp_path: Path) -> None:
    lerobot("write", tmp_path / "data", dtype)
    lerobot("read", tmp_path / "data", 4, tmp_path / "found.npz")
    theirs = np.load(tmp_path / "found.npz")
    found = source(tmp_path / "data", 4, cameras=(f"{TOP}=base_0_rgb", f"{WRIST}=left_wrist_0_rgb"))
    assert found.cameras == ("base_0_rgb", "left_wrist_0_rgb")
    np.testing.assert_array_equal(found.windows(), [6, 7, 8])
    at = 0
    for episode in range(3):
        unit = found.load(episode)
        for step in range(6 + episode):
            window = unit.window(step)
            np.testing.assert_array_equal(window.state, theirs["observation.state"][at])
            np.testing.assert_array_equal(window.actions, theirs["action"][at])
            np.testing.assert_array_equal(window.valid, ~theirs["action_is_pad"][at])
            assert window.instruction == theirs["task"][at]
            for feature, camera in ((TOP, "base_0_rgb"), (WRIST, "left_wrist_0_rgb")):
                image = theirs[feature][at].transpose(1, 2, 0).astype(int)
                assert np.abs(image - window.images[camera]).max() <= (dtype == "video") * 3
            check(window.images["base_0_rgb"], episode, step)
            check(window.images["left_wrist_0_rgb"], episode + 4, step)
            at += 1
    by_name = source(tmp_path / "data", 4)
    assert by_name.cameras == ("left_wrist_0_rgb",)
    check(by_name.load(1).window(2).images["left_wrist_0_rgb"], 5, 2)


def test_a_dataset_that_lerobot_converts_stays_what_it_is(tmp_path: Path) -> None:
    path = Path(write_v2(tmp_path / "robot", "v2.1", LENGTHS))
    before = source(path)
    old = [before.load(n) for n in range(len(LENGTHS))]
    lerobot("convert", path)
    assert json.loads((path / "meta/info.json").read_text())["codebase_version"] == "v3.0"
    after = source(path)
    np.testing.assert_array_equal(after.windows(), before.windows())
    for episode, one in enumerate(old):
        other = after.load(episode)
        assert other.instructions == one.instructions
        np.testing.assert_array_equal(other.state, one.state)
        np.testing.assert_array_equal(other.action, one.action)
        for a, b in zip(other.pictures["base_0_rgb"], one.pictures["base_0_rgb"], strict=True):
            np.testing.assert_array_equal(a, b)


def test_parts_are_disjoint_and_whole(tmp_path: Path) -> None:
    path = write_v2(tmp_path / "robot", "v2.0", range(1, 13))
    config = SourceConfig(path, kind="lerobot")
    kinds = {
        part: LeRobotSource(config, 5, part, 0.25)  # type: ignore[arg-type]
        for part in ("train", "held_out", "all")
    }
    lengths = {part: set(one.windows().tolist()) for part, one in kinds.items()}
    assert lengths["train"] | lengths["held_out"] == lengths["all"] == set(range(1, 13))
    assert not lengths["train"] & lengths["held_out"]
    assert lengths["train"]
    assert lengths["held_out"]
    for part, one in kinds.items():  # an episode is the same in whichever part it is
        unit = one.load(0)
        assert unit.state[0, 1] == one.windows()[0] - 1, part
    assert len({one.digest for one in kinds.values()}) == 3
    two = SourceConfig(write_v2(tmp_path / "two", "v2.0", (3, 3)), kind="lerobot")
    assert len(LeRobotSource(two, 5, "held_out", 0.001).windows()) == 1
    assert len(LeRobotSource(two, 5, "train", 0.999).windows()) == 1
    with pytest.raises(UserError, match="no episode is left for held out"):
        LeRobotSource(two, 5, "held_out", 0.0)


def test_a_digest_changes_with_what_windows_depend_on(old: str, tmp_path: Path) -> None:
    first = source(old)
    assert source(old).digest == first.digest
    assert pickle.loads(pickle.dumps(first)).digest == first.digest
    others = {first.digest, source(old, 6).digest}
    others.add(source(old, cameras=(f"{TOP}=right_wrist_0_rgb",)).digest)
    others.add(source(write_v2(tmp_path / "more", "v2.0", (*LENGTHS, 3))).digest)
    assert len(others) == 4


def test_large_pictures_are_shrunk(tmp_path: Path) -> None:
    path = Path(write_v2(tmp_path / "robot", "v2.0", (4,)))
    film = next(path.rglob("*.mp4"))
    wide = [np.concatenate([picture(0, t, 480)] * 2, axis=1)[:, :640] for t in range(4)]
    write_video(film, wide)
    image = source(path).load(0).window(2).images["base_0_rgb"]
    assert image.shape == (168, 224, 3)
    assert abs(int(image[20, 20, 1]) - int(picture(0, 2)[0, 0, 1])) < 5


def test_an_index_is_small(tmp_path: Path) -> None:
    """Bytes an episode: what a process with a worker's copy of a million episodes has to hold."""
    path = Path(write_v2(tmp_path / "robot", "v2.0", (2,)))
    sizes = []
    for count in (1000, 21_000):
        lines = ({"episode_index": n, "tasks": ["x"], "length": 50 + n % 7} for n in range(count))
        (path / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)))
        _change(path / "meta/info.json", total_episodes=count)
        sizes.append(len(pickle.dumps(source(path))))
    assert (sizes[1] - sizes[0]) / 20_000 < 64


def _change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _spoil(path: Path, name: str, value: object) -> None:
    """One number of the first episode's column."""
    table = pq.read_table(path)
    column = table[name].to_pylist()
    column[2] = value
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, pa.array(column, table[name].type)), path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: _change(d / "meta/info.json", codebase_version="v1.6"), "of version v1.6"),
        (lambda d: (d / "meta/info.json").unlink(), "no LeRobot dataset"),
        (lambda d: (d / "meta/info.json").write_text("{"), "info.json: cannot be read"),
        (lambda d: (d / "meta/tasks.jsonl").unlink(), "tasks.jsonl: not there"),
        (lambda d: (d / "meta/episodes.jsonl").write_text("{}"), "meta: cannot be read"),
        (lambda d: _change(d / "meta/info.json", total_episodes=9), "6 of 9 episodes"),
        (lambda d: _change(d / "meta/info.json", features={"x": {}}), "has no camera"),
        (lambda d: (d / "meta/tasks.jsonl").write_text(""), "task 0 is not in meta/tasks"),
        (lambda d: next(d.rglob("*0.parquet")).unlink(), "0.parquet: not there"),
        (lambda d: next(d.rglob("*0.parquet")).write_bytes(b"PAR1"), "0.parquet: cannot be read"),
        (lambda d: next(d.rglob("*0.mp4")).write_bytes(b"no video"), "not a readable video"),
        (
            lambda d: write_video(next(d.rglob("*0.mp4")), [picture(0, 0, 64)] * 5),
            r"nothing at 0.5000 s \(the nearest frame is at 0.4000 s\)",
        ),
        (lambda d: _spoil(next(d.rglob("*0.parquet")), "action", [0, 1, np.nan]), "not finite"),
        (lambda d: _spoil(next(d.rglob("*0.parquet")), "action", [0, 1]), "action"),
        (
            lambda d: _spoil(next(d.rglob("*0.parquet")), "timestamp", 0.27),
            "frame 2 is at 0.27 s",
        ),
        (lambda d: _spoil(next(d.rglob("*0.parquet")), "episode_index", 8), "8 of the 9 frames"),
    ],
)
def test_bad_datasets_are_one_line(damage: object, words: str, tmp_path: Path) -> None:
    folder = Path(write_v2(tmp_path / "robot", "v2.1", LENGTHS))
    damage(folder)  # type: ignore[operator]
    with pytest.raises(UserError, match=words) as found:
        source(folder).load(0)
    assert "\n" not in str(found.value)
    assert str(folder) in str(found.value)


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        ("observation.images.side=base_0_rgb", f"no such feature of pictures; .*{TOP}"),
        (f"{TOP}=head", "π0 has no such camera; there are base_0_rgb"),
        (TOP, "not of the form feature=camera"),
    ],
)
def test_unknown_cameras_are_named(old: str, camera: str, said: str) -> None:
    with pytest.raises(UserError, match=f"cameras {camera}: {said}"):
        source(old, cameras=(camera,))


def test_times_may_be_off_by_less_than_half_a_frame(tmp_path: Path) -> None:
    folder = Path(write_v2(tmp_path / "robot", "v2.1", (9,)))
    _spoil(next(folder.rglob("*.parquet")), "timestamp", 0.2 + 0.4 / FPS)
    check(source(folder).load(0).window(2).images["base_0_rgb"], 0, 2)
