"""Chance that depends on a key alone: the same on every machine, for any number of workers."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def philox(*key: int | str) -> np.random.Philox:
    """A counter-based stream (Salmon et al., SC 2011) of its own for every key."""
    text = "/".join(map(str, key))
    words = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<u8")
    return np.random.Philox(key=words)


def permutation(count: int, *key: int | str) -> NDArray[np.int64]:
    """(count,) the numbers from 0 in an order of chance.

    Made of raw words, which NumPy promises to keep from version to version.
    """
    return np.argsort(philox(*key).random_raw(count), kind="stable")


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each number hashed by itself (splitmix64's finaliser, Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def held_out(keys: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """Which of some clips or episodes are kept from training.

    Depends on each key alone, but that one is always left to train on, and of two or more one is
    always held out where a share is asked for.

    Args:
        keys: (n,) any numbers that name them; what has the same is on the same side.
        share: from 0 (none at all) to below 1.
    """
    hashes = mixed(np.asarray(keys, np.uint64))
    chosen = hashes < np.uint64(min(int(share * 2**64), 2**64 - 1))
    if share > 0 and len(keys):
        chosen[hashes == hashes.min()] = True
        chosen[hashes == hashes.max()] = False
    return chosen
