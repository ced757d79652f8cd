"""How well the control loop keeps time and how smoothly the arm goes, while inference takes 150 ms.

    python bench/control.py [--seconds 20]

A served policy of a known cost sees two pictures of 224 pixels, and heads another way in each of
its chunks: successive chunks disagree. Arms are a formula that is where it was told to be, so what
is measured is what is commanded. `naive` is how openpi's client is used: its ActionChunkBroker is
asked in the loop, which waits for it at the end of each chunk, and commands are the actions. `bare`
is the same clock, priority and rate with nothing to do: what the machine allows at all.
Lateness is of ticks after they were due; motion as a share of the limits of `robot/limits.py`, from
differences of what was commanded, so 1 is at a limit. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from robot.client import Client, ClientConfig
from robot.limits import Limits
from robot.loop import Loop, LoopConfig, Tick
from robot.loop_clock import Clock, first, undisturbed
from robot.plan import JOINS
from robot.policy import Answer, PolicyError, Request
from robot.robot import Kind, Observation
from robot.safety import Safety
from robot.server import ServerConfig, run

warnings.filterwarnings("ignore", category=DeprecationWarning)  # the client's
RATE, FPS, HORIZON, COST_S = 50.0, 10.0, 16, 0.150
SPEED = 0.12
"""Of what the policy asks for, metres a second: well within the limits, so that what jumps is the
border of chunks."""
HOME = np.array([0.3, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0, 0.5])


class Disagrees:
    """A chunk heads for a place on a sphere around HOME, each for another."""

    batch = 1
    metadata: Mapping[str, Any] = {
        "fps": FPS, "horizon": HORIZON, "actions": "pose_step",
        "egoscaler": {"features": ["prefix"]},
    }  # fmt: skip

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        time.sleep(COST_S)
        return [Answer(self._steps(request)) for request in requests]

    def _steps(self, request: Request) -> np.ndarray:
        heading = self._random.standard_normal(3)
        goal = HOME[:3] + 0.15 * heading / np.linalg.norm(heading)
        way = goal - request.observation["observation/pose"][:3]
        step = SPEED / FPS * way / max(np.linalg.norm(way), 1e-6)
        steps = np.tile(np.r_[step, 1, 0, 0, 0, 1, 0, 0.5], (HORIZON, 1))
        if request.prefix is not None:  # real-time chunking: what is under way is not undone
            kept = min(request.delay, len(request.prefix), HORIZON)
            steps[:kept] = request.prefix[:kept]
        return steps

    def forget(self, client: str) -> None:
        return

    def close(self) -> None:
        return


class Formula:
    """An arm that is where it was last told to be, with two cameras that see noise."""

    name, state_size, size = "formula", 8, 8
    kind: Kind = "pose"
    cameras: Mapping[str, tuple[int, int]] = {
        "base_0_rgb": (224, 224), "left_wrist_0_rgb": (224, 224),
    }  # fmt: skip

    def __init__(self) -> None:
        self.position = HOME.copy()
        noise = np.random.default_rng(1)
        self._images = {
            name: noise.integers(0, 256, (*size, 3), np.uint8)
            for name, size in self.cameras.items()
        }

    def start(self, seed: int) -> None:
        self.position = HOME.copy()

    def read(self) -> np.ndarray:
        return self.position.copy()

    def observe(self) -> Observation:
        return Observation(dict(self._images), self.read(), self.read(), time.monotonic())

    def message(self, observation: Observation, instruction: str) -> dict[str, Any]:
        images = {f"observation/{name}": image for name, image in observation.images.items()}
        return {**images, "observation/pose": observation.position, "prompt": instruction}

    def command(self, target: np.ndarray) -> None:
        self.position = target.copy()

    def hold(self) -> None:
        return

    def solved(self) -> bool:
        return False

    def close(self) -> None:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        run(Disagrees(), ServerConfig(port=args.serve))
        return
    found: dict[str, Any] = {
        "bench": "control",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "rate_hz": RATE,
        "inference_ms": 1000 * COST_S,
        "seconds": args.seconds,
    }
    found["bare"] = bare(args.seconds)
    with server() as port:
        found["naive"] = naive(port, args.seconds)
        for join in JOINS:
            found[join] = ours(port, join, args.seconds)
    print(json.dumps(found))


@contextmanager
def server() -> Iterator[int]:
    """The policy, served in a process of its own; its port, once it answers."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, __file__, "--serve", str(port)]) as process:
        try:
            with Client(ClientConfig(f"ws://127.0.0.1:{port}")) as client:
                client.wait(30)
            yield port
        finally:
            process.kill()


def bare(seconds: float) -> dict[str, Any]:
    """A loop that does nothing."""
    clock, late = Clock(1 / RATE), []
    with undisturbed(), first():
        for _ in range(round(seconds * RATE)):
            due = clock.wait()
            late.append(time.monotonic() - due)
    return {"late_ms": quantiles(np.array(late)), "missed": clock.missed}


def ours(port: int, join: Any, seconds: float) -> dict[str, Any]:
    """The loop, with chunks joined that way."""
    ticks: list[Tick] = []
    with Client(ClientConfig(f"ws://127.0.0.1:{port}")) as client:
        client.wait(30)
        config = LoopConfig("go", RATE, join)
        loop = Loop(Formula(), client, Safety(Limits(), "pose"), config, ticks.append)
        ended = loop.run(seconds)
    late = np.array([tick.late for tick in ticks[:-1]])
    commands = np.array([tick.command for tick in ticks[:-1]])
    chunks = len({tick.chunk for tick in ticks} - {None})
    clipped = sum(bool(tick.clipped) for tick in ticks)
    return {
        "late_ms": quantiles(late), "missed": ended.missed, "chunks": chunks,
        "clipped_ticks": clipped, **motion(commands),
    }  # fmt: skip


def naive(port: int, seconds: float) -> dict[str, Any]:
    """openpi's client in a loop at the rate of its actions."""
    from openpi_client.action_chunk_broker import ActionChunkBroker
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    arm = Formula()
    policy = ActionChunkBroker(WebsocketClientPolicy("127.0.0.1", port), HORIZON)
    clock, late, commands, chunks = Clock(1 / RATE), [], [], 0
    each = round(RATE / FPS)
    for tick in range(round(seconds * RATE)):
        due = clock.wait()
        if tick % each == 0:
            action = policy.infer(arm.message(arm.observe(), "go"))["actions"]
            chunks += tick % (each * HORIZON) == 0
        target = arm.read()
        target[:3] += action[:3] / each
        arm.command(target)
        late.append(time.monotonic() - due)
        commands.append(target)
    return {
        "late_ms": quantiles(np.array(late)), "missed": clock.missed, "chunks": chunks,
        **motion(np.array(commands)),
    }  # fmt: skip


def motion(commands: np.ndarray) -> dict[str, Any]:
    """Greatest speed, acceleration and jerk that (T, 8) commands ask for, as shares of limits."""
    limit = Limits().translation
    path, shares = commands[:, :3], {}
    for name in ("speed", "acceleration", "jerk"):
        path = np.diff(path, axis=0) * RATE
        shares[name] = round(float(np.linalg.norm(path, axis=1).max() / getattr(limit, name)), 2)
    return {"of_limit": shares}


def quantiles(seconds: np.ndarray) -> dict[str, float]:
    return {
        name: round(1000 * float(np.quantile(seconds, share)), 3)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


if __name__ == "__main__":
    main()
