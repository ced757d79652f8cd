"""What a π0 costs: parameters, floating point operations, memory."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

from training.pi0.config import GemmaSize, Pi0Config
from training.pi0.model import Pi0

_PEAK = {
    "H200": 989e12,
    "H100 PCIE": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H800": 989e12,
    "H20": 148e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A40": 150e12,
    "A6000": 155e12,
    "RTX 5090": 209e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bf16 operations per second with sums in fp32, from the makers' data sheets. Of several
names that fit, the longest counts."""


def parameters(config: Pi0Config, stored: bool = False) -> int:
    """How many there are; `stored`: with the expert's vocabulary, which checkpoints have and
    nothing uses."""
    with torch.device("meta"):
        used = sum(parameter.numel() for parameter in Pi0(config).parameters())
    return used + (config.vocabulary * config.expert.width if stored else 0)


def flops(config: Pi0Config, cameras: int, text: int, published: bool = False) -> float:
    """Floating point operations of the matrix products of one forward pass of one sample, two for
    a multiplication with its addition.

    Args:
        cameras: pictures of the sample.
        text: tokens of its instruction, padding included.
        published: count as published figures for π0 do: with the last layer's outputs for
            language tokens, and with their attention to the expert's tokens, which a mask hides.
            This model computes neither.
    """
    prefix = cameras * config.vision.tokens + text
    suffix = config.horizon + (0 if config.pi05 else 1)
    language = _gemma_matrices(config, config.language)
    total = 2.0 * prefix * config.depth * language
    total += 2.0 * suffix * config.depth * _gemma_matrices(config, config.expert)
    pair = 4.0 * config.heads * config.head_size
    total += config.depth * pair * (prefix * prefix + suffix * (prefix + suffix))
    if published:
        total += config.depth * pair * prefix * suffix
    else:
        qkv = config.language.width * (config.heads + 2 * config.kv_heads) * config.head_size
        total -= 2.0 * prefix * (language - qkv) + pair * prefix * prefix
    total += _heads(config)
    return total + cameras * _picture(config)


def _heads(config: Pi0Config) -> float:
    """What state, actions and time cost on their way in, and velocities on their way out."""
    inner, actions = config.expert.width, config.horizon
    ends = 4.0 * config.action_size * inner * actions
    if config.pi05:  # the time's layers, and those of two norms a block and one after them
        return ends + 4.0 * inner * inner + (2 * config.depth + 1) * 6.0 * inner * inner
    return ends + 2.0 * config.action_size * inner + inner * inner * (4.0 * actions + 2.0)


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 operations per second of the device, by its name; None: not known, or a CPU."""
    if device.type != "cuda":
        return None
    return peak_by_name(torch.cuda.get_device_name(device))


def peak_by_name(name: str) -> float | None:
    """The same, by a name such as `NVIDIA H200`."""
    fitting = [known for known in _PEAK if known in name.upper()]
    return _PEAK[max(fitting, key=len)] if fitting else None


def mfu(
    config: Pi0Config, cameras: int, text: int, samples_per_s: float, device: torch.device
) -> float | None:
    """Model FLOPs utilisation (arXiv 2204.02311): what one device does for training, over the most
    that it can. A backward pass counts for two forward passes, recomputation for nothing; where
    parts are frozen this is too high.

    Args:
        samples_per_s: of one device.

    Returns:
        0 to 1, or None where the device's peak is not known.
    """
    peak = peak_flops(device)
    return None if peak is None else 3 * flops(config, cameras, text) * samples_per_s / peak


def memory(device: torch.device) -> dict[str, int]:
    """Bytes `allocated` now and at the `peak` so far: of the GPU by tensors, or of this process."""
    if device.type == "cuda":
        return {
            "allocated": torch.cuda.memory_allocated(device),
            "peak": torch.cuda.max_memory_allocated(device),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    statm = Path("/proc/self/statm")
    if not statm.is_file():  # not Linux
        return {"allocated": peak, "peak": peak}
    resident = int(statm.read_text().split()[1]) * resource.getpagesize()
    return {"allocated": resident, "peak": max(peak, resident)}


def _gemma_matrices(config: Pi0Config, size: GemmaSize) -> int:
    """Numbers in the matrices of one layer."""
    ends = 2 * config.heads * config.head_size  # queries, and out
    between = 2 * config.kv_heads * config.head_size
    return size.width * (ends + between + 3 * size.mlp)


def _picture(config: Pi0Config) -> float:
    """Operations for one picture, to its language tokens."""
    size, tokens = config.vision, config.vision.tokens
    block = 2.0 * (4 * size.width**2 + 2 * size.width * size.mlp) + 4.0 * tokens * size.width
    patch = 2.0 * 3 * size.patch**2 * size.width
    projector = 2.0 * size.width * config.language.width
    return tokens * (size.depth * block + patch + projector)
