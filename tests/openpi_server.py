"""A server of openpi's websocket protocol in a process of its own, which fails as it is told to.

    python tests/openpi_server.py PORT [FAULT]

Its actions tell what it was asked with: the state, repeated over a horizon of 6, plus the mean of
the first picture.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import msgpack
import numpy as np
from websockets.asyncio.server import ServerConnection, serve

METADATA = {"robot": "arm", "horizon": 6}
HORIZON = 6


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    return value


def array(found: dict) -> Any:
    if b"__ndarray__" in found:
        return np.ndarray(found[b"shape"], np.dtype(found[b"dtype"]), found[b"data"])
    return found


def actions(asked: dict) -> np.ndarray:
    """(6, S) what is answered."""
    image = next(value for key, value in asked.items() if "observation/" in key and value.ndim == 3)
    return np.tile(asked["observation/state"] + image.mean(), (HORIZON, 1)).astype(np.float32)


class Server:
    def __init__(self, fault: str):
        self.fault, self.asked = fault, 0

    async def talk(self, connection: ServerConnection) -> None:
        await connection.send(msgpack.packb(METADATA))
        async for message in connection:
            asked = msgpack.unpackb(message, object_hook=array)
            self.asked += 1
            if self.fault == "error":
                await connection.send("Traceback (most recent call last):\n  ...\nKeyError: 'x'\n")
                await connection.close(1011, "Internal server error.")
                return
            if self.fault == "die" and self.asked == 3:
                os._exit(1)
            if self.fault == "drop" and self.asked % 3 == 0:
                connection.transport.abort()
                return
            if self.fault == "late" and asked["prompt"] == "late":
                await asyncio.sleep(1.0)
            await connection.send(self.answer(asked))

    def answer(self, asked: dict) -> Any:
        found = actions(asked)
        if self.fault == "garbage":
            return b"\xc1garbage"
        if self.fault == "list":
            return msgpack.packb([1, 2])
        if self.fault == "object":
            kind = {b"dtype": "|O", b"shape": [1]}
            return msgpack.packb({"actions": {b"__ndarray__": True, b"data": b"8" * 8, **kind}})
        if self.fault == "short":
            kind = {b"dtype": "<f4", b"shape": [6, 4]}
            return msgpack.packb({"actions": {b"__ndarray__": True, b"data": b"8" * 8, **kind}})
        if self.fault == "nan":
            found[2, 1] = np.nan
        if self.fault == "wide":
            found = np.zeros((HORIZON, 99), np.float32)
        told = {"actions": found, "state": asked["observation/state"],
                "policy_timing": {"infer_ms": 1.0}, "server_timing": {"infer_ms": 1.0}}  # fmt: skip
        return msgpack.packb(told, default=plain)


async def main(port: int, fault: str) -> None:
    # As openpi's: nothing compressed, messages of any size.
    talk = Server(fault).talk
    async with serve(talk, "127.0.0.1", port, compression=None, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
