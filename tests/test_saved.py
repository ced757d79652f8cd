"""Checkpoints: whole or not there, whatever happens while they are written."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ego_ops.errors import UserError
from training.saved import Saver
from training.saved_files import completed, latest, newest

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def state(seed: int, size: int = 1000) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return {
        "weights.a": torch.randn(size, 7, generator=chance),
        "weights.b": torch.randn(3, generator=chance),
        "optimiser.a.step": torch.tensor(float(seed)),
    }


def saver(run: Path, keep: int = 2, keep_every: int | None = None) -> Saver:
    return Saver(run, keep, keep_every, CPU)


def saved(run: Path, *steps: int) -> None:
    one = saver(run, keep=100)
    for step in steps:
        one.save(step, state(step))
    one.wait()


def restored(run: Path) -> tuple[int, dict[str, Tensor], list[str]]:
    found, warnings = state(0), []
    step = saver(run).restore(found, warnings.append)
    return step, found, warnings


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_is_saved_is_what_was_there_when_save_returned(tmp_path):
    now = state(5, size=300_000)
    expected = {name: value.clone() for name, value in now.items()}
    one = saver(tmp_path)
    one.save(5, now)
    for value in now.values():
        value.zero_()
    one.wait()
    found = {name: torch.zeros_like(value) for name, value in expected.items()}
    assert saver(tmp_path).restore(found, pytest.fail) == 5
    assert same(found, expected)


def test_nothing_saved_is_step_0(tmp_path):
    step, found, warnings = restored(tmp_path)
    assert (step, warnings) == (0, [])
    assert same(found, state(0))


def test_the_newest_and_every_so_many_are_kept(tmp_path):
    one = saver(tmp_path, keep=2, keep_every=30)
    for step in range(10, 101, 10):
        one.save(step, state(step))
        one.wait()
        assert latest(tmp_path, pytest.fail).step == step
    assert [each.step for each in completed(tmp_path)] == [100, 90, 60, 30]
    assert len(os.listdir(tmp_path / "checkpoints")) == 4


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata"])
@pytest.mark.parametrize(
    ("harm", "said"), [(cut, "bytes"), (flip, "changed"), (Path.unlink, "No such file")]
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, harm, said, name):
    saved(tmp_path, 1, 2)
    harm(tmp_path / "checkpoints" / "step-00000002" / name)
    step, found, warnings = restored(tmp_path)
    assert step == 1
    assert same(found, state(1))
    assert len(warnings) == 1
    assert "step-00000002 is damaged" in warnings[0]
    assert said in warnings[0]
    assert latest(tmp_path, warnings.append).step == 1
    saved(tmp_path, 2)  # training comes to that step again
    assert restored(tmp_path)[0] == 2
    assert same(restored(tmp_path)[1], state(2))


@pytest.mark.parametrize("text", [None, "", "{", '{"version": 1}', "[]"])
def test_without_a_whole_commit_record_there_is_no_checkpoint(tmp_path, text):
    saved(tmp_path, 1, 2)
    record = tmp_path / "checkpoints" / "step-00000002" / "complete.json"
    record.unlink() if text is None else record.write_text(text)
    assert restored(tmp_path)[0] == 1


def test_training_does_not_begin_anew_because_every_checkpoint_is_damaged(tmp_path):
    saved(tmp_path, 1, 2)
    for folder in (tmp_path / "checkpoints").glob("step-*"):
        cut(folder / "__0_0.distcp")
    with pytest.raises(UserError, match=r"all 2 checkpoints are damaged .* delete them to train"):
        restored(tmp_path)


def test_other_tensors_are_an_error(tmp_path):
    saved(tmp_path, 1)
    for other in ({"weights.a": torch.zeros(4, 7)}, {"weights.c": torch.zeros(3)}):
        with pytest.raises(UserError, match=r"step-00000001: cannot be loaded into this model"):
            saver(tmp_path).restore(other, pytest.fail)


WRITER = """
import sys, torch
from tests.test_saved import saver, state
one = saver(sys.argv[1])
step = one.restore(state(0, 200_000), print)
print("ready", flush=True)
while True:
    step += 1
    one.save(step, state(step, 200_000))
"""


def test_killed_while_saving(tmp_path):
    """A checkpoint that was there stays, or a newer one is; nothing half is ever taken for one."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice, reached = random.Random(seed), 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        end = time.monotonic() + 60
        while newest(tmp_path) <= reached:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(dice.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = latest(tmp_path, pytest.fail)
        assert found.step > reached
        reached = found.step
    now = state(0, 200_000)
    assert saver(tmp_path).restore(now, pytest.fail) == reached
    assert same(now, state(reached, 200_000))
    # What the killed ones left aside is gone.
    assert all(name.startswith("step-") for name in os.listdir(tmp_path / "checkpoints"))


def check_full(run: Path, size: int, cause: str) -> None:
    """A checkpoint that does not fit is one line, and costs none of the others."""
    saved(run, 1)
    one = saver(run)
    one.save(2, state(2, size))
    with pytest.raises(UserError) as caught:
        one.wait()
    text = str(caught.value)
    print(text)
    assert "step-00000002" in text
    assert f"{cause}; nothing committed is lost" in text
    assert "\n" not in text
    step, found, warnings = restored(run)
    assert (step, warnings) == (1, [])
    assert same(found, state(1))
    assert os.listdir(run / "checkpoints") == ["step-00000001"]
    one.save(3, state(3))  # once there is room
    one.wait()
    assert restored(run)[0] == 3


def test_a_full_disk(tmp_path):
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("to mount a small disk one must be root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        check_full(tmp_path, 100_000, "No space left on device")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_file_that_may_not_grow(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        check_full(tmp_path, 100_000, "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
