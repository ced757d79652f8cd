"""A LeRobotDataset that grows by episodes: whole ones only, read back by us and by LeRobot."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ego_ops.errors import UserError
from ego_ops.lerobot_names import EPISODES
from tests.lerobot_files import lerobot
from tests.lerobot_oracle import picture
from training.config import SourceConfig
from training.data.lerobot_layout import Form, place
from training.data.lerobot_source import LeRobotSource
from training.export.recorder import Recorded, opened

SIDE = 64
TOP, WRIST = "observation.images.base_0_rgb", "observation.images.left_wrist_0_rgb"
FORM = Form(
    "test arm", 10, {TOP: (SIDE, SIDE), WRIST: (SIDE, 96)}, ["x", "y"], ["dx", "dy", "gripper"]
)


def episode(number: int) -> Recorded:
    """5 steps and more; all that is in it tells number and step."""
    steps = range(5 + number)
    wide = np.zeros((SIDE, 96, 3), np.uint8)
    wide[:, 48:] = 100 + number
    return Recorded(
        f"task {number % 2}",
        {TOP: [picture(number, step, SIDE) for step in steps], WRIST: [wide for _ in steps]},
        [[step, number] for step in steps],
        [[number, step, step / 3] for step in steps],
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Four episodes by two writers."""
    folder = tmp_path_factory.mktemp("recorded") / "data"
    for numbers in ((0, 1), (2, 3)):
        with opened(str(folder), FORM) as recorder:
            for number in numbers:
                recorder.add(episode(number))
            assert recorder.episodes == numbers[-1] + 1
    return folder


def test_we_read_it(recorded):
    source = LeRobotSource(SourceConfig(str(recorded), kind="lerobot"), horizon=4)
    assert source.windows().tolist() == [5, 6, 7, 8]
    for number in range(4):
        unit, made = source.load(number), episode(number)
        for step in range(5 + number):
            window = unit.window(step)
            assert window.instruction == f"task {number % 2}"
            np.testing.assert_array_equal(window.state, made.state[step])
            np.testing.assert_array_equal(window.actions[0], np.float32(made.action[step]))
            near = np.abs(window.images["base_0_rgb"].astype(int) - picture(number, step, SIDE))
            assert near.mean() < 4
            assert window.images["left_wrist_0_rgb"].shape == (SIDE, 96, 3)


def test_lerobot_reads_it(recorded, tmp_path):
    lerobot("read", recorded, 4, tmp_path / "found.npz")
    found = np.load(tmp_path / "found.npz")
    lengths = [5, 6, 7, 8]
    assert found["index"].tolist() == list(range(sum(lengths)))
    assert found["episode_index"].tolist() == np.repeat(range(4), lengths).tolist()
    np.testing.assert_array_equal(
        found["observation.state"], np.concatenate([episode(n).state for n in range(4)])
    )
    assert set(found["task"]) == {"task 0", "task 1"}
    near = found[TOP][7].transpose(1, 2, 0).astype(int) - picture(1, 2, SIDE)
    assert np.abs(near).mean() < 4
    for feature in (TOP, WRIST, "observation.state", "action"):
        for name in ("min", "max", "mean", "std", "count"):
            said, again = (found[f"{kind}/{feature}/{name}"] for kind in ("stats", "again"))
            np.testing.assert_allclose(said, again, rtol=1e-4, atol=1.5 / 255)


WRITER = """
import sys
from tests.test_recorder import FORM, episode
from training.export.recorder import opened
with opened(sys.argv[1], FORM) as recorder:
    print("ready", flush=True)
    while True:
        recorder.add(episode(recorder.episodes % 4))
"""


def test_killed_writers_leave_whole_episodes(tmp_path):
    folder = tmp_path / "data"
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice, before = random.Random(seed), 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        end = time.monotonic() + 60
        while not (folder / EPISODES.format(**place(before))).exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(dice.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with opened(str(folder), FORM) as recorder:
            assert recorder.episodes > before
            before = recorder.episodes
    source = LeRobotSource(SourceConfig(str(folder), kind="lerobot"), horizon=4)
    assert source.windows().tolist() == [5 + number % 4 for number in range(before)]
    for number in range(before):
        window = source.load(number).window(4)
        assert window.state.tolist() == [4, number % 4]
        assert window.instruction == f"task {number % 2}"


def test_what_does_not_fit_is_said_and_costs_nothing(recorded, tmp_path):
    other = Form("test arm", 5, FORM.cameras, FORM.state, FORM.action)
    with (
        pytest.raises(UserError, match="another folder"),
        opened(str(recorded), other),
    ):
        pass
    good = episode(0)
    with opened(str(tmp_path / "new"), FORM) as recorder:
        for bad, said in (
            (Recorded("t", good.images, [[0.0, 1.0, 2.0]] * 5, good.action), r"states \(5, 3\)"),
            (Recorded("t", good.images, [[0.0, np.nan]] * 5, good.action), "not finite"),
            (Recorded("t", {TOP: good.images[TOP]}, good.state, good.action), "has 0 pictures"),
            (Recorded("t", good.images, [], []), "states"),
        ):
            with pytest.raises(UserError, match=said) as caught:
                recorder.add(bad)
            assert "\n" not in str(caught.value)
        recorder.add(good)
        with (
            pytest.raises(UserError, match="another process records there"),
            opened(str(tmp_path / "new"), FORM),
        ):
            pass
    source = LeRobotSource(SourceConfig(str(tmp_path / "new"), kind="lerobot"), horizon=4)
    assert source.windows().tolist() == [5]
