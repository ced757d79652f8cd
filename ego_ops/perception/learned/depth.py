"""Depth from single pictures, by Depth Anything V2 (Yang et al. 2024, arXiv 2406.09414)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ego_ops.geometry.view import Array, Mask
from ego_ops.perception.learned.device import Device, torch_module
from ego_ops.perception.learned.images import Preparation
from ego_ops.perception.tracks import Tracks

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DepthNetwork:
    """Depth Anything V2: metric checkpoints give metres, relative ones inverse depth up to a
    scale and a shift of each picture (see `depth_scale`)."""

    folder: Path
    """Its checkpoint."""
    device: Device
    batch: int = 8
    """Pictures at a time."""

    @property
    def metric(self) -> bool:
        """Whether what comes out is metres.

        Raises:
            UserError: the checkpoint cannot be loaded.
        """
        network = self.device.load("DepthAnythingForDepthEstimation", self.folder)
        return network.config.depth_estimation_type == "metric"

    def maps(self, images: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """For each batch of pictures (T, H, W, 3) the index of its first, and its maps (n, H, W).

        Raises:
            UserError: the checkpoint cannot be loaded.
        """
        for at, coarse in self._batches(images):
            yield at, _resized(coarse, images.shape[1:3]).cpu().numpy()

    def sample(
        self, images: NDArray[np.uint8], tracks: Tracks, masks: Mask | None = None, most: int = 0
    ) -> tuple[Array, list[Array]]:
        """Depth at tracked points, and at pixels spread over a mask.

        A batch's maps are dropped before those of the next are made.

        Args:
            tracks: N tracks in pixels of the pictures.
            masks: (T, H, W) of the pictures.
            most: pixels of each mask to look at, at most.

        Returns:
            (T, N) values at the nearest pixel of the network's own map, NaN where a point is not
            visible; and for each picture (k, 3) pixels x, y of its mask with their value.

        Raises:
            UserError: the checkpoint cannot be loaded.
        """
        values = np.full(tracks.visible.shape, np.nan)
        spread = [np.zeros((0, 3)) for _ in images]
        for at, coarse in self._batches(images):
            here = slice(at, at + len(coarse))
            seen = _at(coarse, tracks.xy[here], images.shape[1:3])
            values[here] = np.where(tracks.visible[here], seen, np.nan)
            for k, mask in enumerate([] if masks is None else masks[here]):
                pixels = _spread(mask, most)
                value = _at(coarse[k : k + 1], pixels[None], images.shape[1:3])[0]
                spread[at + k] = np.column_stack((pixels, value))
        return values, spread

    def _batches(self, images: NDArray[np.uint8]) -> Iterator[tuple[int, torch.Tensor]]:
        """Maps (n, h, w) of the network's own size, float32 on its device."""
        network = self.device.load("DepthAnythingForDepthEstimation", self.folder)
        prepare = Preparation.read(self.folder)
        for at in range(0, len(images), self.batch):
            with self.device.inference():
                pixels = prepare(
                    self.device.upload(images[at : at + self.batch]), self.device.dtype
                )
                coarse = network(pixel_values=pixels).predicted_depth.float()
            yield at, coarse


def _resized(coarse: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Maps (n, H, W) of the pictures' size."""
    resize = torch_module().nn.functional.interpolate
    return resize(coarse[:, None], tuple(shape), mode="bilinear")[:, 0]


def _at(coarse: torch.Tensor, xy: Array, shape: tuple[int, ...]) -> Array:
    """(n, N) values of maps (n, h, w) at pixels (n, N, 2) of pictures of `shape`.

    The nearest value, not one in between: at an object's edge that would lie on neither side.
    """
    torch = torch_module()
    size = np.array([shape[1], shape[0]])
    place = np.nan_to_num((xy + 0.5) / size * 2 - 1, nan=-2.0)
    grid = torch.from_numpy(place).to(coarse)[:, :, None]
    found = torch.nn.functional.grid_sample(
        coarse[:, None], grid, mode="nearest", padding_mode="border", align_corners=False
    )
    return found[:, 0, :, 0].cpu().numpy().astype(float)


def _spread(mask: Mask, most: int) -> Array:
    """(k, 2) pixels of a mask (H, W), spread evenly over it, `most` at most."""
    y, x = np.nonzero(mask)
    chosen = np.linspace(0, len(x), min(most, len(x)), endpoint=False).astype(int)
    return np.stack((x, y), -1)[chosen].astype(float)
