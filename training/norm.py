"""Normalisation statistics of states and actions, in openpi's `norm_stats.json`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Statistics:
    """Of one array's last axis, D numbers."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    q01: NDArray[np.float64]
    q99: NDArray[np.float64]


@dataclass(frozen=True)
class NormStats:
    """What a source is normalised by."""

    state: Statistics
    actions: Statistics
