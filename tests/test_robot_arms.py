"""Arms that LeRobot drives, recordings as robots, and arms commanded by poses of their gripper."""

from __future__ import annotations

import importlib.util
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from robot import arm_model
from robot.limits import Limits
from robot.robot import Observation, RobotError
from robot.robots import lerobot
from robot.robots.lerobot import LeRobotArm
from robot.robots.posed import Posed
from robot.robots.recorded import Frame, Recorded
from robot.safety import Safety
from tests.arm_models import CHAIN, seven
from tests.lerobot_arm import NAMES, Driver, Waves
from tests.robot_server_running import Running, until
from tests.test_robot_command import begun, ended
from training.config import SourceConfig
from training.data.lerobot_source import LeRobotSource

KEYS = tuple(f"{name}.pos" for name in NAMES)


@contextmanager
def started(driver: Driver) -> Iterator[LeRobotArm]:
    arm = LeRobotArm(driver, {})
    arm.start(0)
    try:
        yield arm
    finally:
        arm.close()
    assert not driver.is_connected


def test_a_command_reaches_the_servos_and_the_arm_stays_without_any() -> None:
    driver = Driver()
    with started(driver) as arm:
        assert (arm.joints, arm.kind, arm.size) == (KEYS, "joints", 6)
        assert arm.cameras == {"base_0_rgb": (48, 64)}, "depth is no picture"
        seen = arm.observe()
        np.testing.assert_allclose(seen.state, 10.0, atol=1e-6)
        np.testing.assert_array_equal(seen.position, seen.state)
        target = np.array([20.0, 10, 10, 10, 10, 55])
        begin = time.monotonic()
        while time.monotonic() < begin + 0.4:
            arm.command(target)
            time.sleep(0.02)
        np.testing.assert_allclose(arm.read(), target, atol=0.5)
        assert driver.sent[-1][1] == dict(zip(KEYS, target.tolist(), strict=True))
        arm.command(np.full(6, 60.0))
        until(lambda: driver.sent[-1][1]["gripper.pos"] == 60.0)
        told = driver.sent[-1][0]
        until(lambda: driver.sent[-1][1]["gripper.pos"] != 60.0)  # it was told to stay where it is
        assert driver.sent[-1][0] - told < 5.0
        count = len(driver.sent)
        time.sleep(0.2)
        assert len(driver.sent) == count


def test_limits_are_in_the_drivers_units() -> None:
    arm = LeRobotArm(Driver(), {})
    limits = arm.limits(Limits())
    assert limits.joints.speed[0] == pytest.approx(math.degrees(Limits().joints.speed))
    assert limits.joints.high[:5] == pytest.approx([180.0] * 5)
    assert limits.joints.high[5] == pytest.approx(105.0)
    assert limits.joints.speed[5] == pytest.approx(400.0)
    safety = Safety(limits, "joints")
    safety.reset(np.full(6, 10.0))
    before, fastest = np.full(6, 10.0), 0.0
    for _ in range(100):  # two seconds towards what is 30 degrees, or units, away
        now = safety.check(np.full(6, 40.0), 0.02).target
        fastest = max(fastest, float(np.abs(now - before)[0] / 0.02))
        before = now
    np.testing.assert_allclose(before, 40.0, atol=0.5)
    assert 20 < fastest <= math.degrees(1.0) * (1 + 1e-6)


def test_drivers_that_fail_are_said_in_a_line() -> None:
    broken = Driver()
    broken.fails = "no port\n/dev/ttyACM0"
    with pytest.raises(UserError, match="cannot connect: ConnectionError: no port /dev/ttyACM0"):
        LeRobotArm(broken, {}).start(0)
    with pytest.raises(UserError, match="is not calibrated: run lerobot-calibrate"):
        LeRobotArm(Driver(calibrated=False), {}).start(0)
    with pytest.raises(UserError, match=r"--cameras side=base_0_rgb: no such camera.*front"):
        LeRobotArm(Driver(), {"side": "base_0_rgb"})
    with pytest.raises(UserError, match="--cameras front=top: not one of base_0_rgb"):
        LeRobotArm(Driver(), {"front": "top"})
    driver = Driver()
    with started(driver) as arm:
        driver.fails = "motor 3 is gone"
        until(lambda: _failure(arm) != "")
        assert _failure(arm) == "its driver failed: ConnectionError: motor 3 is gone"
        arm.hold()  # never raises


def _failure(arm: LeRobotArm) -> str:
    try:
        arm.read()
    except RobotError as error:
        return str(error)
    return ""


