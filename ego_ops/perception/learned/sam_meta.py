"""Masks by Meta's own `segment-anything` package, for those who have it and its checkpoints."""

from __future__ import annotations

import functools
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.perception.learned.device import Device, torch_module
from ego_ops.perception.learned.segment import Array, Masks, Prompts, split


@dataclass(frozen=True)
class SamMeta:
    """SAM (Kirillov et al. 2023, arXiv 2304.02643), a box in each frame, one frame at a time."""

    checkpoint: Path
    """A .pth file as Meta publishes it."""
    device: Device
    kind: str = "vit_b"
    """Size of its network: `vit_b`, `vit_l` or `vit_h`."""

    def masks(self, images: NDArray[np.uint8], prompts: Prompts) -> Masks:
        """As `segment.Sam.masks`.

        Raises:
            UserError: the package is not installed, or the file is not such a checkpoint.
        """
        predictor = _predictor(self.checkpoint, self.kind, self.device)
        boxes, known = prompts.all, prompts.known
        found = Masks.empty(images.shape)
        with self.device.inference():
            for t in np.flatnonzero(known.any(1)):
                predictor.set_image(images[t])
                drawn = np.zeros((1, boxes.shape[1], *images.shape[1:3]), bool)
                for k in np.flatnonzero(known[t]):
                    drawn[0, k] = self._one(predictor, boxes[t, k])
                split(found, np.array([t]), drawn)
        return found

    def _one(self, predictor: Any, box: Array) -> NDArray[np.bool_]:
        masks, _, _ = predictor.predict(box=box, multimask_output=False)
        return masks[0]


@functools.cache
def _predictor(checkpoint: Path, kind: str, device: Device) -> Any:
    try:
        import segment_anything
    except ImportError as error:
        raise UserError(
            f"the backend sam_meta needs Meta's package, which cannot be imported ({error}): "
            "pip install segment-anything torchvision"
        ) from error
    if kind not in segment_anything.sam_model_registry:
        known = ", ".join(sorted(set(segment_anything.sam_model_registry) - {"default"}))
        raise UserError(f"no SAM of the size {kind!r} (known: {known})")
    torch = torch_module()
    network = segment_anything.sam_model_registry[kind]()
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        cause = " ".join(str(error).split())[:120]
        raise UserError(f"{checkpoint}: not a checkpoint of SAM {kind} ({cause})") from error
    network.eval().requires_grad_(False).to(device.device)
    return segment_anything.SamPredictor(network)
