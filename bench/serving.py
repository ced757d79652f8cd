"""What a policy server adds to its policy: ours beside openpi's design, asked by openpi's client.

    python bench/serving.py [--requests 600] [--clients 16] [--seconds 6]

Latency: one client, two pictures of 224 pixels and a state, a policy that costs nothing, so all is
added; the two servers are asked in turns, some requests each, in the same run. Throughput: many
clients, a policy of 20 ms whose call of eight costs 30 ms; openpi's design asks it one by one in
its event loop. Servers and clients are processes of their own. One JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from robot.policy import Answer, PolicyError, Request
from robot.server import Limits, ServerConfig, run

warnings.filterwarnings("ignore", category=DeprecationWarning)  # the client's
BATCH, TURN, THREADS = 8, 50, 4
RUN_IN_S = 1.0
ACTIONS = np.zeros((50, 7), np.float32)


class Costs:
    """A policy of a known cost, which is spent as a GPU's is: without Python's lock."""

    metadata: Mapping[str, Any] = {"policy": "costs"}

    def __init__(self, one_ms: float, full_ms: float, batch: int):
        self.batch = batch
        self._one = one_ms / 1000
        self._more = (full_ms - one_ms) / 1000 / max(1, batch - 1)

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        seconds = self._one + self._more * (len(requests) - 1)
        if seconds:
            time.sleep(seconds)
        return [Answer(ACTIONS) for _ in requests]

    def forget(self, client: str) -> None:
        return

    def close(self) -> None:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--serve", choices=("ours", "openpi"), help=argparse.SUPPRESS)
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--costs", type=float, nargs=2, default=(0, 0), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, Costs(*args.costs, batch=BATCH))
        return
    if args.ask:
        print(json.dumps(asked(args.ask, args.clients, args.seconds)))
        return
    found: dict[str, Any] = {
        "bench": "serving",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    found |= {"added_ms": added(args.requests), "costs_ms": [20, 30], "clients": args.clients}
    for name in ("openpi", "ours"):
        with server(name, 20, 30) as port:
            found[name] = crowd(port, args.clients, args.seconds)
    found["speedup"] = round(found["ours"]["per_s"] / found["openpi"]["per_s"], 2)
    print(json.dumps(found))


def serve(which: str, policy: Costs) -> None:
    if which == "openpi":
        asyncio.run(serial(policy))
        return
    with free_port() as port:
        print(port, flush=True)
    run(policy, ServerConfig(port=port, limits=Limits(rate=5000)))


@contextmanager
def free_port() -> Iterator[int]:
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def serial(policy: Costs) -> None:
    """openpi's design: one websocket handler that computes in the event loop."""
    from openpi_client import msgpack_numpy
    from websockets.asyncio.server import ServerConnection
    from websockets.asyncio.server import serve as listen

    async def talk(connection: ServerConnection) -> None:
        packer, last = msgpack_numpy.Packer(), None
        await connection.send(packer.pack(policy.metadata))
        async for message in connection:
            begun = time.monotonic()
            observation = msgpack_numpy.unpackb(message)
            infer = time.monotonic()
            (answer,) = policy.infer([Request(observation, "", False)])
            timing = {"infer_ms": 1000 * (time.monotonic() - infer)}
            if last is not None:
                timing["prev_total_ms"] = 1000 * last
            assert isinstance(answer, Answer)
            told = {"actions": answer.actions, "server_timing": timing}
            await connection.send(packer.pack(told))
            last = time.monotonic() - begun

    logging.getLogger("websockets.server").disabled = True  # of clients that are gone
    async with listen(talk, "127.0.0.1", 0, compression=None, max_size=None) as listening:
        print(listening.sockets[0].getsockname()[1], flush=True)
        await listening.serve_forever()


@contextmanager
def server(which: str, one_ms: float = 0, full_ms: float = 0) -> Iterator[int]:
    """A server in a process of its own; its port, once it answers."""
    words = [sys.executable, __file__, "--serve", which, "--costs", str(one_ms), str(full_ms)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            client(port).infer(observation())
            yield port
        finally:
            process.kill()


def client(port: int) -> Any:
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    for _ in range(100):
        try:
            return WebsocketClientPolicy("127.0.0.1", port)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("the server does not begin")


def observation() -> dict[str, Any]:
    """openpi's for LIBERO."""
    chance = np.random.default_rng(0)
    picture = chance.integers(0, 256, (2, 224, 224, 3), np.uint8)
    return {
        "observation/image": picture[0],
        "observation/wrist_image": picture[1],
        "observation/state": chance.standard_normal(8).astype(np.float32),
        "prompt": "put the cup on the plate",
    }


def added(requests: int) -> dict[str, dict[str, float]]:
    """Milliseconds of one client's requests, by server, asked in turns."""
    seen = observation()
    with server("ours") as ours, server("openpi") as openpi:
        clients = {"ours": client(ours), "openpi": client(openpi)}
        took: dict[str, list[float]] = {name: [] for name in clients}
        for turn in range(-(-requests // TURN) + 1):
            for name, each in clients.items():
                for _ in range(TURN):
                    begun = time.perf_counter()
                    each.infer(seen)
                    if turn:  # the first is to warm up
                        took[name].append(time.perf_counter() - begun)
    return {name: quantiles(each) for name, each in took.items()}


def crowd(port: int, clients: int, seconds: float) -> dict[str, Any]:
    """Requests a second of many clients, four threads a process, and what each waited."""
    words = [sys.executable, __file__, "--ask", str(port), "--seconds", str(seconds)]
    shares = [len(part) for part in np.array_split(np.arange(clients), -(-clients // THREADS))]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    asking = [subprocess.Popen([*words, "--clients", str(share)], **pipes) for share in shares]
    for process in asking:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    begin = f"{time.time() + RUN_IN_S}\n"  # of all the same
    for process in asking:
        assert process.stdin is not None
        process.stdin.write(begin)
        process.stdin.flush()
    told = [json.loads(process.communicate()[0]) for process in asking]
    each = [client for process in told for client in process]
    answered = sum(len(waits) for waits in each)
    counts = [len(waits) for waits in each]
    everything = [wait for waits in each for wait in waits]
    return {
        "per_s": round(answered / seconds, 1),
        **quantiles(everything),
        "least_per_s": round(min(counts) / seconds, 1),
        "most_per_s": round(max(counts) / seconds, 1),
    }


def asked(port: int, count: int, seconds: float) -> list[list[float]]:
    """Seconds of the requests of some clients, by client: those answered after the time that is
    read from the standard input. They ask before it, too."""
    found: list[list[float]] = [[] for _ in range(count)]
    clients, seen = [client(port) for _ in range(count)], observation()
    print("ready", flush=True)
    begin = float(sys.stdin.readline())

    def ask(number: int) -> None:
        ended = time.time()
        while ended < begin + seconds:
            begun = ended
            clients[number].infer(seen)
            ended = time.time()
            if begin <= ended < begin + seconds:
                found[number].append(ended - begun)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(1000 * np.array(seconds), (50, 99))
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


if __name__ == "__main__":
    main()
