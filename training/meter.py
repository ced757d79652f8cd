"""What a trainer logs, gathered without waiting for the device."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from training import cost, optimise
from training.batch import Batch

if TYPE_CHECKING:
    from training.trainer import Trainer


class Meter:
    """What is logged, gathered without waiting for the device."""

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self._loss = torch.zeros((), device=trainer.device)
        self._shape, self._since = (0, 0), 0.0
        self._reset()

    def waits(self) -> None:
        """For the next batch, from now on."""
        self._since = time.perf_counter()

    def works(self) -> None:
        """The batch has come."""
        self._waited += time.perf_counter() - self._since

    def add(self, loss: Tensor, batch: Batch) -> None:
        """A step's loss, this worker's part of it."""
        self._loss, self._steps = self._loss + loss, self._steps + 1
        self._shape = batch.observation.images.shape[1], batch.observation.tokens.shape[1]

    def read(self, norm: Tensor) -> dict[str, float | int | str | None]:
        """The means since the last reading; every worker calls it.

        Raises:
            Diverged: the gradient is not finite.
        """
        trainer, config = self._trainer, self._trainer.config
        loss = self._loss / self._steps
        if trainer.world > 1:
            dist.all_reduce(loss)
        gradient = optimise.check(norm, trainer.step)
        value = float(loss)
        seconds = time.perf_counter() - self._begin
        rate = self._steps * config.batch / seconds
        memory = cost.memory(trainer.device)
        values = {
            "loss": value,
            "gradient_norm": gradient,
            "learning_rate": trainer.optimiser.param_groups[0]["lr"],
            "samples_per_s": rate,
            "waiting_for_data": self._waited / seconds,
            "memory_peak_gb": memory["peak"] / 1e9,
            "mfu": cost.mfu(config.model, *self._shape, rate / trainer.world, trainer.device),
        }
        self._reset()
        return values

    def _reset(self) -> None:
        self._begin, self._waited, self._steps = time.perf_counter(), 0.0, 0
        self._loss = torch.zeros_like(self._loss)
