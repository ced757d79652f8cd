"""A moving mean of the weights over the steps: what is validated and exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from ego_ops.errors import UserError


class Ema:
    """mean <- decay * mean + (1 - decay) * weights, in fp32, of the parameters that are trained.

    It is sharded as the weights are, and lies where they lie. Make it after the model has been
    wrapped and the weights have been loaded.
    """

    def __init__(self, model: nn.Module, decay: float):
        self._model, self._decay = model, decay
        # FSDP swaps a module's parameters as it gathers them: these are the sharded ones.
        self._weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._means = {n: p.detach().float().clone() for n, p in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the optimiser."""
        means, weights = _local(self._means), _local(self._weights)
        torch._foreach_lerp_(means, weights, 1 - self._decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The means are the model's weights inside, and its own are back after, to the bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, Tensor]:
        """The means by the names of the parameters; they are no copies."""
        return dict(self._means)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the means from `state_dict`, of the same sharding.

        Raises:
            UserError: it is of another model, or of one with other parts frozen.
        """
        if state.keys() != self._means.keys():
            missing, extra = self._means.keys() - state.keys(), state.keys() - self._means.keys()
            raise UserError(
                f"the moving mean of the weights is another model's: {len(missing)} missing "
                f"{sorted(missing)[:3]}, {len(extra)} left over {sorted(extra)[:3]}; use the "
                "configuration (`freeze`, `lora`) that it was saved with"
            )
        for name, mean in self._means.items():
            if state[name] is not mean:
                mean.copy_(state[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        # One tensor at a time, so that no second copy of the model is needed.
        for weight, mean in zip(_local(self._weights), _local(self._means), strict=True):
            own = weight.clone()
            weight.copy_(mean)
            mean.copy_(own)
        # What FSDP has gathered and not yet freed holds the former weights.
        for module in self._model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def _local(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """This worker's parts: what is done to each number by itself needs no more."""
    return [t.to_local() if isinstance(t, DTensor) else t.detach() for t in tensors.values()]
