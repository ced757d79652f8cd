"""What names of policies mean, what their digests tell apart, and those that need no server."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.transform import Rotation

from ego_ops.errors import UserError
from sim_eval.episode import Episode, Settings
from sim_eval.policies import Compute, Named, check, named, open_batch, open_local
from sim_eval.policy import PolicyEnded, check_shape
from sim_eval.suite import Environment, Floats
from sim_eval.suites.tabletop import Tabletop
from tests import eval_policy_files as files
from tests.eval_policy_files import Robot, Suite
from tests.pi0_models import MINUTE

PAPER = Suite()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of one source."""
    return Path(files.save(tmp_path_factory.mktemp("run") / "policy", MINUTE))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "run" / "policy"))


def episode(suite: Suite | Tabletop, policy: Named, task: str = "push", seed: int = 0) -> Episode:
    return Episode(policy.digest, suite.name, suite.version, task, seed, Settings(4))


# Names


def test_a_run_and_its_policy_are_the_same(folder: Path) -> None:
    run, own = named(str(folder.parent)), named(str(folder))
    assert run.kind == own.kind == "checkpoint"
    assert run.digest == own.digest
    assert run.place == own.place == str(folder)
    assert (run.batched, named("expert").batched, named("random").batched) == (True, False, False)


def test_local_policies_have_digests_of_their_own() -> None:
    assert {named(name).kind for name in ("expert", "random")} == {"expert", "random"}
    assert named("expert").digest == named("expert", Compute(batch=3)).digest
    assert named("expert").digest != named("random").digest


def test_names_that_mean_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "run.json").write_text("{}")
    for name, said in {
        "exprt": "no such policy; did you mean expert?",
        f"{folder}s": f"no such policy; did you mean {folder}?",
        f"{tmp_path}/tinny": "no such policy; there are expert, random, replay:FOLDER, ws://HOST:PORT",
        f"{tmp_path}/tiny": "neither a run nor a policy",
        f"{tmp_path}/unfinished": "no policy yet",
        f"replay:{tmp_path}/tiny": "no LeRobot dataset",
    }.items():
        with pytest.raises(UserError, match=re.escape(said)):
            named(name)
    with pytest.raises(UserError, match="at least 1"):
        named("random", Compute(batch=0))


def test_naming_needs_no_torch(folder: Path) -> None:
    """Nor do the expert and chance."""
    code = (
        "import sys; from sim_eval import policies; from sim_eval.policies import local\n"
        f"print(policies.named({str(folder)!r}).digest, 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [named(str(folder)).digest, "False"]


# Digests


@pytest.mark.parametrize("change", [{"batch": 4}, {"device": "cuda"}, {"half": True}, {"steps": 5}])
def test_digest_covers_how_it_computes(folder: Path, change: dict) -> None:
    assert named(str(folder), Compute(**change)).digest != named(str(folder)).digest


def test_digest_says_what_is_meant(folder: Path) -> None:
    same = Compute(batch=8, device="cpu", half=False, steps=10, source="arm")
    assert named(str(folder), same).digest == named(str(folder)).digest
    assert named(str(folder), Compute(device="cuda", half=True)) == named(
        str(folder), Compute(device="cuda")
    )


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "assets/arm/norm_stats.json", "tokeniser/new"]
)
def test_digest_covers_all_files(copy: Path, folder: Path, name: str) -> None:
    before = named(str(copy)).digest
    assert before == named(str(folder)).digest  # wherever it lies
    path = copy / name
    path.parent.mkdir(exist_ok=True)
    data = bytearray(path.read_bytes() if path.exists() else b"  ")
    data[-2] ^= 1 if name == "model.safetensors" else 0
    path.write_bytes(data + (b"" if name == "model.safetensors" else b" "))
    os.utime(path, ns=(1, 1))  # of the same size, perhaps
    assert named(str(copy)).digest != before


def test_digest_leaves_out_what_does_not_matter(copy: Path, folder: Path) -> None:
    (copy / "README.md").write_text("a card")
    (copy / "assets/other").mkdir()
    (copy / "assets/other/norm_stats.json").write_text("{}")
    assert named(str(copy)).digest == named(str(folder)).digest


def test_a_policy_that_changes_meanwhile_is_not_taken_for_what_it_was(copy: Path) -> None:
    known = named(str(copy.parent))
    open_batch(known, PAPER)
    files.save(copy, MINUTE, seed=1)
    with pytest.raises(UserError, match="has changed since"):
        open_batch(known, PAPER)


# Whether a policy fits


