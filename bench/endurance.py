"""Whether the policy server leaks: a day's connections in fast succession.

    python bench/endurance.py [--connections 86400]

86400 connections are one a second for 24 hours, far more than robots make. Of eight, four ask
three times and leave as they should; one is cut while its request is under way, one in the middle
of the websocket's handshake, one in the middle of a message, and one sends what is no message. The
server is a process of its own. Memory (RSS), open files and threads are read where everything has
been answered; the slope of memory is fitted over the second half, since allocators warm up. One
JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.serving import Costs, observation
from robot.server import Limits, ServerConfig, run

SAMPLES, AT_ONCE = 24, 8
HALF = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--connections", type=int, default=86400)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        quick = Limits(rate=5000, per_address=64, handshake_s=0.5, message_s=0.5)
        run(Costs(1, 2, batch=8), ServerConfig(port=args.serve, limits=quick))
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            print(json.dumps(asyncio.run(day(port, process.pid, args.connections))))
        finally:
            process.kill()


async def day(port: int, pid: int, connections: int) -> dict[str, Any]:
    """All connections, `AT_ONCE` at a time, and what the server had of memory meanwhile."""
    server, seen = psutil.Process(pid), observation()
    await _begun(port)
    begun, rows = time.monotonic(), []
    ends = np.linspace(0, connections, SAMPLES + 1).astype(int)
    for first, last in itertools.pairwise(ends):
        limit = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(_one(limit, port, seen, number) for number in range(first, last)))
        await _quiet(port)
        rows.append((last, server.memory_info().rss, server.num_fds(), server.num_threads()))
    done, memory, files, threads = np.array(rows).T
    late = slice(SAMPLES // 2, None)
    slope = np.polyfit(done[late], memory[late], 1)[0]
    return {
        "bench": "endurance", "connections": connections,
        "seconds": round(time.monotonic() - begun),
        "rss_mb": [round(float(value) / 1e6, 1) for value in memory],
        "bytes_a_connection": round(float(slope), 1),
        "open_files": [int(files[0]), int(files[-1])],
        "threads": [int(threads[0]), int(threads[-1])],
        "counted": await _counted(port),
        "cores": os.cpu_count(),
    }  # fmt: skip


async def _counted(port: int) -> dict[str, int]:
    """Requests by outcome and refusals by reason, as the server says."""
    lines = (await asyncio.to_thread(_metrics, port)).splitlines()
    found = [
        re.match(r'egoscaler_(?:requests|refused)_total{.*="(.*)"} (\d+)', one) for one in lines
    ]
    return {one[1]: int(one[2]) for one in found if one}


async def _one(limit: asyncio.Semaphore, port: int, seen: dict[str, Any], number: int) -> None:
    async with limit:
        kind = number % 8
        if kind == 5:
            await _cut(port, HALF)
        elif kind == 6:
            await _in_a_message(port)
        else:
            await _client(port, seen, kind)


async def _client(port: int, seen: dict[str, Any], kind: int) -> None:
    from openpi_client import msgpack_numpy
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    message = msgpack_numpy.Packer().pack(seen)
    async with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as client:
        await client.recv()
        if kind == 4:
            await client.send(message)
            client.transport.abort()
        elif kind == 7:
            await client.send(b"\xc1 no message")
            try:
                while True:
                    await client.recv()
            except ConnectionClosed:
                return
        else:
            for _ in range(3):
                await client.send(message)
                await client.recv()


async def _in_a_message(port: int) -> None:
    """A websocket whose client vanishes after the first bytes of a message of a megabyte."""
    from websockets.asyncio.client import connect

    async with connect(f"ws://127.0.0.1:{port}", compression=None) as client:
        await client.recv()
        client.transport.write(struct.pack("!BBQ4s", 0x82, 0xFF, 1_000_000, bytes(4)) + bytes(4096))
        await asyncio.sleep(0.005)
        client.transport.abort()


async def _cut(port: int, sent: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    writer.transport.abort()


async def _begun(port: int) -> None:
    while True:
        try:
            await _cut(port, b"")
            return
        except OSError:
            await asyncio.sleep(0.1)


async def _quiet(port: int) -> None:
    """Until the server says that no client is connected."""
    for _ in range(200):
        page = await asyncio.to_thread(_metrics, port)
        if "egoscaler_connections 0" in page:
            return
        await asyncio.sleep(0.05)
    raise SystemExit("the server still counts connections that are gone")


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        return page.read().decode()


if __name__ == "__main__":
    main()
