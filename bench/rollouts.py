"""Episodes an hour: one environment with one websocket, against batched rollouts on Ray.

    python bench/rollouts.py [--episodes 64] [--workers 2] [--envs-per-worker 8]

The same policy plays the same number of steps in the tabletop both times, on this machine: (a) as
openpi's LIBERO example does, a serial loop with openpi's client, and a server in openpi's protocol
that answers one request at a time; (b) as `egoscaler evaluate` does. The policy is bound by reading
its weights (`--megabytes`), as a large model at small batches is: a batch of 8 costs less than two
single calls, which is measured too. The baseline is measured before and after, since other work on
the machine would blur the ratio. The start of processes is reported apart.

Also in the JSON line that is printed: how full the policy's batches were; what our loop adds to the
CPU time of rendering and physics; and episodes an hour by the number of workers on a simulated
cluster of several nodes, with an environment that sleeps.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["PYTHONPATH"] = sys.path[0]  # for the processes that are started
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

from sim_eval import suites
from sim_eval.episode import Episode, Settings
from sim_eval.policy import PolicyError, Request
from sim_eval.suite import Floats, Suite, Task
from tests.points import Points, Walker
from workflows import policy_actor
from workflows.evaluate_plan import Options
from workflows.evaluation import connected
from workflows.rollout_jobs import Job, Player
from workflows.rollout_workers import Crew

SUITE, TASK, HORIZON, NUMBERS = "tabletop", "stack_cube", 16, 10
WIDTH = 2048


class Weights:
    """A policy that reads so many megabytes of weights a call, and does next to nothing."""

    digest = "weights"

    def __init__(self, megabytes: int, batch: int):
        import torch

        torch.set_num_threads(1)
        self.batch = batch
        layers = round(megabytes * 2**20 / (2 * WIDTH**2))
        one = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)) / WIDTH**0.5
        self._layers = [one.bfloat16() for _ in range(layers)]

    def act(self, requests: Sequence[Request]) -> list[Floats | PolicyError]:
        states = np.array([request.observation.state for request in requests])
        return list(self.chunks(states))

    def chunks(self, states: Floats) -> Floats:
        """(B, HORIZON, NUMBERS) steps of a tenth of a millimetre, for states (B, S)."""
        import torch

        values = torch.from_numpy(np.resize(states, (len(states), WIDTH))).bfloat16()
        with torch.inference_mode():
            for layer in self._layers:
                values = torch.tanh(torch.nn.functional.linear(values, layer))
        found = np.resize(values.float().numpy(), (len(states), HORIZON, NUMBERS))
        return 1e-4 * found.astype(np.float64)

    def close(self) -> None:
        self._layers = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--envs-per-worker", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--latency-cap", type=float, default=200.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(Weights(args.megabytes, 1)))
        return
    options = Options(workers=args.workers, batch=args.batch, envs_per_worker=args.envs_per_worker)
    args.envs_per_worker = options.slots(args.workers)
    found: dict[str, Any] = {"bench": "rollouts", "suite": SUITE, "cores": os.cpu_count()}
    found |= vars(args) | policy_cost(args)
    found.pop("serve")
    few = max(2, args.episodes // 16)
    before = serial(few, args.megabytes)
    with connected(options, batched=True, gpus=False):
        found |= batched(args)
        found |= overhead()
    after = serial(few, args.megabytes)
    found["serial_episodes_per_h"] = round((before + after) / 2, 1)
    found["speedup"] = round(found["episodes_per_h"] / found["serial_episodes_per_h"], 2)
    found["nodes"] = scaling()
    print(json.dumps(found))


def policy_cost(args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a call with one request, and with a full batch."""
    policy = Weights(args.megabytes, args.batch)
    costs = {}
    for name, count in (("call_1_ms", 1), (f"call_{args.batch}_ms", args.batch)):
        states, times = np.ones((count, 8)), []
        for _ in range(7):
            begun = time.perf_counter()
            policy.chunks(states)
            times.append(time.perf_counter() - begun)
        costs[name] = round(1000 * float(np.median(times)), 1)
    return costs


