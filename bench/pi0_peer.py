"""One side of `bench/pi0.py`: our π0, or LeRobot's, in a process of its own.

It is given a folder with weights and inputs, and then, line by line on its standard input, what to
do: `train` or `sample`, which it times (seconds by the clock, and of the CPU), or `answer`, for
which it writes its errors and actions.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.pi0.config import SIZES, Pi0Config

STEPS = 10
"""Of Euler's method."""
ADAMW = {"lr": 1e-6, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.01}


def size(name: str) -> Pi0Config:
    """That size, with the 8 heads that LeRobot's has whatever it is told."""
    config = SIZES[name]
    return replace(config, heads=8, head_size=config.heads * config.head_size // 8)


class Ours:
    """This repository's."""

    def __init__(self, folder: Path, config: Pi0Config, device: str, slots: int):
        from training.batch import Batch, Observation
        from training.pi0 import checkpoint
        from training.pi0.model import Pi0

        with torch.device(device):
            self.model = Pi0(config)
        checkpoint.load(self.model, folder)
        given = {k: v.to(device) for k, v in load_file(folder / "inputs.safetensors").items()}
        names = "images", "image_mask", "tokens", "token_mask", "state"
        observation = Observation(*(given[name] for name in names))
        known = torch.ones_like(given["actions"], dtype=torch.bool)
        self.batch = Batch(observation, given["actions"], known, given["noise"], given["time"])
        alone = {name: given[name][:1] for name in names}
        self.one, self.noise = Observation(**alone), given["noise"][:1]
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, **ADAMW, fused=True)
        self._graph: Callable[..., Tensor] | None = None

    def errors(self) -> Tensor:
        return self.model(self.batch)

    def sample(self) -> Tensor:
        if self.noise.is_cuda:
            return self._captured()(self.one, self.noise)
        return self.model.sample(self.one, self.noise, STEPS)

    def _captured(self) -> Callable[..., Tensor]:
        """One CUDA graph over a copy in half precision, as the policy is served."""
        if self._graph is None:
            import copy

            from training.pi0.inference import GraphSampler, cast

            served = cast(copy.deepcopy(self.model).requires_grad_(False))
            self._graph = GraphSampler(served, self.one, STEPS)
        return self._graph


class LeRobot:
    """lerobot 0.6.1's."""

    def __init__(self, folder: Path, config: Pi0Config, device: str, slots: int):
        from tests.golden import lerobot_pi0

        dtype = "bfloat16" if device == "cuda" else "float32"
        given = {k: v.to(device) for k, v in load_file(folder / "inputs.safetensors").items()}
        cameras = lerobot_pi0.CAMERAS[:slots]
        self.policy = lerobot_pi0.policy(config, cameras, device, dtype)
        lerobot_pi0.load(self.policy, folder)
        images = lerobot_pi0.pictures(given["images"], given["image_mask"], slots)
        texts = given["tokens"], given["token_mask"], given["state"]
        self.seen = *images, *texts
        self.one = *([x[:1] for x in xs] for xs in images), *(x[:1] for x in texts)
        self.rest = given["actions"], given["noise"], given["time"]
        self.optimiser = torch.optim.AdamW(self.policy.parameters(), **ADAMW)

    def errors(self) -> Tensor:
        return self.policy.model(*self.seen, *self.rest)

    def sample(self) -> Tensor:
        return self.policy.model.sample_actions(*self.one, self.rest[1][:1], STEPS)


def train(side: Any, cuda: bool) -> None:
    """One step: forward, backward, clipping, AdamW."""
    half = torch.autocast("cuda", torch.bfloat16) if cuda else contextlib.nullcontext()
    with half:
        loss = side.errors().mean()
    loss.backward()
    parameters = side.optimiser.param_groups[0]["params"]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    side.optimiser.step()
    side.optimiser.zero_grad(set_to_none=True)


def main() -> None:
    """Do as told until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("ours", "lerobot"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=3, help="cameras of LeRobot's policy")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cuda = args.device == "cuda"
    kind = Ours if args.side == "ours" else LeRobot
    with contextlib.redirect_stdout(sys.stderr):
        side = kind(args.folder, size(args.size), args.device, args.slots)
    say(f"torch {torch.__version__}")
    for line in sys.stdin:
        task = line.strip()
        if task == "answer":
            with torch.no_grad():
                answers = {"errors": side.errors(), "actions": side.sample()}
            save_file({k: v.cpu() for k, v in answers.items()}, args.folder / f"{args.side}.out")
            say("done")
            continue
        wait = torch.cuda.synchronize if cuda else lambda: None
        wait()
        start, worked = time.perf_counter(), time.process_time()
        train(side, cuda) if task == "train" else side.sample()
        wait()
        say(f"{time.perf_counter() - start} {time.process_time() - worked}")


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
