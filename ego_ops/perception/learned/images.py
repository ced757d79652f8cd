"""Pictures as a checkpoint wants them: scaled, normalised and padded on its device.

`transformers` does the same on the CPU, with PIL, at some 20 ms a picture; what it would make is
what is made here, to the rounding of a resize.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ego_ops.errors import UserError
from ego_ops.perception.learned.device import torch_module

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_BICUBIC = 3
"""PIL's number for it, which the files hold."""


@dataclass(frozen=True)
class Preparation:
    """What a checkpoint's `preprocessor_config.json` says."""

    size: tuple[tuple[str, int], ...]
    """Either `height` and `width`, `longest_edge`, or `shortest_edge` with `longest_edge` as a
    bound."""
    pad: tuple[int, int] | None = None
    """(height, width) to fill up to, on the right and below."""
    keep_ratio: bool = False
    """With `height` and `width`: scale as little as possible, both sides alike."""
    multiple: int = 1
    """Each side is rounded to a multiple of this."""
    bicubic: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @staticmethod
    def square(size: int) -> Preparation:
        """Pictures stretched to `size` x `size`, as SAM 2 takes them."""
        return Preparation((("height", size), ("width", size)))

    @staticmethod
    def read(folder: Path) -> Preparation:
        """From a checkpoint's folder.

        Raises:
            UserError: its file is missing or says something unknown.
        """
        path = folder / "preprocessor_config.json"
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
            return _read(given)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a picture of that shape once scaled, before it is padded."""
        size = dict(self.size)
        if "height" in size:
            tall, wide = size["height"] / height, size["width"] / width
            if self.keep_ratio:
                tall = wide = wide if abs(1 - wide) < abs(1 - tall) else tall
            return _rounded(height * tall, self.multiple), _rounded(width * wide, self.multiple)
        if "shortest_edge" not in size:
            scale = size["longest_edge"] / max(height, width)
            return math.floor(height * scale + 0.5), math.floor(width * scale + 0.5)
        return _shortest(height, width, size["shortest_edge"], size.get("longest_edge"))

    def __call__(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(n, 3, h, w) pictures for the network from (n, 3, H, W) uint8 on any device."""
        torch = torch_module()
        interpolate, pad = torch.nn.functional.interpolate, torch.nn.functional.pad
        shape = self.shape(*images.shape[-2:])
        found = images.float()
        if shape != tuple(images.shape[-2:]):
            mode = "bicubic" if self.bicubic else "bilinear"
            found = interpolate(found, shape, mode=mode, antialias=True)
            found = found.round_().clamp_(0, 255)  # as pictures are, which PIL scales
        mean = torch.tensor(self.mean, device=images.device)[:, None, None] * 255
        std = torch.tensor(self.std, device=images.device)[:, None, None] * 255
        found = ((found - mean) / std).to(dtype)
        if self.pad is None:
            return found
        return pad(found, (0, self.pad[1] - shape[1], 0, self.pad[0] - shape[0]))


def _read(given: dict[str, Any]) -> Preparation:
    size = {name: int(value) for name, value in given["size"].items() if value}
    if not ({"height", "width"} <= size.keys() or "longest_edge" in size):
        raise ValueError(f"a size of {given['size']}")
    pad = given.get("pad_size") if given.get("do_pad") and "shortest_edge" not in size else None
    return Preparation(
        tuple(size.items()),
        (int(pad["height"]), int(pad["width"])) if pad else None,
        bool(given.get("keep_aspect_ratio")),
        int(given.get("ensure_multiple_of") or 1),
        given.get("resample") == _BICUBIC,
        tuple(given["image_mean"]),
        tuple(given["image_std"]),
    )


def _rounded(value: float, multiple: int) -> int:
    return max(multiple, round(value / multiple) * multiple)


def _shortest(height: int, width: int, edge: int, bound: int | None) -> tuple[int, int]:
    """The shorter side is `edge`, or what the bound on the longer leaves."""
    short, long = min(height, width), max(height, width)
    exact = float(edge)
    if bound and long / short * edge > bound:
        exact = bound * short / long
        edge = round(exact)
    if short == edge:
        return height, width
    other = math.floor(exact * long / short)
    return (edge, other) if height <= width else (other, edge)
