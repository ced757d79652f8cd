"""Masks of the manipulated object, the hands' left out.

`Sam` looks at each frame by itself and needs a box in each; `segment_video.SamVideo` needs one box
of a thing and follows what it shows through all other frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ego_ops.geometry.view import Mask
from ego_ops.perception.learned.device import Device, torch_module
from ego_ops.perception.learned.images import Preparation

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prompts:
    """Where things are in T frames: boxes x0, y0, x1, y1 in pixels, NaN where there is none."""

    object: Array
    """(T, 4)."""
    hands: Array
    """(T, K, 4) of up to K hands; K may be 0. A column is one hand."""
    start: int = 0
    """The frame in which it is surest where the object is."""

    @property
    def all(self) -> Array:
        """(T, 1 + K, 4), the object's first."""
        return np.concatenate((self.object[:, None], self.hands), 1)

    @property
    def known(self) -> Mask:
        """(T, 1 + K) which boxes of `all` there are."""
        return np.asarray(np.isfinite(self.all).all(-1))


@dataclass(frozen=True)
class Masks:
    """What the pixels of T frames show."""

    object: Mask
    """(T, H, W) the manipulated object, without any hand."""
    hand: Mask
    """(T, H, W) any hand."""

    @staticmethod
    def empty(shape: tuple[int, ...]) -> Masks:
        """For pictures of the shape (T, H, W, 3)."""
        return Masks(np.zeros(shape[:3], bool), np.zeros(shape[:3], bool))


class Masker(Protocol):
    """Draws masks from boxes."""

    def masks(self, images: NDArray[np.uint8], prompts: Prompts) -> Masks:
        """Masks of T pictures (T, H, W, 3)."""


@dataclass(frozen=True)
class Sam:
    """SAM (Kirillov et al. 2023, arXiv 2304.02643) with a box in each frame, in batches."""

    folder: Path
    """Its checkpoint."""
    device: Device
    batch: int = 4
    """Pictures at a time."""

    def masks(self, images: NDArray[np.uint8], prompts: Prompts) -> Masks:
        """See `Masker`; empty in frames without a box.

        Raises:
            UserError: the checkpoint cannot be loaded.
        """
        boxes, known = prompts.all, prompts.known
        found = Masks.empty(images.shape)
        asked = np.flatnonzero(known.any(1))
        for at in range(0, len(asked), self.batch):
            which = asked[at : at + self.batch]
            drawn = self._batch(images[which], boxes[which])
            split(found, which, drawn & known[which][..., None, None])
        return found

    def _batch(self, images: NDArray[np.uint8], boxes: Array) -> Mask:
        """(n, K, H, W) masks from boxes (n, K, 4), anything for those that are NaN."""
        network = self.device.load("SamModel", self.folder)
        prepare = Preparation.read(self.folder)
        shape = (images.shape[1], images.shape[2])
        inner = prepare.shape(*shape)
        with self.device.inference():
            pixels = prepare(self.device.upload(images), self.device.dtype)
            given = network(
                pixel_values=pixels,
                input_boxes=placed(boxes, shape, inner).to(pixels.device),
                multimask_output=False,
            )
            logits = given.pred_masks[:, :, 0]
            padded = (pixels.shape[-2], pixels.shape[-1])
            return full_size(logits, inner, padded, shape).cpu().numpy()


def split(found: Masks, which: NDArray[np.int64], drawn: Mask) -> None:
    """Write masks (n, 1 + K, H, W) of frames `which`, the object's first, into `found`."""
    hand = drawn[:, 1:].any(1)
    found.hand[which] = hand
    found.object[which] = drawn[:, 0] & ~hand


def placed(boxes: Array, shape: tuple[int, int], inner: tuple[int, int]) -> torch.Tensor:
    """Boxes (..., 4) on a picture of `shape` where it is scaled to `inner`; NaN becomes 0.

    Args:
        boxes: in pixels, whose centres are at whole numbers on either picture.
        shape, inner: (height, width).
    """
    torch = torch_module()
    scale = np.array([inner[1] / shape[1], inner[0] / shape[0]] * 2)
    # In float32 whatever the precision: a half has steps of half a pixel at pixel 512.
    return torch.from_numpy(np.nan_to_num((boxes + 0.5) * scale - 0.5)).float()


def full_size(
    logits: torch.Tensor, inner: tuple[int, int], padded: tuple[int, int], shape: tuple[int, int]
) -> torch.Tensor:
    """(n, K, H, W) masks of pictures of `shape` from a network's coarse logits (n, K, h, w).

    Args:
        inner, padded: (height, width) of the scaled picture, and of what the network was given.
    """
    torch = torch_module()
    resize = torch.nn.functional.interpolate
    logits = logits.float()
    if inner != padded:
        logits = resize(logits, padded, mode="bilinear")[..., : inner[0], : inner[1]]
    return resize(logits, shape, mode="bilinear") > 0
