"""The trainer on CPU, without Ray: the same step however the work is shared, and exact resume."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from ego_ops.errors import UserError
from tests import minute_training as minute
from training import policy_folder, tokeniser
from training.config import TrainConfig
from training.data.loader import Loader
from training.data.mixture import Mixer
from training.data.norm import unnormalise
from training.data.sources import open_sources, order
from training.parts import split
from training.pi0.model import Pi0
from training.policy import Sight
from training.saved_files import completed, latest

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def config(home) -> TrainConfig:
    return minute.config(home)


@pytest.fixture(scope="module")
def whole(config, home) -> Path:
    """A run of one worker, never interrupted."""
    minute.trainer(config, home / "whole").run()
    return home / "whole"


def batches(config: TrainConfig) -> Loader:
    sources = open_sources(config.sources, config.model.horizon, "train", config.held_out)
    mixer = Mixer(
        sources,
        [minute.statistics(source) for source in sources],
        ["mean_std"],
        tokeniser.load("bytes"),
        config.model,
        config.seed,
        config.augment,
    )
    return Loader(sources, order(sources, config.sources, config.seed), mixer, batch=config.batch)


def test_a_run_is_a_loop_of_plain_adamw(config, whole):
    """Against a loop written out here: optimiser, moving mean and loss, sample by sample."""
    torch.manual_seed(config.seed)
    model = Pi0(config.model)
    trained = [p for p in model.parameters() if p.requires_grad]
    mean = [p.detach().clone() for p in trained]
    first = [torch.zeros_like(p) for p in trained]
    second = [torch.zeros_like(p) for p in trained]
    expected = {}
    with batches(config) as loader:
        for step in range(config.steps):
            batch = next(loader)
            errors = torch.cat([model(one) for one in split(batch, config.batch)])
            loss = errors[batch.action_mask].mean()
            expected[step + 1] = loss.item()
            gradient = torch.autograd.grad(loss, trained)
            norm = torch.sqrt(sum(g.square().sum() for g in gradient))
            warm = 1e-3 / 4 + (1e-3 - 1e-3 / 4) * step / 3
            late = 1e-4 + 9e-4 * (1 + np.cos(np.pi * (step - 3) / 9)) / 2
            rate = warm if step < 3 else late
            with torch.no_grad():
                for p, g, a, b, m in zip(trained, gradient, first, second, mean, strict=True):
                    g = g * min(1.0, 1.0 / norm.item())
                    a.mul_(0.9).add_(g, alpha=0.1)
                    b.mul_(0.95).add_(g * g, alpha=0.05)
                    a_hat, b_hat = a / (1 - 0.9 ** (step + 1)), b / (1 - 0.95 ** (step + 1))
                    p -= rate * a_hat / (b_hat.sqrt() + 1e-5)
                    m.mul_(0.9).add_(p, alpha=0.1)
    found = minute.losses(whole)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)
    state = minute.saved(whole)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    for name, p, m in zip(names, trained, mean, strict=True):
        torch.testing.assert_close(state[f"weights.{name}"], p.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state[f"mean.{name}"], m, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["real", "padded"])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(config, home, whole, loss):
    config = replace(config, loss=loss)
    runs = []
    for parts in (1, 3, 8):
        run = home / f"{loss}-{parts}"
        minute.trainer(replace(config, accumulate=parts), run).run()
        runs.append(minute.saved(run))
    for other in runs[1:]:
        minute.equal(runs[0], other, 1e-4)
    same = torch.equal(
        runs[0]["mean.state_proj.weight"], minute.saved(whole)["mean.state_proj.weight"]
    )
    assert same == (loss == "real")


def work(rank: int, world: int, folder: str, port: int, config: TrainConfig) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    minute.trainer(config, Path(folder), rank, world).run()
    dist.destroy_process_group()


def together(config: TrainConfig, folder: Path, world: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(work, (world, str(folder), port, config), nprocs=world)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_workers_are_one_and_one_goes_on_where_two_stopped(config, home, whole, parallel):
    run = home / parallel
    config = replace(config, parallel=parallel, accumulate=2)
    together(replace(config, steps=8), run, 2)
    files = {one.name for one in completed(run)[0].path.glob("*.distcp")}
    assert files == {"__0_0.distcp", "__1_0.distcp"}
    minute.equal(minute.saved(run, 8), minute.saved(whole, 8), 1e-4)
    minute.trainer(config, run).run()
    minute.equal(minute.saved(run), minute.saved(whole), 1e-4)
    one, other = (load_file(path / "policy" / "model.safetensors") for path in (run, whole))
    minute.equal(one, other, 1e-4)


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(config, home, whole, stop):
    run = home / f"stopped-{stop}"
    minute.trainer(replace(config, steps=stop), run).run()
    again = minute.trainer(config, run)
    assert again.step == stop
    again.run()
    minute.equal(minute.saved(run), minute.saved(whole))
    assert minute.losses(run) == minute.losses(whole)
    one, other = (path / "policy" / "model.safetensors" for path in (run, whole))
    assert one.read_bytes() == other.read_bytes()


def test_what_diverges_ends_with_one_line_and_keeps_its_checkpoints(config, home):
    run = home / "diverged"
    minute.trainer(replace(config, steps=4), run).run()
    before = minute.saved(run)
    wild = replace(config, optimiser=replace(config.optimiser, peak=1e30))
    with pytest.raises(
        UserError, match=r"step \d+: the norm of the gradient is (nan|inf)"
    ) as caught:
        minute.trainer(wild, run).run()
    assert "\n" not in str(caught.value)
    assert [one.step for one in completed(run)] == [4]
    minute.equal(minute.saved(run), before)


def test_a_full_disk_costs_no_checkpoint(config, tmp_path):
    disk = tmp_path / "run"
    disk.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("to mount a small disk one must be root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        with pytest.raises(UserError, match=r"step-\d{8}: No space left on device") as caught:
            minute.trainer(config, disk).run()
        assert "\n" not in str(caught.value)
        kept = latest(disk, pytest.fail)
        assert kept is not None
        subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
        minute.trainer(config, disk).run()
        assert completed(disk)[0].step == config.steps > kept.step
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_the_policy_acts_as_the_model_that_was_trained(config, home, whole):
    """Pictures, words and state reach the model as in training, and actions come back in metres."""
    config = replace(config, augment=False)
    (source,) = open_sources(config.sources, config.model.horizon, "train", config.held_out)
    stats, words = minute.statistics(source), tokeniser.load("bytes")
    mixer = Mixer([source], [stats], ["mean_std"], words, config.model, 0, augmented=False)
    unit = source.load(0)
    windows = [unit.window(number) for number in (0, 3, 17)]
    batch = mixer.batch([mixer.sample(n, 0, window) for n, window in enumerate(windows)])
    run = minute.trainer(config, whole)
    with run.ema.swapped():
        normalised = run.model.sample(batch.observation, batch.noise).numpy()
    expected = unnormalise(normalised[..., :9], stats.actions, "mean_std")

    policy = policy_folder.load(whole / "policy")
    assert (policy.source, policy.cameras) == ("shards", ("base_0_rgb",))
    assert policy.trained["steps"] == config.steps
    asked = [(window.images, window.instruction, window.state) for window in windows]
    many = policy.act_many([Sight(*one) for one in asked], batch.noise.numpy())
    assert many.shape == (3, 6, 9)
    np.testing.assert_allclose(many, expected, rtol=1e-4, atol=1e-6)
    for one, noise, actions in zip(asked, batch.noise.numpy(), expected, strict=True):
        np.testing.assert_allclose(policy.act(*one, noise), actions, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(policy.act(*asked[0]), policy.act(*asked[0]))


def test_a_policy_refuses_what_it_was_not_trained_with(whole):
    policy = policy_folder.load(whole / "policy")
    image, state = np.zeros((40, 30, 3), np.uint8), np.zeros(9)
    policy.act({"base_0_rgb": image}, "pick up", state)
    for images, numbers, said in (
        ({}, state, "no camera: this policy sees base_0_rgb"),
        ({"top": image}, state, "camera top: this policy sees base_0_rgb"),
        ({"base_0_rgb": image / 255}, state, "uint8"),
        ({"base_0_rgb": image[..., 0]}, state, "uint8"),
        ({"base_0_rgb": image}, np.zeros(7), "the state is 9 finite numbers"),
        ({"base_0_rgb": image}, np.full(9, np.nan), "the state is 9 finite numbers"),
    ):
        with pytest.raises(UserError, match=said):
            policy.act(images, "pick up", numbers)
    with pytest.raises(UserError, match="no source bridge; there are shards"):
        policy_folder.load(whole / "policy", source="bridge")
    with pytest.raises(UserError, match="not the folder of a policy"):
        policy_folder.load(whole)


def test_adapters_are_folded_into_the_policy(config, home):
    config = replace(config, lora=4, freeze=("vision",), steps=3, augment=False)
    run = minute.trainer(config, home / "lora")
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.run()
    moved = {n for n, p in run.model.named_parameters() if not torch.equal(p, before[n])}
    assert any(name.endswith(".a") for name in moved)
    assert not any(".weight" in name and name.startswith(("vision", "blocks")) for name in moved)
    policy = policy_folder.load(home / "lora" / "policy")
    with batches(config) as loader:
        batch = next(loader)
    with run.ema.swapped():
        expected = run.model.sample(batch.observation, batch.noise)
    found = policy.model.sample(batch.observation, batch.noise)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    again = minute.trainer(config, home / "lora")
    assert again.step == 3
    minute.equal(minute.saved(home / "lora"), again.state())


def test_a_run_can_begin_with_another_policy(config, home, whole):
    begin = replace(config, initial=str(whole / "policy"))
    one = minute.trainer(begin, home / "begun")
    mean = {n.removeprefix("mean."): v for n, v in minute.saved(whole).items() if "mean." in n}
    weights = dict(one.model.named_parameters())
    assert mean.keys() < weights.keys()
    for name, value in mean.items():
        assert torch.equal(weights[name], value)
        assert torch.equal(one.ema.state_dict()[name], value)
