"""Fine-tuning with fewer weights: frozen parts, and low-rank adapters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ego_ops.errors import UserError, hint
from training.pi0.model import Pi0


class Lora(nn.Linear):
    """W x + (alpha / rank) B A x, with W as it was (arXiv 2106.09685). Its `weight` has the name
    that it has in the plain layer; A and B are beside it."""

    def __init__(self, plain: nn.Linear, rank: int, alpha: float):
        with torch.device("meta"):
            super().__init__(plain.in_features, plain.out_features, plain.bias is not None)
        self.weight, self.bias = plain.weight, plain.bias
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, self.in_features, device=plain.weight.device))
        self.b = nn.Parameter(torch.zeros(self.out_features, rank, device=plain.weight.device))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        return super().forward(x) + F.linear(F.linear(x, self.a), self.b) * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The plain layer that does the same."""
        with torch.device("meta"):
            plain = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        weight = self.weight + self.scale * (self.b @ self.a)
        plain.weight = nn.Parameter(weight, requires_grad=self.weight.requires_grad)
        plain.bias = self.bias
        return plain


def freeze(model: Pi0, parts: Sequence[str]) -> None:
    """Leave parts as they are: `vision` (SigLIP and the projector), `language` (PaliGemma's
    layers and its vocabulary), `expert` (the expert's layers and the heads).

    Raises:
        UserError: there is no such part.
    """
    modules: dict[str, list[nn.Module]] = {
        "vision": [model.vision, model.projector],
        "language": [model.embedding, model.language_norm, *(b.language for b in model.blocks)],
        "expert": [model.expert_norm, *model.heads(), *(b.expert for b in model.blocks)],
    }
    for part in parts:
        if part not in modules:
            raise UserError(f"freeze {part}: no such part; {hint(part, modules)}")
        for module in modules[part]:
            module.requires_grad_(False)


def add_lora(model: Pi0, rank: int, alpha: float | None = None) -> None:
    """Give adapters to the matrices of the joint blocks, and train those and the heads only.

    What is frozen already, heads included, stays so and gets no adapter: freeze first. At the
    start the model computes what it did before.

    Args:
        alpha: scale of the adapters; the rank if None.

    Raises:
        UserError: the rank is not positive.
    """
    if rank < 1:
        raise UserError(f"lora {rank}: the rank of the adapters is at least 1")
    adapters: list[nn.Parameter] = []
    for parent, name, layer in _linears(model):
        if layer.weight.requires_grad:
            lora = Lora(layer, rank, rank if alpha is None else alpha)
            setattr(parent, name, lora)
            adapters += [lora.a, lora.b]
    kept = {id(parameter) for head in model.heads() for parameter in head.parameters()}
    kept |= {id(parameter) for parameter in adapters}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def merge_lora(model: Pi0) -> None:
    """Fold the adapters into the matrices: the model has its plain layers and names again.

    The weights must be whole tensors, not shards.
    """
    for parent, name, layer in _linears(model):
        if isinstance(layer, Lora):
            setattr(parent, name, layer.merged())


def _linears(model: Pi0) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """The matrices of the joint blocks: parent, name in it, layer."""
    for parent in list(model.blocks.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                yield parent, name, layer