async def serve(policy: Weights) -> None:
    """A server of openpi's protocol, which computes in its event loop as openpi's does."""
    from openpi_client import msgpack_numpy
    from websockets.asyncio.server import ServerConnection
    from websockets.asyncio.server import serve as listen

    async def talk(connection: ServerConnection) -> None:
        packer = msgpack_numpy.Packer()
        await connection.send(packer.pack({}))
        async for message in connection:
            asked = msgpack_numpy.unpackb(message)
            actions = policy.chunks(asked["observation/state"][None])[0]
            await connection.send(packer.pack({"actions": actions}))

    async with listen(talk, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


def serial(count: int, megabytes: int) -> float:
    """Episodes an hour of openpi's loop."""
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    suite = suites.get(SUITE)
    words = [sys.executable, __file__, "--serve", "--megabytes", str(megabytes)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            client = WebsocketClientPolicy("127.0.0.1", int(process.stdout.readline()))
            environment = suite.environment()
            environment.reset(TASK, 0)
            client.infer(_message(suite, environment))
            begun = time.perf_counter()
            for seed in range(count):
                environment.reset(TASK, seed)
                left: deque[Floats] = deque()
                for _ in range(suite.tasks[TASK].horizon):
                    if not left:
                        answer = client.infer(_message(suite, environment))
                        left.extend(answer["actions"][: suite.replan])
                    assert not environment.step(left.popleft())
            took = time.perf_counter() - begun
            environment.close()
        finally:
            process.kill()
    return 3600 * count / took


def _message(suite: Suite, environment: Any) -> dict[str, Any]:
    seen = environment.observe()
    return suite.message(seen) | {"observation/state": seen.state}


def batched(args: argparse.Namespace) -> dict[str, Any]:
    """Episodes an hour of ours, how full the batches were, and the seconds to start."""
    import ray

    suite = suites.get(SUITE)
    open_policy, begun = partial(Weights, args.megabytes, args.batch), time.perf_counter()
    with (
        Crew(suite, args.workers, args.envs_per_worker, 60.0, 1) as crew,
        policy_actor.started(open_policy, args.latency_cap / 1000, 1, 0) as actors,
    ):
        player = Player("weights", actors)
        _play(crew, suite, TASK, 1000, args.workers * args.envs_per_worker, player)
        started = time.perf_counter()
        before = ray.get(actors[0].counts.remote())
        _play(crew, suite, TASK, 0, args.episodes, player)
        took = time.perf_counter() - started
        after = ray.get(actors[0].counts.remote())
    calls, requests = after.calls - before.calls, after.requests - before.requests
    return {
        "episodes_per_h": round(3600 * args.episodes / took, 1),
        "fill": round(requests / (calls * args.batch), 3),
        "policy_busy": round((after.computing_s - before.computing_s) / took, 3),
        "latency_ms": round(1000 * (after.latency_s - before.latency_s) / requests, 1),
        "start_s": round(started - begun, 1),
    }


def overhead() -> dict[str, float]:
    """CPU milliseconds that our loop adds to the worker for each time that the policy is asked, and
    those of the tabletop's rendering and physics.

    The loop's are measured around an environment that costs next to nothing but has pictures and
    states to be sent, so that the figure is no small difference of large ones.
    """
    tasks = {TASK: Task(TASK, "stand still", 400)}
    tabletop = suites.get(SUITE)
    still = Points(image=224, tasks=tasks, replan=tabletop.replan)
    calls = 20 * tasks[TASK].horizon // still.replan
    with (
        Crew(still, 1, 4, 60.0, 1) as crew,
        policy_actor.started(Still, 0.0, 1, 0) as actors,
    ):
        player = Player("still", actors)
        _play(crew, still, TASK, 1000, 4, player)
        before = _cpu_s()
        _play(crew, still, TASK, 0, 20, player)
        after = _cpu_s()
    worker, everything = ((after[name] - before[name]) / calls for name in ("worker", "all"))
    bare = _plain(still, 5)
    pure = _plain(tabletop, 5)
    return {
        "environment_cpu_ms": round(1000 * pure, 2),
        "loop_cpu_ms": round(1000 * (worker - bare), 2),
        "all_processes_cpu_ms": round(1000 * (everything - bare), 2),
        "overhead": round((worker - bare) / pure, 3),
    }


class Still:
    """A policy that answers at once, for a point that is to stay where it is."""

    digest, batch = "still", 4

    def act(self, requests: Sequence[Request]) -> list[Floats | PolicyError]:
        return [np.zeros((HORIZON, 2)) for _ in requests]

    def close(self) -> None:
        return


def _cpu_s() -> dict[str, float]:
    """CPU seconds so far, of the environment worker and of all processes."""
    spent = {"worker": 0.0, "all": time.process_time()}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent["all"] += times.user + times.system
            if process.cmdline()[:1] == ["ray::Worker"]:
                spent["worker"] += times.user + times.system
    return spent


def _plain(suite: Suite, count: int) -> float:
    """CPU seconds of the environment alone, for each time that a policy would be asked."""
    environment = suite.environment()
    environment.reset(TASK, 0)
    environment.observe()
    action, calls, begun = np.zeros(suite.action_size), 0, time.process_time()
    for seed in range(count):
        environment.reset(TASK, seed)
        for step in range(suite.tasks[TASK].horizon):
            if step % suite.replan == 0:
                environment.observe()
                calls += 1
            environment.step(action)
    took = time.process_time() - begun
    environment.close()
    return took / calls


def scaling() -> dict[int, float]:
    """Episodes an hour by the number of workers, two a node, where a step takes 20 ms of sleep."""
    import ray
    from ray.cluster_utils import Cluster

    suite, rates = Points(step_s=0.02), {}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        ray.init(address=nodes.address, logging_level="ERROR", log_to_driver=False)
        for count in (1, 2, 4):
            while len(nodes.list_all_nodes()) < 1 + count:
                nodes.add_node(num_cpus=2)
            nodes.wait_for_nodes()
            with (
                Crew(suite, 2 * count, 2, 60.0, 1) as crew,
                policy_actor.started(partial(Walker, batch=4), 0.01, 1, 0) as actors,
            ):
                player = Player("walker", actors)
                _play(crew, suite, "far", 1000, 8 * count, player)
                begun = time.perf_counter()
                _play(crew, suite, "far", 0, 32 * count, player)
                rates[2 * count] = round(3600 * 32 * count / (time.perf_counter() - begun), 1)
    finally:
        ray.shutdown()
        nodes.shutdown()
    return rates


def _play(crew: Crew, suite: Suite, task: str, first: int, count: int, player: Player) -> None:
    settings = Settings(suite.replan)
    jobs = deque(
        Job(Episode("bench", suite.name, suite.version, task, first + seed, settings))
        for seed in range(count)
    )
    found = [one for some in crew.play(jobs, player, lambda result: False) for one in some]
    assert len(found) == count
    assert all(not one.result.error for one in found), found[0].result


if __name__ == "__main__":
    main()