def test_a_policy_of_things_that_move_is_told_the_grippers_pose(tmp_path: Path) -> None:
    policy = named(files.save(tmp_path / "p", MINUTE, [Robot("shards", 9, 9)]))
    arm = Suite(state_size=10, action_size=9)
    with pytest.raises(UserError, match="9 numbers of state, suite paper has 10"):
        check(policy, arm)
    arm = dataclasses.replace(arm, intrinsics=(100.0, 100.0, 50.0, 50.0))
    assert any("told the gripper's pose" in note for note in check(policy, arm))
    request = files.requests(1, arm)[0]
    opening = request.observation.state.copy()
    opening[9] += 1
    other = request._replace(observation=request.observation._replace(state=opening))
    place = request.observation.state.copy()
    place[0] += 1
    moved = request._replace(observation=request.observation._replace(state=place))
    with closing(open_batch(policy, arm)) as opened:
        one, same, another = opened.act([request, other, moved])
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, another)


def test_of_several_sources_one_is_to_be_named(tmp_path: Path) -> None:
    place = files.save(tmp_path / "p", MINUTE, [Robot("arm"), Robot("leg", 6, 3)])
    with pytest.raises(UserError, match="trained on arm, leg: say which with --source"):
        named(place)
    with pytest.raises(UserError, match="no source lge; did you mean leg"):
        named(place, Compute(source="lge"))
    arm, leg = (named(place, Compute(source=name)) for name in ("arm", "leg"))
    assert arm.digest != leg.digest
    assert check(arm, PAPER) == []
    with pytest.raises(UserError, match=r"as source leg it is told 6 numbers of state.* has 4"):
        check(leg, PAPER)
    assert check(leg, Suite(state_size=6, action_size=3)) == []


def test_actions_of_another_size(folder: Path) -> None:
    with pytest.raises(UserError, match=r"gives actions that do not fit: .*5 numbers; they have 7"):
        check(named(str(folder)), Suite(action_size=7))
    with pytest.raises(UserError, match="do not fit"):
        open_batch(named(str(folder)), Suite(action_size=7))


def test_cameras_that_are_not_of_both(folder: Path) -> None:
    known = named(str(folder))
    assert check(known, PAPER) == []
    assert check(known, Suite(cameras=("base_0_rgb",))) == [
        f"{folder}: trained with base_0_rgb, left_wrist_0_rgb; paper has no left_wrist_0_rgb"
    ]
    lacking, unused = check(known, Suite(cameras=("left_wrist_0_rgb", "right_wrist_0_rgb")))
    assert "paper has no base_0_rgb" in lacking
    assert "is not shown right_wrist_0_rgb" in unused
    with pytest.raises(UserError, match="no camera of both"):
        check(known, Suite(cameras=("right_wrist_0_rgb",)))


@pytest.mark.parametrize("text", ["", "{}", '{"sources": {"arm": 3}}', "[1]"])
def test_damaged_config(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(f"{copy}/config.json: not that of a policy")):
        named(str(copy))


def test_missing_files(copy: Path) -> None:
    (copy / "assets/arm/norm_stats.json").unlink()
    with pytest.raises(UserError, match=r"cannot read .*norm_stats.json"):
        named(str(copy))


# Policies that need no server


class Arm:
    """An environment whose expert says what it is asked for the n-th time."""

    def __init__(self) -> None:
        self.asked = 0

    def expert(self) -> Floats:
        self.asked += 1
        return np.full(5, float(self.asked))


def played(policy: Named, suite: Suite | Tabletop, of: Episode, steps: int) -> Floats:
    """(steps, action_size): a chunk each, as a rollout checks it."""
    environment: Environment = Arm()  # type: ignore[assignment]
    local = open_local(policy, suite, of)
    assert not local.sees
    chunks = [check_shape(suite, local.act(environment, None)) for _ in range(steps)]
    assert {len(chunk) for chunk in chunks} == {1}
    return np.concatenate(chunks)


def test_expert_is_asked_at_every_step() -> None:
    known = named("expert")
    assert check(known, PAPER) == []
    actions = played(known, PAPER, episode(PAPER, known), 3)
    np.testing.assert_array_equal(actions, np.repeat([[1.0], [2], [3]], 5, axis=1))


