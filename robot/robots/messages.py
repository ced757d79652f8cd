"""An observation as the messages of openpi's clients for several robots: what a server is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from robot.robot import Observation

_BASE, _LEFT, _RIGHT = "base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"
CAMERAS = (_BASE, _LEFT, _RIGHT)
"""π0's names."""


class _Keys(NamedTuple):
    images: Mapping[str, str]
    state: str


_STATE = "observation/state"
_ARM = {_BASE: "observation/image", _LEFT: "observation/wrist_image"}
LAYOUTS: Mapping[str, _Keys] = {
    "ours": _Keys({camera: f"observation/images/{camera}" for camera in CAMERAS}, _STATE),
    "tabletop": _Keys(_ARM, _STATE),
    "libero": _Keys(_ARM, _STATE),
    "aloha": _Keys(
        {
            _BASE: "images/cam_high",
            _LEFT: "images/cam_left_wrist",
            _RIGHT: "images/cam_right_wrist",
        },
        "state",
    ),
}
"""By the name that `egoscaler serve --observation` has for them."""


def message(layout: str, seen: Observation, instruction: str) -> dict[str, Any]:
    """What a server is sent of an observation; cameras that the layout does not have are not."""
    keys = LAYOUTS[layout]
    pictures = {keys.images[name]: seen.images[name] for name in seen.images if name in keys.images}
    return {**pictures, keys.state: seen.state, "prompt": instruction}
