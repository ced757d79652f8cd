"""π0 over two processes: the gradients, the step and the mean of one that has the whole batch."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tests.pi0_models import batch, minute, observation
from training.adapt import add_lora
from training.batch import Batch
from training.config import OptimiserConfig, TrainConfig, get
from training.ema import Ema
from training.optimise import adamw, clip, set_rate
from training.parallel import autocast, bare, no_sync, wrap

CPU = torch.device("cpu")
# An epsilon so large that the step does not blow up what rounding does to small gradients.
PLAIN = replace(
    get("pi0_tiny"),
    parallel="ddp",
    precision="fp32",
    recompute="none",
    optimiser=OptimiserConfig(epsilon=0.1),
)
CASES = [
    replace(PLAIN, parallel="fsdp"),
    replace(PLAIN, parallel="fsdp", recompute="selective"),
    replace(PLAIN, parallel="fsdp", recompute="full"),
    replace(PLAIN, parallel="ddp"),
    replace(PLAIN, parallel="ddp", recompute="selective"),
]


def _some(given: Batch, rows: slice) -> Batch:
    """Some samples of a batch."""

    def cut(part: object) -> dict[str, Tensor]:
        values = {field.name: getattr(part, field.name) for field in fields(part)}
        return {name: value[rows] for name, value in values.items() if isinstance(value, Tensor)}

    seen = replace(given.observation, **cut(given.observation))
    return replace(given, observation=seen, **cut(given))


def _whole(tensor: Tensor | None) -> Tensor | None:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _train(model: nn.Module, config: TrainConfig, given: Batch, parts: int) -> dict[str, object]:
    """Two steps, each in `parts`; what they leave."""
    optimiser = adamw(model, config.optimiser)
    set_rate(optimiser, 1e-3)
    ema = Ema(bare(model), 0.5)
    for _ in range(2):
        optimiser.zero_grad()
        each = len(given.time) // parts
        for part in range(parts):
            rows = slice(part * each, (part + 1) * each)
            with no_sync(model, on=part + 1 < parts), autocast(config, CPU):
                (model(_some(given, rows)).mean() / parts).backward()
        norm = clip(model, 1.0)
        optimiser.step()
        ema.update()
    with ema.swapped(), torch.no_grad(), autocast(config, CPU):
        sampled = bare(model).sample(given.observation, given.noise, steps=3)
        validated = model(given)
    with torch.no_grad(), autocast(config, CPU):
        after = model(given)
    named = dict(bare(model).named_parameters())
    return {
        "norm": norm,
        "gradients": {n: _whole(p.grad) for n, p in named.items() if p.grad is not None},
        "weights": {n: _whole(p.detach()) for n, p in named.items()},
        "means": {n: _whole(m) for n, m in ema.state_dict().items()},
        "sampled": sampled,
        "validated": validated,
        "after": after,
    }


@contextmanager
def _group(rank: int, world: int, port: int) -> Iterator[None]:
    torch.set_num_threads(1)
    where = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _same(found: dict[str, object], expected: dict[str, object], rows: slice) -> None:
    for name in ("norm", "gradients", "weights", "means"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)
    for name in ("sampled", "validated", "after"):
        torch.testing.assert_close(found[name], expected[name][rows], atol=1e-5, rtol=1e-4)  # type: ignore[index]


def _worker(rank: int, port: int, folder: str) -> None:
    """Each case, with half of the batch, in two parts."""
    with _group(rank, 2, port):
        given = batch(observation((6, 6, 6, 6)))
        expected = _train(minute(), PLAIN, given, parts=1)
        rows = slice(2 * rank, 2 * rank + 2)
        for config in CASES:
            model = wrap(minute(), config, CPU)
            found = _train(model, config, _some(given, rows), parts=2)
            _same(found, expected, rows)
            sharded = [isinstance(p, DTensor) for p in bare(model).parameters()]
            assert all(sharded) == any(sharded) == (config.parallel == "fsdp")
        _adapters(given, rows)
        _half(given, rows)
        _checkpoint(folder)


def _adapters(given: Batch, rows: slice) -> None:
    """With adapters, which leave most parameters without a gradient."""
    models = []
    for _ in range(3):
        models.append(minute())
        torch.manual_seed(7)
        add_lora(models[-1], rank=2)
    expected = _train(models[0], PLAIN, given, parts=1)
    for model, parallel in zip(models[1:], ("fsdp", "ddp"), strict=True):
        config = replace(PLAIN, parallel=parallel, recompute="full")
        found = _train(wrap(model, config, CPU), config, _some(given, rows), parts=2)
        _same(found, expected, rows)


def _half(given: Batch, rows: slice) -> None:
    """In bf16 the arithmetic is rounded; weights, gradients and what comes out are not."""
    exact = minute()(given)[rows]
    for parallel in ("fsdp", "ddp"):
        config = replace(PLAIN, parallel=parallel, precision="bf16", recompute="selective")
        model = wrap(minute(), config, CPU)
        with autocast(config, CPU):
            errors = model(_some(given, rows))
        assert errors.dtype == torch.float32
        assert 1e-5 < (errors - exact).abs().max() / exact.abs().max() < 0.1
        errors.mean().backward()
        for parameter in bare(model).parameters():
            assert parameter.dtype == torch.float32
            assert parameter.grad is None or parameter.grad.dtype == torch.float32


def _checkpoint(folder: str) -> None:
    """The mean of sharded weights, saved by all and read back."""
    config = replace(PLAIN, parallel="fsdp")
    saved = Ema(wrap(minute(), config, CPU), 0.5)  # type: ignore[arg-type]
    dcp.save({"ema": saved.state_dict()}, checkpoint_id=folder)
    other = Ema(wrap(minute(seed=4), config, CPU), 0.5)  # type: ignore[arg-type]
    state = other.state_dict()
    dcp.load({"ema": state}, checkpoint_id=folder)
    other.load_state_dict(state)
    for name, mean in other.state_dict().items():
        assert torch.equal(_whole(mean), _whole(saved.state_dict()[name]))  # type: ignore[arg-type]


def _alone(rank: int, port: int) -> None:
    """A group of one."""
    with _group(rank, 1, port):
        given = batch(observation((6, 6)))
        expected = _train(minute(), PLAIN, given, parts=1)
        for parallel in ("fsdp", "ddp"):
            config = replace(PLAIN, parallel=parallel)
            found = _train(wrap(minute(), config, CPU), config, given, parts=2)
            _same(found, expected, slice(None))


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    mp.spawn(_worker, (_port(), str(tmp_path / "saved")), nprocs=2)


def test_a_group_of_one_does_what_none_does() -> None:
    mp.spawn(_alone, (_port(),), nprocs=1)


@pytest.mark.parametrize("parallel", ["fsdp", "ddp"])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_without_a_group_the_model_stays_itself(parallel: str, recompute: str) -> None:
    given = batch(observation((6, 6)))
    config = replace(PLAIN, parallel=parallel, recompute=recompute)
    model = minute()
    names = [name for name, _ in model.named_parameters()]
    assert wrap(model, config, CPU) is model
    found = _train(model, config, given, parts=1)
    for name, weights in _train(minute(), PLAIN, given, parts=1)["weights"].items():  # type: ignore[attr-defined]
        assert torch.equal(found["weights"][name], weights)  # type: ignore[index]
    assert names == [name for name, _ in model.named_parameters()] == list(model.state_dict())
