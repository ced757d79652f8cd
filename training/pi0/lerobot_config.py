"""What LeRobot wants to know of a policy before it loads its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ego_ops.storage import LocalStore
from training.pi0.config import Pi0Config

FILE = "config.json"


def write(
    folder: str | Path, config: Pi0Config, cameras: Sequence[str], state: int, actions: int
) -> None:
    """Write `config.json` beside the `model.safetensors` of `training.pi0.checkpoint.save`, so that
    LeRobot's `PI0Policy.from_pretrained(folder)` (π0.5: `PI05Policy`) loads the two.

    It has no place for the model's sizes, which are constants in LeRobot's code: only the full
    sizes (`pi0`, `pi05`) load there.

    Args:
        cameras: of the robot, by LeRobot's names without `observation.images.`.
        state, actions: numbers that a state and an action of the robot have.

    Raises:
        UserError: the file system refuses.
    """
    text = json.dumps(_fields(config, cameras, state, actions), indent=2)
    LocalStore(str(folder)).write(FILE, text.encode())


def _fields(config: Pi0Config, cameras: Sequence[str], state: int, actions: int) -> dict:
    side = config.vision.image
    pictures = {
        f"observation.images.{name}": {"type": "VISUAL", "shape": [3, side, side]}
        for name in cameras
    }
    return {
        "type": "pi05" if config.pi05 else "pi0",
        "input_features": {**pictures, "observation.state": {"type": "STATE", "shape": [state]}},
        "output_features": {"action": {"type": "ACTION", "shape": [actions]}},
        "dtype": "float32",
        "chunk_size": config.horizon,
        "n_action_steps": config.horizon,
        "max_state_dim": config.action_size,
        "max_action_dim": config.action_size,
        "image_resolution": [side, side],
        "tokenizer_max_length": config.text_tokens,
    }
