"""Journals of episodes: what a killed process leaves, and what becomes of it."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ego_ops.errors import UserError
from robot.loop_config import Tick
from robot.recording import Journal, entries
from robot.robot import Observation
from tests.lerobot_files import lerobot
from training.config import SourceConfig
from training.data.lerobot_source import LeRobotSource
from workflows.robot_record import FPS, recording

SIDE = 64


class Arm:
    """What a recording asks of a robot; its observation n shows and has the number n."""

    name, kind, size, state_size = "test arm", "pose", 8, 2
    cameras = {"base_0_rgb": (SIDE, SIDE)}  # noqa: RUF012

    def __init__(self) -> None:
        self.count = 0

    def observe(self) -> Observation:
        self.count += 1
        image = np.full((SIDE, SIDE, 3), 10 * self.count, np.uint8)
        at = 100 + self.count / FPS
        return Observation({"base_0_rgb": image}, np.array([self.count, 0.5]), np.zeros(8), at)


def tick(number: int) -> Tick:
    """Five ticks a frame, half a frame and more after its observation."""
    at = 100 + 1 / FPS + (number + 0.5) / (5 * FPS)
    command = np.array([number, 0, 0, 0, 0, 0, 1, 1.0])
    return Tick(at, 0.001, command - 1, command, ("jerk",), 3, 0.05, "running")


def test_an_episode_becomes_frames_and_ticks(tmp_path):
    folder, arm = tmp_path / "data", Arm()
    for text in ("pick", "place"):
        arm.count = 0
        with recording(str(folder), arm, text) as tape:
            watched = tape.watched(arm)
            for number in range(5):
                watched.observe()
                for each in range(5):
                    tape.tick(tick(5 * number + each))
            tape.end()
    assert not list(folder.glob("journals/*"))
    source = LeRobotSource(SourceConfig(str(folder), kind="lerobot"), horizon=2)
    assert source.windows().tolist() == [5, 5]
    for episode, text in enumerate(("pick", "place")):
        unit = source.load(episode)
        for step in range(5):
            window = unit.window(step)
            assert window.instruction == text
            np.testing.assert_array_equal(window.state, [1 + step, 0.5])
            assert window.actions[0][0] == 5 * step
            shown = window.images["base_0_rgb"].astype(float).mean()
            assert shown == pytest.approx(10 * (1 + step), abs=3)
    extra = pq.read_table(folder / "extra" / "episode_000001.parquet").to_pylist()
    assert len(extra) == 25
    assert extra[7]["command"][0] == 7
    assert extra[7]["clipped"] == ["jerk"]
    assert (extra[7]["latency"], extra[7]["state"]) == (0.05, "running")
    assert extra[7]["time"] - extra[0]["time"] == pytest.approx(7 / 50)
    lerobot("read", folder, 1, tmp_path / "found.npz")
    found = np.load(tmp_path / "found.npz")
    assert found["episode_index"].tolist() == [0] * 5 + [1] * 5
    assert set(found["task"]) == {"pick", "place"}


WRITER = """
import sys, time
from tests.test_robot_recording import Arm, tick
from workflows.robot_record import recording
arm = Arm()
with recording(sys.argv[1], arm, "push") as tape:
    watched = tape.watched(arm)
    number = 0
    while True:
        if number % 5 == 0:
            watched.observe()
        tape.tick(tick(number))
        print(number, flush=True)  # only then is it known to have been recorded
        number += 1
        time.sleep(0.01)
"""


def test_what_is_killed_loses_the_last_frame_at_most(tmp_path):
    chance, folder = random.Random(1), tmp_path / "data"
    lengths = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        while "0" not in process.stdout.readline():
            pass
        time.sleep(chance.uniform(0.3, 0.8))
        process.send_signal(signal.SIGKILL)
        last = [int(word) for word in process.communicate()[0].split() if word.isdigit()][-1]
        (journal,) = folder.glob("journals/*")
        found = [one.values for one in entries(journal) if one.kind == "tick"]
        assert [one["command"][0] for one in found] == list(range(len(found)))
        assert last <= len(found) <= last + 2  # the last one said was in the queue, or written
        with open(journal, "ab") as file:  # and a torn tail
            file.write(journal.read_bytes()[21:60])
        lengths.append((len(found) + 4) // 5)
    with recording(str(folder), Arm(), "push"):
        pass
    assert not list(folder.glob("journals/*"))
    source = LeRobotSource(SourceConfig(str(folder), kind="lerobot"), horizon=2)
    assert source.windows().tolist() == lengths
    unit = source.load(2)
    for step in range(lengths[2]):
        assert unit.window(step).actions[0][0] == 5 * step


def test_what_was_committed_is_not_added_again(tmp_path):
    """The process was killed between the commit and the journal's removal."""
    folder, arm = tmp_path / "data", Arm()
    with recording(str(folder), arm, "push") as tape:
        watched = tape.watched(arm)
        watched.observe()
        tape.tick(tick(0))
        (journal,) = folder.glob("journals/*")
        time.sleep(0.2)
        copy = journal.read_bytes()
        tape.end()
    journal.write_bytes(copy)
    with recording(str(folder), arm, "push"):
        pass
    source = LeRobotSource(SourceConfig(str(folder), kind="lerobot"), horizon=2)
    assert source.windows().tolist() == [1]
    assert not list(folder.glob("journals/*"))


def test_a_full_disk_ends_the_journal_and_nothing_else(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        journal = Journal(tmp_path / "a.journal", {"instruction": "push"})
        for number in range(200):
            journal.add("tick", {"number": number})
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert str(tmp_path) in journal.problem
    found = [one.values["number"] for one in entries(journal.path) if one.kind == "tick"]
    assert 20 < len(found) < 200
    assert found == list(range(len(found)))
    assert journal.lost > 0


def test_what_is_no_journal_is_said(tmp_path):
    path = Path(tmp_path / "a.journal")
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="no journal"):
        list(entries(path))
