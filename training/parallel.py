"""A model made ready for training on one or many devices: recomputation, compilation, sharding.

Mixed precision: weights, sums of gradients and optimiser are fp32; matrix products are bf16; norms
compute in fp32 inside, and the heads, through which actions go in and come out, are wholly fp32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from training.config import TrainConfig
from training.pi0.model import Pi0

_OPS = torch.ops.aten
_KEPT = [
    _OPS.mm.default,
    _OPS.addmm.default,
    _OPS.bmm.default,
    _OPS._scaled_dot_product_flash_attention.default,
    _OPS._scaled_dot_product_efficient_attention.default,
    _OPS._scaled_dot_product_cudnn_attention.default,
    _OPS._scaled_dot_product_flash_attention_for_cpu.default,
    _OPS._scaled_dot_product_attention_math.default,
]
"""Operations whose outputs selective recomputation keeps: nearly all the time is in them."""

_RECOMPILE_LIMIT = 64
_Forward = Callable[..., Any]


def wrap(model: Pi0, config: TrainConfig, device: torch.device) -> nn.Module:
    """The model on its device, prepared as the configuration says; names of parameters stay.

    Where no process group is initialised the model is left whole. Call it when weights have been
    loaded and parts frozen, and make the optimiser after it.

    Returns:
        The model itself, or DistributedDataParallel around it (see `bare`).
    """
    model.to(device)
    for block in [*model.vision.blocks, *model.blocks]:
        block.forward = _prepared(block.forward, config)
    if _sharded(config):
        _shard(model, config.precision == "bf16", device)
        return model
    if config.precision == "bf16":
        _keep_heads(model, device)
    if not dist.is_initialized():
        return model
    ids = [device.index or 0] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


def bare(model: nn.Module) -> Pi0:
    """The π0 in what `wrap` returned: with `sample`, and parameters by their own names."""
    return cast(Pi0, model.module if isinstance(model, DistributedDataParallel) else model)


def autocast(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """The context for `forward` and `sample`. Sharded weights are cast as they are gathered."""
    if config.precision != "bf16" or _sharded(config):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def no_sync(model: nn.Module, on: bool = True) -> Iterator[None]:
    """Inside, if `on`, gradients are added up on each worker and not exchanged: for all parts of
    a batch but the last. Forward and backward belong inside."""
    if not on:
        yield
    elif isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
    else:
        yield


def _sharded(config: TrainConfig) -> bool:
    return config.parallel == "fsdp" and dist.is_initialized()


def _prepared(forward: _Forward, config: TrainConfig) -> _Forward:
    """A block's `forward`, recomputed and compiled for training. To replace it, and not the block,
    leaves names as they are, and outside what is compiled the hooks of whoever shards the block."""
    trained = forward if config.recompute == "none" else _recomputed(forward, config.recompute)
    if config.compile:
        # All blocks share what is compiled for the first; masks and lengths of text ask for more.
        torch._dynamo.config.recompile_limit = _RECOMPILE_LIMIT
        # It would cut each block where one of DDP's buckets ends.
        torch._dynamo.config.optimize_ddp = False
        trained = torch.compile(trained)

    def run(*args: Any) -> Any:
        # Validation calls blocks in more ways than are worth compiling.
        return trained(*args) if torch.is_grad_enabled() else forward(*args)

    return run


def _recomputed(forward: _Forward, how: str) -> _Forward:
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if how == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)

    def recomputed(*args: Any) -> Any:
        return checkpoint(forward, *args, **options)

    return recomputed


def _policy(_context: Any, operation: Any, *_args: Any, **_options: Any) -> CheckpointPolicy:
    kept = operation in _KEPT
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def _shard(model: Pi0, half: bool, device: torch.device) -> None:
    """FSDP2: each block is a unit, and so are the vocabulary, the projector and the vision tower's
    ends; what is left, the heads, is the root's."""
    # It warns of outputs that are views, for fear of operations in place: there are none.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    # By default it is of the GPUs that the machine has, also where the model is on its CPU.
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    whole = MixedPrecisionPolicy(cast_forward_inputs=False)
    cast_in, as_given = whole, whole
    if half:
        cast_in = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
        # The rotations that a joint block is given are to stay fp32.
        as_given = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in model.vision.blocks:
        fully_shard(block, mesh=mesh, mp_policy=cast_in)
    fully_shard(model.vision.patch, mesh=mesh, mp_policy=whole)  # fp32, as in openpi
    for module in (model.vision, model.projector, model.embedding):
        fully_shard(module, mesh=mesh, mp_policy=cast_in)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=as_given)
    # By default the root would stay gathered after a forward pass without a backward pass, and
    # `parameters` would then not be those of the optimiser.
    fully_shard(model, mesh=mesh, mp_policy=whole, reshard_after_forward=True)
    register_fsdp_forward_method(model, "sample")


def _keep_heads(model: Pi0, device: torch.device) -> None:
    """Autocast has no effect inside the heads."""
    for head in model.heads():
        head.forward = _uncast(head.forward, device.type)


def _uncast(forward: _Forward, kind: str) -> _Forward:
    def plain(*args: Any) -> Any:
        with torch.autocast(kind, enabled=False):
            return forward(*args)

    return plain
