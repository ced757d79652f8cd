"""π0 for inference: in half precision, and on a GPU as one CUDA graph.

At batch 1 the ten steps read the expert's weights ten times and launch over a thousand kernels:
the first asks for two bytes a weight, the second for a graph, which launches all of them at once.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from training.batch import Observation
from training.pi0.block import RMSNorm
from training.pi0.model import Pi0

_WARM_UP = 3
"""Calls before a graph is captured, in which libraries choose their algorithms."""


def cast(model: Pi0, dtype: torch.dtype = torch.bfloat16) -> Pi0:
    """The model with weights of that type, in place: but for Gemma's norms, and the heads, through
    which actions go in and come out; those stay fp32."""
    for towers in (model.vision, model.projector, model.embedding, model.blocks):
        towers.to(dtype)
    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.float()
    return model


class GraphSampler:
    """`Pi0.sample` as one CUDA graph, for observations of one shape."""

    def __init__(self, model: Pi0, observation: Observation, steps: int = 10):
        """Capture, which takes seconds.

        Args:
            observation: an example, on the GPU; later ones have its shapes and its `padded`.
        """
        config = model.config
        shape = (len(observation.state), config.horizon, config.action_size)
        self._noise = torch.zeros(shape, device=observation.state.device)
        held = {name: value.clone() for name, value in _tensors(observation).items()}
        self._inputs = Observation(**held, padded=observation.padded)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                model.sample(self._inputs, self._noise, steps)
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._actions = model.sample(self._inputs, self._noise, steps)

    def __call__(self, observation: Observation, noise: Tensor | None = None) -> Tensor:
        """As `Pi0.sample`.

        Raises:
            ValueError: the observation is not of the captured shape.
        """
        given, held = _tensors(observation), _tensors(self._inputs)
        if observation.padded and not self._inputs.padded:
            raise ValueError("the graph was captured without masks: this observation needs them")
        for name, value in held.items():
            if given[name].shape != value.shape:
                raise ValueError(
                    f"{name} of shape {tuple(given[name].shape)}: the graph was captured for "
                    f"{tuple(value.shape)}"
                )
            value.copy_(given[name], non_blocking=True)
        if noise is None:
            self._noise.normal_()
        else:
            self._noise.copy_(noise, non_blocking=True)
        self._graph.replay()
        return self._actions.clone()


def _tensors(observation: Observation) -> dict[str, Tensor]:
    values = {field.name: getattr(observation, field.name) for field in fields(observation)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
