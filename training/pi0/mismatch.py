"""How a file of weights differs from what a model needs, said in one line."""

from __future__ import annotations

from dataclasses import dataclass, field

_SHOWN = 10
"""Names of a kind; the others are counted."""

Shape = tuple[int, ...]


@dataclass
class Mismatch:
    """Names as openpi has them."""

    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    misshapen: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    """Name, shape in the file, shape in the model."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.left_over or self.misshapen)

    def __str__(self) -> str:
        shapes = [f"{n} {_shape(had)} for {_shape(need)}" for n, had, need in self.misshapen]
        kinds = (
            ("missing", self.missing),
            ("left over", self.left_over),
            ("of another shape", shapes),
        )
        return "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds if names)


def advice(found: Mismatch) -> str:
    """What to do about it, as the end of a sentence."""
    if any("lora_" in name for name in found.left_over):
        return "; these are adapters: merge them into their weights first"
    if any(name.startswith("time_mlp") or ".dense." in name for name in found.left_over):
        return "; it is a π0.5: the model of the configuration must be one (pi05)"
    if found.misshapen or any(".layers." in name for name in found.missing + found.left_over):
        return "; is it of another size? the configuration must be the one it was trained with"
    return "; is it another kind of model?"


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
