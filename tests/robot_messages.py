"""Messages that nobody should send: what a careless or hostile client makes of openpi's."""

from __future__ import annotations

from typing import Any

import cv2
import msgpack
import numpy as np
from openpi_client import msgpack_numpy


def good() -> list[bytes]:
    """A few messages of clients, packed by openpi's package and the msgpack one."""
    chance = np.random.default_rng(0)
    picture = chance.integers(0, 256, (8, 8, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    seen = {
        "observation/image": picture,
        "observation/state": chance.standard_normal(8).astype(np.float32),
        "flags": np.array([True, False]),
        "words": np.array(["spoon", "towel"]),
        "one": np.float64(2.5),
        "prompt": "put the spoon on the towel",
        "nested": [{"a": None, "b": [1, -1, 2**40, 1.5]}],
    }
    ask: dict[str, Any] = {"id": 1, "deadline_ms": 500.0, "reset": True}
    prefix = {"prefix": np.zeros((4, 7), np.float32), "delay": 2}
    return [
        msgpack_numpy.packb(seen),
        msgpack_numpy.packb({**seen, "egoscaler": ask}),
        msgpack_numpy.packb({"x": 1, "egoscaler": {**ask, **prefix}}),
        msgpack.packb({"image": {b"__jpeg__": True, b"data": jpeg}, "egoscaler": ask}),
    ]


def mutated(message: bytes, chance: np.random.Generator) -> bytes:
    """A message with some of its bytes changed, taken out, doubled, or cut off."""
    data = bytearray(message)
    for _ in range(chance.integers(1, 4)):
        at, kind = int(chance.integers(0, len(data) + 1)), chance.integers(0, 6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << int(chance.integers(0, 8))
        elif kind == 1 and at < len(data):
            data[at] = int(chance.integers(0xC0, 0xE0))  # heads of msgpack's longer kinds
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + int(chance.integers(1, 9))]
        elif kind == 4:
            data[at:at] = data[at : at + int(chance.integers(1, 40))]
        else:
            data[at:at] = chance.bytes(int(chance.integers(1, 9)))
    return bytes(data)


def stream(count: int, seed: int) -> list[bytes]:
    """So many messages, mutated ones mostly, and some of chance."""
    chance, known = np.random.default_rng(seed), good()
    found = []
    for number in range(count):
        if number % 10 == 0:
            found.append(chance.bytes(int(chance.integers(0, 60))))
        else:
            found.append(mutated(known[number % len(known)], chance))
    return found
