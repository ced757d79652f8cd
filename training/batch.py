"""What a model is given: tensors of a batch of B samples, padded to the model's widths."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """What a policy sees. C cameras, L text tokens; widths are `Pi0Config`'s."""

    images: Tensor
    """(B, C, H, W, 3) uint8 RGB. Cameras that no sample has are left out: they cost nothing."""
    image_mask: Tensor
    """(B, C) bool: whether the sample has that camera."""
    tokens: Tensor
    """(B, L) int64, padded on the right."""
    token_mask: Tensor
    """(B, L) bool."""
    state: Tensor
    """(B, action_size) float32, normalised, padded with zeros."""
    padded: bool = True
    """Whether any of the masks has a False; where none has, the model can do without them."""

    def to(self, device: object) -> Observation:
        """The same on another device."""
        return replace(self, **_moved(self, device))


@dataclass(frozen=True)
class Batch:
    """What training needs of a batch."""

    observation: Observation
    actions: Tensor
    """(B, horizon, action_size) float32, normalised, padded with zeros."""
    action_mask: Tensor
    """(B, horizon, action_size) bool: recorded steps, and numbers that the source has."""
    noise: Tensor
    """(B, horizon, action_size) float32, standard normal."""
    time: Tensor
    """(B,) float32: 1 is noise, 0 is data."""

    def to(self, device: object) -> Batch:
        """The same on another device."""
        return replace(self, observation=self.observation.to(device), **_moved(self, device))


def _moved(batch: object, device: object) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}  # type: ignore[arg-type]
    return {
        name: value.to(device, non_blocking=True)
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
