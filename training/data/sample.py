"""What a data source gives: windows, each a picture, an instruction, a state and the next actions.

A source is a list of *units* (a Parquet part, an episode) that are read whole, and each unit a
list of windows, one for every step that an action follows. Some units fit into memory at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""π0's cameras, in the order that its checkpoints were trained with."""


@dataclass(frozen=True)
class Window:
    """One sample, as it was recorded: not normalised, not padded to the model's width."""

    images: Mapping[str, NDArray[np.uint8]]
    """By names out of `CAMERAS`: (H, W, 3) RGB. Cameras that the source lacks are absent."""
    instruction: str
    state: NDArray[np.float32]
    """(S,)."""
    actions: NDArray[np.float32]
    """(horizon, A); steps after the end repeat an action that means standing still, or the last."""
    valid: NDArray[np.bool_]
    """(horizon,): whether the action was recorded, not filled in."""


class Unit(Protocol):
    """A unit in memory."""

    def window(self, number: int) -> Window:
        """The window that begins at the unit's step of that number. Safe to call from threads."""

    def states(self) -> NDArray[np.float32]:
        """(windows, S) every window's state."""

    def steps(self) -> NDArray[np.float32]:
        """(windows, A) the first action of every window: each recorded action once."""


class Source(Protocol):
    """Windows of one kind: of shards, or of one robot dataset."""

    name: str
    state_size: int
    action_size: int
    cameras: tuple[str, ...]
    """Out of `CAMERAS`."""
    digest: str
    """Hexadecimal; differs wherever the windows or their order may differ."""

    def windows(self) -> NDArray[np.int64]:
        """(units,) how many windows each unit has; none has 0."""

    def load(self, unit: int, pictures: bool = True) -> Unit:
        """Read a unit.

        Args:
            pictures: False leaves them out, for statistics.

        Raises:
            UserError: it cannot be read, or holds numbers that are not finite.
        """
