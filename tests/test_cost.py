"""Parameters and operations of π0: published figures, the model itself, PyTorch's counter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.pi0_models import MINUTE, batch, minute, observation
from training.cost import flops, memory, mfu, parameters, peak_by_name, peak_flops
from training.pi0.config import SIZES

CPU = torch.device("cpu")


def test_published_numbers_of_parameters() -> None:
    assert parameters(SIZES["pi0"]) == 3_238_048_528
    assert parameters(SIZES["pi0"], stored=True) == 3_501_372_176


@pytest.mark.parametrize(("cameras", "published"), [(1, 1.48), (2, 2.75), (3, 4.04)])
def test_published_operations_of_a_forward_pass(cameras: int, published: float) -> None:
    found = flops(SIZES["pi0"], cameras, 48, published=True) / 1e12
    assert found == pytest.approx(published, abs=0.005)
    # What is left out is the last layer's end for language tokens, and what a mask hides.
    assert 0.94 < flops(SIZES["pi0"], cameras, 48) / 1e12 / found < 0.97


@pytest.mark.parametrize("cameras", [1, 3])
@pytest.mark.parametrize("text", [4, 11])
@pytest.mark.parametrize("pi05", [False, True])
def test_operations_are_those_that_pytorch_counts(cameras: int, text: int, pi05: bool) -> None:
    model, given = minute(pi05=pi05), batch(observation((text, text), cameras=cameras))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(given)
    assert counter.get_total_flops() == 2 * flops(model.config, cameras, text)


def test_training_is_three_forward_passes_but_for_what_needs_no_gradient() -> None:
    model, given = minute(), batch(observation((6, 6)))
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        model(given).mean().backward()
    size, inner = MINUTE.vision, MINUTE.expert.width
    pixels = 2 * size.tokens * 2 * 3 * size.patch**2 * size.width
    numbers = 2 * MINUTE.action_size * inner * (1 + MINUTE.horizon) + 2 * inner * inner  # the time
    assert counter.get_total_flops() == 2 * (3 * flops(MINUTE, 2, 6) - pixels - numbers)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Some other device", None),
    ],
)
def test_peaks_by_name(name: str, peak: float | None) -> None:
    assert peak_by_name(name) == peak


def test_utilisation_is_what_is_done_over_what_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_flops(CPU) is None
    assert mfu(SIZES["pi0"], 1, 48, 90.0, CPU) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    found = mfu(SIZES["pi0"], 1, 48, 90.0, torch.device("cuda", 0))
    assert found == pytest.approx(3 * 1.409e12 * 90 / 989e12, rel=1e-3)


def test_memory_of_the_process_follows_what_it_holds() -> None:
    before = memory(CPU)
    held = torch.ones(200 << 20, dtype=torch.uint8)
    during = memory(CPU)
    assert during["allocated"] - before["allocated"] > 150 << 20
    del held
    after = memory(CPU)
    assert after["allocated"] < during["allocated"] - (150 << 20)
    assert after["peak"] >= during["allocated"] - (5 << 20)


def test_a_shorter_chunk_and_fewer_pictures_cost_less() -> None:
    config = SIZES["pi0"]
    assert flops(replace(config, horizon=10), 1, 48) < flops(config, 1, 48)
    assert flops(config, 1, 8) < flops(config, 1, 48) < flops(config, 2, 48)
