"""`egoscaler robot` as a user runs it: the tabletop's script, served, moves the simulated arm."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from robot.recording import entries
from tests.evaluation_runs import MAIN
from tests.robot_server_running import Play, Running
from training.config import SourceConfig
from training.data.lerobot_source import LeRobotSource
from workflows.served_expert import ExpertPolicy

PATIENCE_S = 90


def begun(port: int, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAIN, "robot", "--server", f"ws://127.0.0.1:{port}", *words]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Shells start background jobs with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate(timeout=PATIENCE_S)[0]
    assert "Traceback" not in said, said
    return process.returncode, said


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def solves(task: str, tries: int, folder: Path) -> None:
    """Within so many seeds, on video and recorded."""
    film, data = folder / "film.mp4", folder / "data"
    with Running(ExpertPolicy()) as running:
        for seed in range(5, 5 + tries):
            words = ["--task", task, "--seed", str(seed), "--video", str(film)]
            code, said = ended(begun(running.port, *words, "--record", str(data)))
            assert code == 0, said
            if f"{task} {seed}: solved" in said:
                break
        else:
            pytest.fail(said)
    took = float(re.search(r"solved; ([\d.]+) s", said)[1])
    shown = frames(film)
    assert len(shown) > 5 * took  # 20 a second, fewer where the machine was busy
    assert np.abs(shown[0].astype(int) - shown[-1]).mean() > 1  # something has moved
    source = LeRobotSource(SourceConfig(str(data), kind="lerobot"), horizon=2)
    steps = source.windows()[-1]
    assert steps == pytest.approx(10 * took, abs=15)
    assert source.load(len(source.windows()) - 1).window(0).state.shape == (10,)


def test_the_arm_solves_a_task_over_the_network(tmp_path):
    solves("stack_cube", 3, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["spoon_on_towel", "carrot_on_plate", "eggplant_in_basket"])
def test_the_arm_solves_all_tasks(task, tmp_path):
    solves(task, 3, tmp_path)


@pytest.mark.parametrize("how", ["interrupt", "file"])
def test_it_stops_when_it_is_told_to(how, tmp_path):
    data, file = tmp_path / "data", tmp_path / "stop"
    with Running(ExpertPolicy()) as running:
        words = ("--record", str(data), "--stop-file", str(file))
        process = begun(running.port, *words)
        _until_recorded(process, data)
        if how == "file":
            file.touch()
        else:
            process.send_signal(signal.SIGINT)
        code, said = ended(process)
    assert code == 0, said
    assert "not solved: the emergency stop" in said
    assert said.endswith("0 of 1 episodes solved\n")
    assert len(LeRobotSource(SourceConfig(str(data), kind="lerobot"), 2).windows()) == 1


def test_killed_it_leaves_a_recording_that_is_recovered(tmp_path):
    data = tmp_path / "data"
    with Running(ExpertPolicy()) as running:
        process = begun(running.port, "--record", str(data))
        _until_recorded(process, data)
        process.kill()
        said = process.communicate(timeout=PATIENCE_S)[0]
        assert "the simulated arm holds: who commanded it is gone" in said
        (journal,) = data.glob("journals/*")
        count = sum(one.kind == "tick" for one in entries(journal))
        file = tmp_path / "stop"
        file.touch()
        code, said = ended(begun(running.port, "--record", str(data), "--stop-file", str(file)))
    assert code == 0, said
    assert f"{journal.name}: recovered" in said
    lengths = LeRobotSource(SourceConfig(str(data), kind="lerobot"), 2).windows()
    assert lengths[0] >= count / 5 - 15  # 50 ticks a second, 10 frames; the first come later


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--task", "stack_cub"), "did you mean stack_cube"),
        (("--episodes", "0"), "--episodes 0: must be at least 1"),
        (("--limits", "none.toml"), "none.toml"),
        (("--token-file", "none"), "none"),
        (("--seconds", "0"), "--seconds 0: must be more than 0"),
        (("--rate", "1e9"), "--rate 1e+09: from 12 to 500"),
        (("--rate", "nan"), "--rate nan: from 12 to 500"),
        (("--fps", "0"), "--fps 0: more than 0"),
        (("--video", "."), "--video .: is a folder"),
        (("--grasp", "1", "2", "3"), "--grasp 1 2 3: give x y z qx qy qz qw"),
        (("--robot", "mujoco2"), "--robot mujoco2: give mujoco, replay:DATASET"),
        (("--arm-model", "arm.xml"), "--arm-model: of LeRobot's arms and your own only"),
        (("--cameras", "a=b"), "--cameras: of recordings and LeRobot's arms and your own only"),
        (("--robot", "lerobot:so101", "--plain"), "--plain: of the simulated arm only"),
        (("--robot", "replay:data", "--video", "a.mp4"), "--video: of the simulated arm only"),
        (("--server", "gpu:8000"), "must be like ws://gpu:8000"),
    ],
)
def test_what_is_wrong_is_one_line(words, said, capsys, monkeypatch, tmp_path):
    from workflows.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["robot", *words]) == 1
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("about", "words", "said"),
    [
        ({}, ("--join", "rtc"), "knows no real-time chunking; take latest or ensemble"),
        ({}, ("--actions", "joints"), "--robot mujoco is moved by steps of its gripper"),
        ({"actions": "joints"}, (), "the server's actions are joints"),
        ({}, ("--actions", "object_step"), "need its place in the gripper: --grasp"),
        ({}, ("--grasp", "0", "0", "0", "0", "0", "0", "1"), "--grasp: the server's actions are"),
        ({"needs": 5}, ("--join", "rtc"), "knows no real-time chunking"),
    ],
)
def test_what_the_server_is_not_for_is_one_line(about, words, said, capsys):
    """Said at once: neither the arm nor a recording is begun."""
    from workflows.cli import main

    policy = Play()
    policy.metadata = about
    with Running(policy) as running:
        assert main(["robot", "--server", f"ws://127.0.0.1:{running.port}", *words]) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert (told.err.count("\n"), told.out) == (1, "")


def _until_recorded(process: subprocess.Popen[str], data: Path) -> None:
    """Until commands of the policy are in the journal."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()[0]
        for journal in data.glob("journals/*"):
            if any(one.values.get("state") == "running" for one in entries(journal)):
                return
        time.sleep(0.05)
    pytest.fail("nothing was recorded")
