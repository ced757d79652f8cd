"""Which held-out windows are looked at, and what was done just before each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.keyed import philox
from training.data.sample import Source, Unit, Window

_UNITS = 64
"""Most units of a source that are read."""

Pick = tuple[int, int]
"""A unit, and a window of it."""


def chosen(windows: NDArray[np.int64], samples: int, key: int = 0) -> list[Pick]:
    """Windows spread over units and what they hold, one by chance of every stretch of them.

    Args:
        windows: (units,) how many each unit has.
        samples: how many to choose; all where there are no more.
        key: another key, others of them.
    """
    chance = np.random.Generator(philox("validate", key))
    units = _spread(len(windows), _UNITS, chance)
    ends = np.cumsum(windows[units])
    places = _spread(int(ends[-1]), samples, chance)
    at = np.searchsorted(ends, places, side="right")
    firsts = ends - windows[units]
    return list(zip(units[at].tolist(), (places - firsts[at]).tolist(), strict=True))


def read(
    source: Source, picks: Sequence[Pick], still: NDArray[np.floating]
) -> Iterator[tuple[Window, NDArray[np.floating]]]:
    """Windows, and of each the (A,) action recorded just before. Holds one unit at a time.

    Args:
        still: (A,) what stands for that action at the start of a clip.

    Raises:
        UserError: the source cannot be read.
    """
    unit, loaded = None, -1
    for at, number in picks:
        if unit is None or at != loaded:
            unit, loaded = source.load(at), at
        yield unit.window(number), _before(unit, number, still)


def _before(unit: Unit, number: int, still: NDArray[np.floating]) -> NDArray[np.floating]:
    # Only inside a clip has the window before another recorded action after its first.
    if number and unit.window(number - 1).valid[1:2].any():
        return unit.steps()[number - 1]
    return still


def _spread(count: int, most: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """Up to `most` of the numbers below `count`, in order, one of each stretch of equal length."""
    if count <= most:
        return np.arange(count)
    return ((np.arange(most) + chance.random(most)) * count / most).astype(np.int64)
