"""Training learns what there is to learn: which way a thing goes, by its picture or by words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ego_ops.jpeg import encode_jpegs
from tests import minute_training as minute
from tests import shard_files
from training import policy_folder
from training.config import OptimiserConfig, SourceConfig
from training.data.sources import open_source
from training.policy import Policy

STEP_M = 0.02
SIDES = {-1: "to the left", 1: "to the right"}
LENGTH = 8
REST = np.tile([0.0, 0.0, 0.0, 1.0], (LENGTH, 1))
STEPS = 600


def write(url: str, clips: range, told: bool) -> None:
    """Clips of a thing that goes 2 cm a step to the left or the right: as the picture is dark or
    bright, or as the words say beside pictures that tell nothing."""
    parts = []
    for number in clips:
        side = 1 if number % 2 else -1
        position = np.tile([0.0, 0.0, 0.6], (LENGTH, 1))
        position[:, 0] = side * STEP_M * np.arange(LENGTH)
        grey = 120 if told else (180 if side > 0 else 60)
        picture = np.full((32, 32, 3), grey, np.uint8)
        picture[8:24, (3 * number) % 20 : (3 * number) % 20 + 4] = (7 * number) % 256
        made = replace(
            shard_files.trajectory(number, LENGTH),
            position=position,
            rotation=REST,
            camera_position=np.zeros((LENGTH, 3)),
            camera_rotation=REST,
            frames=encode_jpegs([picture] * LENGTH, 32),
        )
        words = f"push thing {number} {SIDES[side]}" if told else "push it away"
        parts.append((shard_files.clip(number, words), made))
    shard_files.write(url, [parts[at : at + 6] for at in range(0, len(parts), 6)])


def asked(policy: Policy, url: str, noise: np.random.Generator) -> list[tuple[float, float]]:
    """At the first step of each clip: metres to the right that the policy goes, and that the thing
    went. There the state, and what was done before, tell nothing: one has to look, or listen."""
    source = open_source(SourceConfig(url), policy.horizon)
    found = []
    for number, windows in enumerate(source.windows()):
        unit = source.load(number)
        for begin in range(0, windows, LENGTH - 1):
            window = unit.window(begin)
            start = noise.normal(size=(policy.horizon, policy.model.config.action_size))
            chunk = policy.act(window.images, window.instruction, window.state, start)
            found.append((float(chunk[0, 0]), float(window.actions[0, 0])))
    return found


@pytest.mark.parametrize("told", [False, True], ids=["by its picture", "by words"])
def test_held_out_clips_go_the_way_they_should(tmp_path: Path, told: bool) -> None:
    train, unseen = tmp_path / "shards", tmp_path / "unseen"
    write(str(train), range(36), told)
    write(str(unseen), range(100, 112), told)
    config = replace(
        minute.config(tmp_path),
        sources=(SourceConfig(str(train)),),
        steps=STEPS,
        batch=16,
        optimiser=OptimiserConfig(3e-3, 1e-4, warmup=20, ema=0.98),
        held_out=0.0,
        augment=not told,
        log_every=100,
        save_every=STEPS,
        validate_every=STEPS,
    )
    minute.trainer(config, tmp_path / "run").run()
    policy = policy_folder.load(tmp_path / "run" / "policy")
    answers = asked(policy, str(unseen), np.random.default_rng(0))
    assert len(answers) == 12
    # Both ways are equally likely: who does the mean action is a whole step off.
    off = [abs(own - true) for own, true in answers]
    assert np.mean(off) < 0.3 * STEP_M, answers