def test_lerobots_own_drivers(tmp_path: Path) -> None:
    if importlib.util.find_spec("lerobot") is None:
        with pytest.raises(UserError, match=r"lerobot:so100 needs LeRobot.*pip install lerobot"):
            lerobot.driver("so100", {"port": "/dev/null"})
        pytest.skip("LeRobot is not installed")
    with pytest.raises(UserError, match="lerobot:so999: LeRobot has none"):
        lerobot.driver("so999", {})
    with pytest.raises(UserError, match="port"):
        lerobot.driver("so100", {})
    camera = {"type": "opencv", "index_or_path": 0, "width": 64, "height": 48, "fps": 30}
    options = {
        "port": "/dev/null", "id": "mine", "calibration_dir": str(tmp_path), "use_degrees": True,
        "cameras": {"front": camera},
    }  # fmt: skip
    arm = LeRobotArm(lerobot.driver("so100", options), {})
    assert (arm.joints, arm.cameras) == (KEYS, {"base_0_rgb": (48, 64)})
    with pytest.raises(UserError, match="cannot connect"):
        arm.start(0)


def test_an_arm_is_driven_recorded_and_played_back(tmp_path: Path) -> None:
    """Through the command: a joint goes to and fro; what was recorded is a LeRobot dataset in the
    driver's units; played back as a robot, the same policy is told the same."""
    policy, data = Waves(), tmp_path / "data"
    with Running(policy) as running:
        words = ["--robot", "tests.lerobot_arm:Arm", "--instruction", "wave", "--seconds", "3"]
        code, said = ended(begun(running.port, *words, "--record", str(data)))
        assert code == 0, said
        source = LeRobotSource(SourceConfig(str(data), kind="lerobot"), horizon=1)
        (steps,) = source.windows()
        unit = source.load(0)
        windows = [unit.window(step) for step in range(int(steps))]
        assert windows[0].instruction == "wave"
        path = np.array([one.state for one in windows])
        assert 8 < np.ptp(path[:, 0]) < 30
        np.testing.assert_allclose(path[:, 1:], 10.0, atol=0.1)

        policy.states.clear()
        code, said = ended(begun(running.port, "--robot", f"replay:{data}"))
        assert code == 0, said
        assert "off the recorded joints by" in said
        assert len(policy.states) >= 3
        for state in policy.states:
            assert np.abs(path - state).max(axis=1).min() < 1e-3, "it is told what was recorded"
        code, said = ended(begun(running.port, "--robot", f"replay:{data}:7"))
        assert (code, said.count("\n")) == (1, 1)
        assert "has 1 episodes, none of number 7" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--robot", "drone", "--instruction", "go"], "give mujoco, replay:DATASET, lerobot:TYPE"),
        (["--robot", "tests.lerobot_arm:Leg", "--instruction", "go"], "cannot be made: .*Leg"),
        (["--robot", "tests.lerobot_arm:Arm"], "say what it is to do: --instruction"),
        (["--robot", "replay:nowhere"], "nowhere"),
        (
            ["--robot", "lerobot:so100", "--video", "a.mp4", "--instruction", "go"],
            "--video: of the",
        ),
        (["--robot-config", "none.toml", "--robot", "a:B", "--instruction", "go"], "none.toml"),
        (["--grasp", "1", "2"], "--grasp 1 2: give x y z qx qy qz qw"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from workflows.cli import main

    with Running(Waves()) as running:
        assert main(["robot", "--server", f"ws://127.0.0.1:{running.port}", *words]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    assert re.search(said, line)


def test_recordings_are_compared_with_what_is_commanded() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    place = np.array([0.1, 0, 0.2, 0, 0, 0, 1, 0.5])
    frames = [Frame({"base_0_rgb": picture}, np.arange(3.0) + k, place) for k in range(3)]
    robot = Recorded(frames, 1000.0, "pose")
    robot.start(0)
    time.sleep(0.01)
    assert robot.seconds == 0.003
    np.testing.assert_array_equal(robot.observe().state, [2, 3, 4])
    told = robot.message(robot.observe(), "go")
    assert set(told) == {"observation/images/base_0_rgb", "observation/state", "prompt"}
    assert robot.said == "nothing was commanded"
    robot.command(place)
    robot.command(place + [0.03, 0, 0.04, 0, 0, 0, 0, 0])
    turned = place.copy()
    turned[3:7] = Rotation.from_rotvec([0, 0, math.radians(30)]).as_quat()
    robot.command(turned)
    assert robot.said == (
        "off the recorded way by 0.00 cm (at most 5.00), 0.00 degrees (at most 30.00)"
    )


class Jointed:
    """An arm of the model's seven joints and a gripper, in degrees, that is where it is told."""

    name, kind, size, state_size = "seven", "joints", 8, 8
    joints = (*(f"joint{number}.pos" for number in range(1, 8)), "gripper.pos")
    scales = np.r_[np.full(7, math.radians(1)), 0.01]
    cameras = {"base_0_rgb": (4, 4)}  # noqa: RUF012

    def __init__(self) -> None:
        self.at = np.r_[0, 30, 0, 57, 0, 29, 0, 50.0]

    def read(self) -> np.ndarray:
        return self.at.copy()

    def observe(self) -> Observation:
        return Observation({}, self.at, self.at, 0.0)

    def command(self, target: np.ndarray) -> None:
        self.at = target.copy()

    def hold(self) -> None:
        return


def chained(q: np.ndarray) -> RigidTransform:
    """T_world_wrist of the model, from its links."""
    foot = RigidTransform.from_components([0.3, -0.1, 0.05], Rotation.from_euler("z", 0.7))
    pose, along = foot, 0.0
    for angle, (axis, length, _) in zip(q, CHAIN, strict=True):
        turn = Rotation.from_rotvec(angle * np.array(axis))
        pose = pose * RigidTransform.from_components([0, 0, along], turn)
        along = length
    return pose


def test_poses_become_joints(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    file = tmp_path / "seven.xml"
    file.write_text(seven())
    arm = Jointed()
    robot = Posed(arm, arm_model.load(file), "link7")  # type: ignore[arg-type]
    begin = robot.read()
    truth = chained(arm.at[:7] * arm.scales[:7])
    np.testing.assert_allclose(begin[:3], truth.translation, atol=1e-6)
    assert (Rotation.from_quat(begin[3:7]) * truth.rotation.inv()).magnitude() < 1e-6
    assert begin[7] == 0.5
    np.testing.assert_array_equal(robot.observe().position, begin)
    before = arm.at
    for step in range(1, 51):  # 10 cm down and to the side, turning, the gripper closing
        share = step / 50
        target = begin.copy()
        target[:3] += share * np.array([0.03, 0.06, -0.07])
        turn = Rotation.from_rotvec(share * np.array([0, 0, 0.4]))
        target[3:7] = (turn * Rotation.from_quat(begin[3:7])).as_quat()
        target[7] = 0.5 - 0.5 * share
        robot.command(target)
        reached = chained(arm.at[:7] * arm.scales[:7])
        np.testing.assert_allclose(reached.translation, target[:3], atol=1e-3)
        off = reached.rotation * Rotation.from_quat(target[3:7]).inv()
        assert off.magnitude() < 5e-3
        assert arm.at[7] == pytest.approx(100 * target[7])
        assert np.abs(arm.at - before)[:7].max() < 3.0, "degrees a step"
        before = arm.at
    far = begin.copy()
    far[:3] += [5, 0, 0]
    with pytest.raises(RobotError, match="the pose is out of reach: the joints miss it by"):
        robot.command(far)
    with pytest.raises(UserError, match=r"joints\.elbow: seven has none"):
        Posed(arm, arm_model.load(file), "link7", {"elbow": "joint2"})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="the model has no body gripper"):
        Posed(arm, arm_model.load(file), "gripper")  # type: ignore[arg-type]


def test_arms_of_few_joints_reach_the_place(tmp_path: Path) -> None:
    """Five joints cannot have both: the place is what counts."""
    pytest.importorskip("mujoco")
    file = tmp_path / "seven.xml"
    file.write_text(seven())

    class Five(Jointed):
        joints = (*(f"joint{number}.pos" for number in range(1, 6)), "gripper.pos")
        scales = np.r_[np.full(5, math.radians(1)), 0.01]

        def __init__(self) -> None:
            self.at = np.r_[0, 30, 0, 57, 10, 50.0]

    arm = Five()
    robot = Posed(arm, arm_model.load(file), "link7")  # type: ignore[arg-type]
    begin = robot.read()
    target = begin.copy()
    target[:3] += [0.02, 0.02, -0.02]
    target[3:7] = (Rotation.from_rotvec([0.5, 0, 0]) * Rotation.from_quat(begin[3:7])).as_quat()
    robot.command(target)
    np.testing.assert_allclose(robot.read()[:3], target[:3], atol=2e-3)