def test_random_follows_from_episode_and_step() -> None:
    known = named("random")
    first, again = (played(known, PAPER, episode(PAPER, known), 200) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = played(known, PAPER, episode(PAPER, known, seed=1), 200)
    assert not np.isin(first, other).any()
    assert len(np.unique(first)) == first.size
    assert np.abs(first).max() <= 1
    np.testing.assert_allclose(first.mean(0), 0, atol=0.2)  # 5 standard errors
    np.testing.assert_allclose(first.std(0), 1 / np.sqrt(3), atol=0.1)


def test_random_steps_of_a_gripper_are_motions() -> None:
    known, suite = named("random"), Tabletop()
    task = next(iter(suite.tasks))
    actions = played(known, suite, episode(suite, known, task), 300)
    columns = actions[:, 3:9].reshape(-1, 2, 3)
    matrices = np.stack([*columns.swapaxes(0, 1), np.cross(columns[:, 0], columns[:, 1])], 2)
    np.testing.assert_allclose(matrices @ matrices.swapaxes(1, 2), np.tile(np.eye(3), (300, 1, 1)),
                               atol=1e-12)  # fmt: skip
    turns = Rotation.from_matrix(matrices).as_rotvec()
    np.testing.assert_allclose(turns.std(0), 0.1, rtol=0.2)
    np.testing.assert_allclose(actions[:, :3].std(0), 0.02, rtol=0.2)
    assert ((actions[:, 9] >= 0) & (actions[:, 9] <= 1)).all()


# Replay


def write_recording(root: Path, told: list[str], size: int = 5, filler: bool = False) -> str:
    """A LeRobot dataset, v3, two episodes a file; episode n has n + 3 frames, and action n + t/10
    at frame t. Rows lie backwards in their files."""
    action: dict = {"dtype": "float32", "shape": [size], "names": None}
    if filler:
        action["info"] = {"last_is_filler": True}
    info = {
        "codebase_version": "v3.0",
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": {"action": action},
    }
    rows: list[dict] = []
    for number, words in enumerate(told):
        place = {"data/chunk_index": 0, "data/file_index": number // 2}
        one = {"episode_index": number, "tasks": [words], "length": number + 3}
        rows.append(one | place)
    for file in range((len(told) + 1) // 2):
        frames = [
            {"action": [n + t / 10] * size, "frame_index": t, "episode_index": n}
            for n in range(2 * file, min(2 * file + 2, len(told)))
            for t in range(n + 3)
        ]
        _write(root / f"data/chunk-000/file-{file:03d}.parquet", frames[::-1])
    _write(root / "meta/episodes/chunk-000/file-000.parquet", rows[::-1])
    (root / "meta/info.json").write_text(json.dumps(info))
    return f"replay:{root}"


def _write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


TOLD = ["push it", "lift it", "push it", "push it"]


@pytest.mark.parametrize("filler", [False, True])
def test_replay_plays_the_tasks_own_episodes(tmp_path: Path, filler: bool) -> None:
    known = named(write_recording(tmp_path, TOLD, filler=filler))
    assert check(known, PAPER) == []
    for task, seed, number in [("push", 0, 0), ("lift", 0, 1), ("push", 1, 2), ("push", 2, 3)]:
        steps = number + 3 - filler
        one = episode(PAPER, known, task, seed)
        expected = number + np.arange(steps)[:, None] / 10
        np.testing.assert_allclose(
            played(known, PAPER, one, steps), np.tile(expected, 5), rtol=1e-6
        )
        with pytest.raises(PolicyEnded):
            played(known, PAPER, one, steps + 1)


def test_replay_of_what_was_not_recorded(tmp_path: Path) -> None:
    known = named(write_recording(tmp_path, TOLD))
    with pytest.raises(UserError, match="has 3 episodes of 'push it', none of number 3"):
        open_local(known, PAPER, episode(PAPER, known, seed=3))
    with pytest.raises(UserError, match="do not fit: paper: actions of 5 numbers; they have 7"):
        check(known, Suite(action_size=7))
    with pytest.raises(UserError, match="nothing that tabletop tells"):
        check(named(write_recording(tmp_path / "10", TOLD, size=10)), Tabletop())
    assert check(named(write_recording(tmp_path / "one", TOLD[:1])), PAPER) == [
        f"replay:{tmp_path}/one: has nothing for lift"
    ]


def test_replay_digest_is_of_the_data(tmp_path: Path) -> None:
    one, same, other = (
        named(write_recording(tmp_path / name, TOLD, filler=name == "c")).digest for name in "abc"
    )
    assert one == same != other
    (tmp_path / "a/videos").mkdir()
    (tmp_path / "a/videos/film.mp4").write_bytes(b"x")
    assert named(f"replay:{tmp_path}/a").digest == one


@pytest.mark.parametrize("part", ["meta/info.json", "meta/episodes", "data"])
def test_damaged_recording(tmp_path: Path, part: str) -> None:
    known = named(write_recording(tmp_path, TOLD))
    path = tmp_path / part
    for file in [path] if path.is_file() else path.rglob("*.parquet"):
        file.write_bytes(b"{}")
    with pytest.raises(UserError, match=r"no LeRobot dataset v3|cannot be read"):
        open_local(known, PAPER, episode(PAPER, known))
