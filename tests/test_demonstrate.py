"""`egoscaler demonstrate`: what is recorded solves its task when it is played again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ego_ops.errors import UserError
from sim_eval import policies, suites
from sim_eval.demonstration import demonstrate
from sim_eval.episode import Episode, Settings
from sim_eval.rollout import Rollout
from training.config import SourceConfig
from training.data.lerobot_source import LeRobotSource
from training.data.shard_source import ShardSource
from workflows.demonstrate import DemonstrateConfig, run

TASK = "stack_cube"


@pytest.mark.usefixtures("ray_cluster")
def test_what_is_recorded_solves_the_task_again(tmp_path, capsys):
    out = tmp_path / "demonstrations"
    run(DemonstrateConfig(tasks=(TASK,), episodes=1, out=str(out)))
    assert f"{TASK} 100000: recorded, 0 left" in capsys.readouterr().out
    first = next((out / "data").rglob("*.parquet"))
    before = first.stat().st_mtime_ns
    run(DemonstrateConfig(tasks=(TASK,), episodes=2, out=str(out), quiet=True))
    assert capsys.readouterr().out == f"2 demonstrations of 1 tasks in {out}\n"
    assert first.stat().st_mtime_ns == before
    assert json.loads((out / "meta/info.json").read_text())["total_episodes"] == 2
    run(DemonstrateConfig(tasks=(TASK,), episodes=2, out=str(out), quiet=True))  # nothing is left

    suite = suites.get("tabletop")
    environment = suite.environment()
    source = LeRobotSource(SourceConfig(str(out), kind="lerobot"), horizon=1)
    assert len(source.windows()) == 2
    for number, steps in enumerate(source.windows()):
        unit = source.load(number)
        environment.reset(TASK, 100_000 + number)
        for step in range(steps):
            window = unit.window(step)
            assert window.instruction == suite.tasks[TASK].instruction
            seen = environment.observe()
            # Actions lose digits as float32, and contacts make more of that.
            np.testing.assert_allclose(window.state, seen.state, atol=0.03)
            off = np.abs(window.images["base_0_rgb"].astype(int) - seen.images["base_0_rgb"])
            assert off.mean() < 6
            solved = environment.step(window.actions[0].astype(float))
        assert solved
    environment.close()

    replay = policies.named(f"replay:{out}")
    settings = Settings(replan=8)
    for seed in (100_000, 100_001):
        episode = Episode(replay.digest, "tabletop", suite.version, TASK, seed, settings)
        played = Rollout(suite, suite.environment(), episode, replay.name)
        played.play_local(policies.open_local(replay, suite, episode))
        assert played.outcome == "success"
    with pytest.raises(UserError, match="not recorded of seed 0; it has seeds 100000 to 100001"):
        policies.open_local(replay, suite, episode._replace(seed=0))


@pytest.mark.usefixtures("ray_cluster")
def test_shards_have_the_way_of_the_gripper(tmp_path):
    config = DemonstrateConfig(
        tasks=(TASK,), episodes=1, out=str(tmp_path / "shards"), format="shards", quiet=True
    )
    run(config)
    run(config)  # nothing is left
    source = ShardSource(SourceConfig(config.out), horizon=4)
    suite = suites.get("tabletop")
    environment = suite.environment()
    found = demonstrate(suite, environment, TASK, 100_000)
    environment.close()
    assert found is not None
    assert source.windows().tolist() == [len(found.states) - 1]
    unit = source.load(0)
    for step in range(len(found.states) - 1):
        window = unit.window(step)
        np.testing.assert_allclose(window.state, found.states[step, :9], atol=1e-5)
        # An action takes one pose to the next, as the gripper's frame has it.
        now, then = found.states[step], found.states[step + 1]
        axes = np.stack([now[3:6], now[6:9], np.cross(now[3:6], now[6:9])], axis=-1)
        np.testing.assert_allclose(window.actions[0, :3], axes.T @ (then[:3] - now[:3]), atol=1e-5)


@pytest.mark.usefixtures("ray_cluster")
def test_more_than_enough_of_one_task_is_not_for_another(tmp_path, capsys):
    config = DemonstrateConfig(out=str(tmp_path / "shards"), format="shards", quiet=True)
    run(replace(config, tasks=(TASK,), episodes=2))
    run(replace(config, tasks=(TASK, "carrot_on_plate"), episodes=1))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("2 demonstrations of 1 tasks")
    assert said[1].startswith("3 demonstrations of 2 tasks")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"tasks": ("stack_cubes",)}, "tabletop has no task stack_cubes: did you mean stack_cube"),
        ({"episodes": 0}, "--episodes 0: must be at least 1"),
        ({"out": "s3://bucket/x"}, "a LeRobot dataset is written to a folder"),
        ({"suite": "table"}, "there is no suite table: did you mean tabletop"),
    ],
)
def test_what_cannot_be_demonstrated_is_said(tmp_path: Path, flags: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        run(DemonstrateConfig(**{"out": str(tmp_path / "out"), **flags}))
    assert not (tmp_path / "out").exists()
