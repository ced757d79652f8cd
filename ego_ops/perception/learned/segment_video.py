"""Masks through a video, by SAM 2 (Ravi et al. 2024, arXiv 2408.00714)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ego_ops.geometry.view import Mask
from ego_ops.perception.learned.device import Device, torch_module
from ego_ops.perception.learned.images import Preparation
from ego_ops.perception.learned.segment import Array, Masks, Prompts, full_size, placed


@dataclass(frozen=True)
class SamVideo:
    """SAM 2: a box of each thing in one frame, masks in all.

    The picture encoder, which takes most of the time, sees frames in batches and each once where
    all things are asked for in the same frame; the memory that follows a thing is run frame by
    frame, as it must be.
    """

    folder: Path
    """Its checkpoint."""
    device: Device
    batch: int = 8
    """Pictures at a time."""

    def masks(self, images: NDArray[np.uint8], prompts: Prompts) -> Masks:
        """Masks of T pictures (T, H, W, 3), from one box of each thing.

        Each is asked for in the frame next to `prompts.start` that has its box. What has no box
        in any frame has no mask.

        Raises:
            UserError: the checkpoint cannot be loaded.
        """
        found = Masks.empty(images.shape)
        starts = _starts(prompts.known, prompts.start)
        if not starts:
            return found
        network = self.device.load("Sam2VideoModel", self.folder)
        shape = (images.shape[1], images.shape[2])
        with self.device.inference():
            things = {
                k: _Thing(network, self.device, len(images), start, prompts.all[start, k], shape)
                for k, start in starts.items()
            }
            cache = _shared_cache(things)
            for order, reverse in _passes(len(images), starts):
                for t, features in self._features(network, images, order):
                    cache.clear_all()
                    cache.cache_vision_features(t, features)
                    for k, thing in things.items():
                        if (t < thing.start) == reverse:
                            target = found.object if k == 0 else found.hand
                            target[t] |= thing.mask(t, reverse)
        found.object[:] &= ~found.hand
        return found

    def _features(
        self, network: Any, images: NDArray[np.uint8], order: NDArray[np.int64]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """What the encoder makes of each frame, in the order asked for."""
        prepare = Preparation.square(network.image_size)
        for at in range(0, len(order), self.batch):
            which = order[at : at + self.batch]
            pixels = prepare(self.device.upload(images[which]), self.device.dtype)
            given = network.get_image_features(pixels, return_dict=True)
            for i, t in enumerate(which):
                yield (
                    int(t),
                    {
                        "vision_feats": [f[:, i : i + 1] for f in given.fpn_hidden_states],
                        "vision_pos_embeds": [f[:, i : i + 1] for f in given.fpn_position_encoding],
                    },
                )


class _Thing:
    """One thing that is followed: the network's memory of it."""

    def __init__(
        self,
        network: Any,
        device: Device,
        steps: int,
        start: int,
        box: Array,
        shape: tuple[int, int],
    ) -> None:
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        torch = torch_module()
        self.start = start
        self._network, self._shape = network, shape
        self._square = (network.image_size, network.image_size)
        self.session = Sam2VideoInferenceSession(
            video_height=shape[0],
            video_width=shape[1],
            inference_device=device.device,
            inference_state_device=device.device,
            dtype=device.dtype,
        )
        # It asks how many frames there are; their features are handed to it, never the frames.
        self.session.processed_frames = dict.fromkeys(range(steps))
        corners = placed(box, shape, self._square).reshape(1, 1, 2, 2)
        labels = torch.tensor([[[2, 3]]], dtype=torch.int32)  # a box's two corners
        self.session.add_point_inputs(
            self.session.obj_id_to_idx(0), start,
            {"point_coords": corners, "point_labels": labels},
        )  # fmt: skip
        self.session.obj_with_new_inputs = [0]

    def mask(self, t: int, reverse: bool) -> Mask:
        """(H, W) where it is in frame t, whose features are in the cache."""
        given = self._network(self.session, frame_idx=t, reverse=reverse)
        mask = full_size(given.pred_masks, self._square, self._square, self._shape)
        for kept in self.session.output_dict_per_obj[0].values():
            if t in kept:  # 2 MB a frame that nothing reads again
                kept[t].pop("high_res_masks", None)
        return mask[0, 0].cpu().numpy()


def _starts(known: Mask, start: int) -> dict[int, int]:
    """The frame next to `start` in which each thing has a box, of `known` (T, K)."""
    frames = {k: np.flatnonzero(known[:, k]) for k in range(known.shape[1])}
    return {k: int(seen[np.abs(seen - start).argmin()]) for k, seen in frames.items() if len(seen)}


def _passes(steps: int, starts: dict[int, int]) -> list[tuple[NDArray[np.int64], bool]]:
    """Frames from the first start to the end, and from the last one back to the beginning."""
    first, last = min(starts.values()), max(starts.values())
    return [(np.arange(first, steps), False), (np.arange(last - 1, -1, -1), True)]


def _shared_cache(things: dict[int, _Thing]) -> Any:
    """One cache of features for all things: each frame is encoded once for all of them."""
    cache = next(iter(things.values())).session.cache
    for thing in things.values():
        thing.session.cache = cache
    return cache
