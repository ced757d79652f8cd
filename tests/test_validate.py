"""Validation: its figures on known paths, the same figures whoever and whenever works them out."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from ego_ops.geometry.actions import IDENTITY, actions
from tests import minute_training, shard_files
from tests.minute_training import MODEL, statistics
from training import tokeniser, validation_plot
from training.action_error import apart, motions, path
from training.config import SourceConfig
from training.data.mixture import Mixer
from training.data.norm import normalise
from training.data.sample import Source, Window
from training.data.shard_source import ShardSource
from training.parallel import wrap
from training.pi0.model import Pi0
from training.validate import Case, Held, examined, figures, validate
from training.validation_windows import chosen

CPU = torch.device("cpu")
HORIZON = MODEL.horizon


def action(ahead: float, turn: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """(9,) a step along x and a turn about z, its columns not of unit length."""
    matrix = Rotation.from_rotvec([0, 0, turn]).as_matrix() * scale
    return np.concatenate([[ahead, 0, 0], matrix[:, 0], matrix[:, 1]])


def held(folder: Path, part: str = "held_out") -> Held:
    if not folder.exists():
        shard_files.simple(str(folder), parts=4, clips=3, steps=10, side=28)
    config = SourceConfig(str(folder))
    source = ShardSource(config, HORIZON, part, 0.3)  # type: ignore[arg-type]
    return Held(0, source, config, statistics(source))


def mixer(given: Held) -> Mixer:
    kinds = [given.config.normalise]
    words = tokeniser.load("bytes")
    return Mixer([given.source], [given.stats], kinds, words, MODEL, 0, augmented=False)


def model() -> Pi0:
    torch.manual_seed(3)
    return Pi0(MODEL)


def validated(given: Held, one: torch.nn.Module, samples: int, *place: int) -> dict[str, float]:
    return validate(
        one, [given.source], [given.config], [given.stats], mixer(given), samples, CPU, *place
    )


def case(found: np.ndarray, recorded: np.ndarray, valid: list[bool]) -> Case:
    """Of a window of constant steps."""
    count = len(valid)
    steps = np.tile(found, (count, 1)), np.tile(recorded, (count, 1))
    return Case(*steps, np.array(valid), IDENTITY, (1.0, 2.0))


def test_errors_of_a_straight_path(tmp_path: Path) -> None:
    counts = [[True] * 4, [True, False, False, False]]
    some = [case(action(0.02), action(0.01), valid) for valid in counts]
    found = {name: a / b for name, (a, b) in figures(some, held(tmp_path / "s")).items()}
    assert found["loss"] == 0.5
    assert found["translation_m"] == pytest.approx(0.01)
    assert found["path_translation_m"] == pytest.approx((1 + 2 + 3 + 4 + 1) / 5 * 0.01)
    assert found["end_translation_m"] == pytest.approx((4 + 1) / 2 * 0.01)
    assert found["path_translation_m_repeat"] == pytest.approx((1 + 2 + 3 + 4 + 1) / 5 * 0.01)
    for name in ("rotation_rad", "path_rotation_rad", "end_rotation_rad"):
        assert found[name] == pytest.approx(0, abs=1e-9)


def test_errors_of_a_constant_turn(tmp_path: Path) -> None:
    turn, ahead, count = 0.2, 0.03, 5
    given = case(action(ahead, turn), action(ahead), [True] * count)
    found = {name: a / b for name, (a, b) in figures([given], held(tmp_path / "s")).items()}
    # A polygon's corners, as complex numbers.
    corners = ahead * np.cumsum(np.exp(1j * turn * np.arange(count)))
    away = np.abs(corners - ahead * np.arange(1, count + 1))
    assert found["translation_m"] == pytest.approx(0, abs=1e-12)
    assert found["rotation_rad"] == pytest.approx(turn)
    assert found["path_translation_m"] == pytest.approx(away.mean())
    assert found["end_translation_m"] == pytest.approx(away[-1])
    assert found["path_rotation_rad"] == pytest.approx(turn * 3)
    assert found["end_rotation_rad"] == pytest.approx(turn * count)


def test_what_was_not_recorded_does_not_count(tmp_path: Path) -> None:
    given, valid = held(tmp_path / "s"), [True, True, False, False]
    clean = case(action(0.02, 0.1), action(0.01), valid)
    wild = clean.found.copy()
    wild[2:] = 7.0
    assert figures([clean._replace(found=wild)], given) == figures([clean], given)


def test_columns_become_a_rotation() -> None:
    turned = Rotation.from_rotvec([0.3, -0.2, 0.9]).as_matrix()
    skewed = np.concatenate([[0, 0, 0], 3 * turned[:, 0], 0.5 * turned[:, 1] + 2 * turned[:, 0]])
    np.testing.assert_allclose(motions(skewed).rotation, turned, atol=1e-12)


def test_a_path_leads_where_the_object_went() -> None:
    position, rotation = shard_files.path(5, 9, 0.05)
    poses = RigidTransform.from_components(position, Rotation.from_quat(rotation))
    truth = (poses[0].inv() * poses[1:]).as_matrix()
    found = path(motions(actions(position, rotation)[None, :-1]))
    np.testing.assert_allclose(found.translation[0], truth[:, :3, 3], atol=1e-9)
    np.testing.assert_allclose(found.rotation[0], truth[:, :3, :3], atol=1e-9)


@pytest.mark.parametrize("angle", [1e-7, 0.4, 3.1])
def test_angles_are_those_of_the_rotation_between(angle: float) -> None:
    one = Rotation.from_rotvec([1.0, 2.0, -0.5])
    other = one * Rotation.from_rotvec(np.array([0.6, 0.0, 0.8]) * angle)
    both = [motions(np.r_[0, 0, 0, turn.as_matrix().T[:2].ravel()]) for turn in (one, other)]
    assert apart(*both).rotation == pytest.approx(angle, rel=1e-6)


def test_baselines_are_what_the_recorded_steps_give(tmp_path: Path) -> None:
    given = held(tmp_path / "s", "train")
    found = validated(given, model(), 10_000)
    numbers = [clip for clip in range(12) if _has(given.source, clip)]
    assert len(numbers) < 12
    errors: dict[str, list[float]] = {}
    for clip in numbers:
        steps = 10 + clip % 3
        position, rotation = shard_files.path(2 * clip, steps)
        moves = [_motion(position, rotation, step) for step in range(steps - 1)]
        for step in range(steps - 1):
            last = moves[step - 1] if step else RigidTransform.identity()
            after = RigidTransform.identity()
            led = RigidTransform.identity()
            for move in moves[step : step + HORIZON]:
                after, led = after * last, led * move
                away = (last.inv() * move).rotation.magnitude()
                errors.setdefault("rotation_rad_repeat", []).append(away)
                away = np.linalg.norm(led.translation - after.translation)
                errors.setdefault("path_translation_m_repeat", []).append(float(away))
    for name, values in errors.items():
        assert found[f"validation/shards/{name}"] == pytest.approx(np.mean(values), rel=1e-4)
    stats = given.stats.actions
    some = [
        np.abs(normalise(window.actions, stats, "mean_std")[window.valid])
        for window in _windows(given.source)
    ]
    expected = np.concatenate(some).mean()  # a mean action is 0 once normalised
    assert found["validation/action_error_mean"] == pytest.approx(expected, rel=1e-4)


def test_a_model_that_moves_nothing_leaves_the_noise(tmp_path: Path) -> None:
    given, still = held(tmp_path / "s"), model()
    torch.nn.init.zeros_(still.action_out_proj.weight)
    found = validated(given, still, 10_000)
    size, squares, errors = given.source.action_size, [], []
    for number, window in enumerate(_windows(given.source)):
        sample = mixer(given).sample(number, 0, window)
        gap = (sample.noise - sample.actions)[window.valid, :size]
        squares.append(gap**2)
        errors.append(np.abs(gap))
    assert found["validation/loss"] == pytest.approx(np.concatenate(squares).mean(), rel=1e-4)
    expected = np.concatenate(errors).mean()
    assert found["validation/action_error"] == pytest.approx(expected, rel=1e-4)


def test_two_validations_give_the_same(tmp_path: Path) -> None:
    given, one = held(tmp_path / "s"), model()
    first = validated(given, one, 7)
    torch.manual_seed(99)
    again = held(tmp_path / "s")
    assert validated(again, one, 7) == first
    with torch.no_grad():
        one.action_out_proj.bias += 0.1
    assert validated(given, one, 7)["validation/loss"] != first["validation/loss"]


def test_windows_are_spread_over_all_units() -> None:
    windows = np.array([30, 50, 20, 100])
    picks = chosen(windows, 40)
    assert len(set(picks)) == 40
    assert picks == sorted(picks) == chosen(windows, 40)
    assert picks != chosen(windows, 40, key=1)
    for unit, count in enumerate(windows):
        numbers = [number for at, number in picks if at == unit]
        assert abs(len(numbers) - count / 5) <= 1
        assert max(np.diff([-1, *numbers, count])) <= 11  # two stretches and a bit
    assert chosen(windows, 1000) == [(u, n) for u, c in enumerate(windows) for n in range(c)]
    assert len({unit for unit, _ in chosen(np.full(5000, 9), 400)}) == 64


def _worker(rank: int, port: int, folder: str, expected: dict[str, float]) -> None:
    torch.set_num_threads(1)
    where = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    try:
        given = held(Path(folder))
        for parallel in ("ddp", "fsdp"):
            config = minute_training.config(Path(folder).parent)
            wrapped = wrap(model(), replace(config, parallel=parallel), CPU)
            found = validated(given, wrapped, 7, rank, 2)
            assert found.keys() == expected.keys()
            for name, value in found.items():
                assert math.isclose(value, expected[name], rel_tol=1e-4), name
        mine = examined(
            wrapped, given, chosen(given.source.windows(), 7), mixer(given), CPU, rank, 2
        )
        assert len(mine) == (4, 3)[rank]
    finally:
        dist.destroy_process_group()


def test_two_workers_find_what_one_finds(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    minute_training.config(tmp_path)  # writes the shards
    expected = validated(held(tmp_path / "shards"), model(), 7)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_worker, (port, str(tmp_path / "shards"), expected), nprocs=2)


def test_a_picture_of_a_run(tmp_path: Path) -> None:
    run, out = tmp_path / "metrics.jsonl", tmp_path / "errors.png"
    records: list[dict[str, float]] = [{"step": 10, "loss": 1.0}]
    for step, error in ((20, 0.5), (40, 0.3)):
        named = {"": error, "_repeat": 0.6, "_mean": 0.4}
        records.append(
            {"step": step} | {f"validation/action_error{k}": e for k, e in named.items()}
        )
    run.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    validation_plot.plot(run, out)
    picture = cv2.imread(str(out))
    colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    for line in ((180, 119, 31), (40, 39, 214), (127, 127, 127)):  # BGR of the three policies
        assert line in colours


@pytest.mark.parametrize("text", ['{"step": 10, "loss": 1.0}\n', "no json\n", None])
def test_a_run_without_validation_has_no_picture(tmp_path: Path, text: str | None) -> None:
    run = tmp_path / "metrics.jsonl"
    if text is not None:
        run.write_text(text)
    with pytest.raises(UserError, match=r"metrics\.jsonl: "):
        validation_plot.plot(run, tmp_path / "errors.png")


def _windows(source: Source) -> Iterator[Window]:
    for unit, count in enumerate(source.windows().tolist()):
        loaded = source.load(unit)
        yield from (loaded.window(number) for number in range(count))


def _has(source: Source, clip: int) -> bool:
    return any(window.instruction == f"pick up thing {clip}" for window in _windows(source))


def _motion(position: np.ndarray, rotation: np.ndarray, step: int) -> RigidTransform:
    poses = RigidTransform.from_components(position, Rotation.from_quat(rotation))
    return poses[step].inv() * poses[step + 1]
