"""Load a checkpoint into a model that two processes hold one half of each; print what they have."""

from __future__ import annotations

import json
import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.golden.pi0_size import SIZE
from training.pi0 import checkpoint
from training.pi0.model import Pi0

WORLD = 2


def main(rank: int, meeting: str, place: str) -> None:
    """One of the two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD)
    torch.manual_seed(rank)
    model = Pi0(SIZE)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    checkpoint.load(model, place)
    sums = {}
    for name, value in model.named_parameters():
        assert isinstance(value, DTensor)
        assert value.to_local().numel() < value.numel()
        sums[name] = float(value.full_tensor().sum())
    if rank == 0:
        print(json.dumps(sums))
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        processes.spawn(main, (f"{folder}/meeting", sys.argv[1]), nprocs=WORLD)
