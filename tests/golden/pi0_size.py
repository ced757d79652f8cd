"""The π0 and π0.5 that LeRobot's answers are of; what made them is `make_pi0.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from training.pi0.config import GemmaSize, Pi0Config, SiglipSize

FOLDER = Path(__file__).parent / "pi0"
SIZE = Pi0Config(
    vision=SiglipSize(width=24, depth=2, mlp=40, heads=2, patch=7, image=14),
    language=GemmaSize(width=32, mlp=64),
    expert=GemmaSize(width=16, mlp=32),
    depth=3,
    heads=8,
    head_size=8,
    vocabulary=64,
    text_tokens=7,
    action_size=8,
    horizon=6,
)
SIZE_PI05 = replace(SIZE, vision=replace(SIZE.vision, depth=1), depth=2, pi05=True)
GOLDEN = {FOLDER: SIZE, FOLDER.parent / "pi05": SIZE_PI05}
