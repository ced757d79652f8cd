"""Drive a robot by a policy that is served: the control loop, safety, a live line, a video.

    policy's server ── websocket ──> robot.client ──> robot.loop ──> robot.safety ──> robot

Nothing of Ray runs here. Ctrl-C, SIGUSR1 and --stop-file are emergency stops: the robot holds in
the next tick, whatever the server does.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ego_ops.errors import UserError
from workflows import flags
from workflows.robot_check import flags_fit, grasp, meant

if TYPE_CHECKING:
    from robot.client import Client
    from robot.loop import Ended
    from robot.safety import Safety

_CONNECT_S = 30.0


@dataclass(frozen=True)
class RobotConfig:
    """Drive a robot by a policy that `serve`, or any server of openpi's protocol, serves."""

    server: str = "ws://127.0.0.1:8000"
    """Address of the policy's server."""
    robot: str = "mujoco"
    """`mujoco`: the tabletop's arm, simulated in real time; `lerobot:TYPE` (so100, koch, ...): an
    arm that LeRobot drives; `replay:DATASET` or `replay:DATASET:EPISODE`: a recording, which
    nothing moves; or module:Class of one of your own."""
    robot_config: str | None = None
    """TOML or JSON file: fields of the configuration of LeRobot's driver (port, id, cameras), or
    what your own class takes; its table `joints` has the model's names of joints by the arm's."""
    observation: Literal["ours", "tabletop", "libero", "aloha"] = "ours"
    """Of LeRobot's arms and recordings: whose messages the server expects, see `egoscaler serve
    --help`."""
    cameras: tuple[str, ...] = ()
    """Which of the robot's cameras are shown: CAMERA=NAME, NAME one of base_0_rgb,
    left_wrist_0_rgb and right_wrist_0_rgb; by default in this order."""
    arm_model: str | None = None
    """MJCF or URDF file of the arm: actions are then steps of the gripper, and joints follow by
    inverse kinematics."""
    site: str = "gripper"
    """Site or body of the model that is moved."""
    grasp: tuple[float, ...] = ()
    """T_gripper_object of what is held, for actions that are steps of it: x y z, and a quaternion
    with the scalar last."""
    task: str = "stack_cube"
    """Of the tabletop: what lies on it."""
    seed: int = 0
    """Of the first episode: where things lie; the next has the next one."""
    wrist: bool = False
    """Show the policy the wrist's camera, too."""
    plain: bool = False
    """One look and one camera in all episodes, as in the suite `tabletop_plain`."""
    instruction: str | None = None
    """What the robot is to do, in words; by default that of the task."""
    rate: float = 50.0
    """Commands a second."""
    join: Literal["latest", "ensemble", "rtc"] = "latest"
    """How chunks follow each other: `latest` the newest one, `ensemble` their mean, `rtc` real-time
    chunking, if the policy knows it."""
    actions: Literal["pose_step", "object_step", "joints"] | None = None
    """What the server's actions are; by default as it says, or else what moves the robot: steps of
    the gripper, or positions of joints."""
    fps: float | None = None
    """Actions a second; by default as the server says, or else as the tabletop or the recording
    has."""
    limits: str | None = None
    """TOML or JSON file of limits: see the page on robots."""
    token_file: str | None = None
    """File with the token that the server wants."""
    ca: str | None = None
    """Certificates (PEM) for wss://, if not the system's."""
    seconds: float = 30.0
    """After which an episode ends that is not solved."""
    episodes: int = 1
    """How many, one after the other."""
    record: str | None = None
    """Folder of a LeRobot dataset to add the episodes to."""
    video: str | None = None
    """MP4 file to write of each episode; the second has -2 in its name, and so on."""
    stop_file: str | None = None
    """The robot stops when this file appears."""
    quiet: bool = False
    """Print only the results."""


def run(config: RobotConfig) -> None:
    """Play the episodes.

    Raises:
        UserError: the flags do not fit, there is no server or no robot, it had to stop, or what is
            asked to be written cannot be.
    """
    flags_fit(config)
    try:
        from robot.client import Client, ClientConfig
        from robot.limits import Limits, load
        from robot.safety import Safety
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install 'egoscaler-ray[robot]'") from error
    from workflows.robot_choice import choose

    limits = load(config.limits) if config.limits else Limits()
    there = ClientConfig(url=config.server, token=flags.token(config.token_file), ca=config.ca)
    arm = choose(config, limits)
    with ExitStack() as things:
        things.callback(arm.robot.close)
        client = things.enter_context(Client(there))
        needs = client.wait(_CONNECT_S).get("needs")
        arm.needs = needs if isinstance(needs, list) else []
        _play(config, arm, client, Safety(arm.limits, arm.robot.kind), things)


def _play(config: RobotConfig, arm: Any, client: Client, safety: Safety, things: ExitStack) -> None:
    """All episodes, and what is said of them."""
    from robot.loop import LoopConfig
    from workflows.robot_episode import Episode
    from workflows.robot_record import recording
    from workflows.robot_signals import signals

    actions, fps = meant(config, client, arm)
    loop = LoopConfig(
        instruction=arm.instruction if config.instruction is None else config.instruction,
        rate=config.rate,
        join=config.join,
        grasp=grasp(config.grasp),
        actions=actions,
        fps=fps,
    )
    tape = things.enter_context(recording(config.record, arm.robot, loop.instruction))
    asked = things.enter_context(signals(config.stop_file))
    solved = played = 0
    for number in range(config.episodes):
        arm.seed = config.seed + number
        film = _film(config.video, number)
        episode = Episode(arm.robot, client, safety, loop, film, tape, config.quiet)
        ended = episode.play(arm.seed, min(config.seconds, arm.seconds), asked)
        played, solved = played + 1, solved + (ended.reason == "solved")
        name = f"{arm.what} {arm.seed}" if config.robot == "mujoco" else arm.what
        print(_result(name, ended, episode.said), flush=True)
        if ended.reason in ("emergency", "asked"):
            break
        if ended.reason in ("robot", "impossible", "hold"):
            raise UserError(f"the robot stopped: {ended.message}")
    if config.robot == "mujoco":  # no other knows
        print(f"{solved} of {played} episodes solved", flush=True)


def _film(video: str | None, number: int) -> Path | None:
    if video is None:
        return None
    path = Path(video).expanduser()
    return path.with_stem(f"{path.stem}-{number + 1}") if number else path


def _result(name: str, ended: Ended, said: str) -> str:
    what = "solved" if ended.reason == "solved" else f"not solved: {ended.message}"
    return f"{name}: {what}; {said}"
