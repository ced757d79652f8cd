"""What a trainer logs, gathered without waiting for the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from training import cost
from training.batch import Batch
from training.config import TrainConfig


class Meter:
    """Means over some steps. Each worker has one.

    Args:
        config: of the run.
        device: of this worker.
        world: how many workers there are.
    """

    def __init__(self, config: TrainConfig, device: torch.device, world: int):
        self._config, self._device, self._world = config, device, world
        self._loss = torch.zeros((), device=device)
        self._shape = 0, 0
        self._steps = 0
        self._waited = 0.0
        self._since = self._begin = time.perf_counter()

    def waits(self) -> None:
        """For the next batch, from now on."""
        self._since = time.perf_counter()

    def works(self) -> None:
        """The batch has come."""
        self._waited += time.perf_counter() - self._since

    def add(self, loss: Tensor, batch: Batch) -> None:
        """Count a step; `loss` is this worker's part of its loss."""
        self._loss += loss
        self._steps += 1
        self._shape = batch.observation.images.shape[1], batch.observation.tokens.shape[1]

    def read(self) -> dict[str, float | int | str | None]:
        """The means since the last reading; waits for the device. Every worker calls it."""
        config = self._config
        loss = self._loss / max(1, self._steps)
        if self._world > 1:
            dist.all_reduce(loss)
        value = float(loss)  # waits for the device, so that the time is that of the steps
        seconds = time.perf_counter() - self._begin
        rate = self._steps * config.batch / seconds
        values: dict[str, float | int | str | None] = {
            "loss": value,
            "samples_per_s": rate,
            "waiting_for_data": self._waited / seconds,
            "memory_peak_gb": cost.memory(self._device)["peak"] / 1e9,
            "mfu": cost.mfu(config.model, *self._shape, rate / self._world, self._device),
        }
        self._loss.zero_()
        self._steps, self._waited, self._begin = 0, 0.0, time.perf_counter()
        return values

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What is done inside is no part of the steps' time."""
        since = time.perf_counter()
        yield
        self._begin += time.perf_counter() - since
