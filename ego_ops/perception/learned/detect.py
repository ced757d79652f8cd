"""Boxes of what a phrase names, by Grounding DINO (Liu et al. 2023, arXiv 2303.05499)."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.perception.learned.device import Device, torch_module
from ego_ops.perception.learned.images import Preparation

if TYPE_CHECKING:
    import torch

_STOPS = (".", "?")
"""Tokens that end a phrase; the text encoder keeps what lies between them apart."""
_AROUND = ("[CLS]", "[SEP]", "[PAD]")


@dataclass(frozen=True)
class Found:
    """One box that the detector drew."""

    box: NDArray[np.float64]
    """(4,) x0, y0, x1, y1 in pixels of the picture, pixel centres at whole numbers."""
    score: float
    """0 to 1."""
    phrase: str
    """The phrase asked for that it fits best."""


@dataclass(frozen=True)
class Detector:
    """Grounding DINO, with all phrases asked for at once."""

    folder: Path
    """Its checkpoint."""
    device: Device
    batch: int = 8
    """Pictures at a time."""
    threshold: float = 0.3
    """Score below which a box is left out."""
    overlap: float = 0.8
    """Intersection over union above which two boxes of a phrase are one."""

    def boxes(self, images: NDArray[np.uint8], phrases: Sequence[str]) -> list[list[Found]]:
        """What is seen of the phrases in each picture (n, H, W, 3), the best first.

        Args:
            phrases: nouns such as "red cup"; case and stops do not matter.

        Raises:
            UserError: the checkpoint cannot be loaded, or there is no word in the phrases.
        """
        network = self.device.load("GroundingDinoForObjectDetection", self.folder, full=True)
        prepare, tokenizer = Preparation.read(self.folder), _tokenizer(self.folder)
        words = [_plain(phrase) for phrase in phrases]
        if not words or not all(words):
            raise UserError(f"nothing to look for in {list(phrases)}")
        text = tokenizer(prompt(words), return_tensors="pt").to(self.device.device)
        spans = _spans(tokenizer.convert_ids_to_tokens(text["input_ids"][0].tolist()))
        found: list[list[Found]] = []
        with self.device.inference(autocast=True):
            for at in range(0, len(images), self.batch):
                sent = self.device.upload(images[at : at + self.batch])
                pixels = prepare(sent, network.dtype)
                many = {name: value.expand(len(sent), -1) for name, value in text.items()}
                given = network(pixel_values=pixels, pixel_mask=_whole(pixels), **many)
                scores = _by_phrase(given.logits.float().sigmoid(), spans)
                boxes = given.pred_boxes.float()
                found += self._kept(scores, boxes, phrases, images.shape[1:3])
        return found

    def _kept(
        self,
        scores: torch.Tensor,
        boxes: torch.Tensor,
        phrases: Sequence[str],
        shape: tuple[int, ...],
    ) -> list[list[Found]]:
        """Boxes above the threshold, each once, from scores (n, queries, phrases) and boxes
        (n, queries, 4) as shares of the picture: centre, width and height."""
        score, which = (part.cpu().numpy() for part in scores.max(-1))
        corners = _corners(boxes.cpu().numpy().astype(float), shape)
        found = []
        for k in range(len(score)):
            kept: list[Found] = []
            for i in np.argsort(-score[k], kind="stable"):
                if score[k, i] < self.threshold:
                    break
                one = Found(corners[k, i], float(score[k, i]), phrases[which[k, i]])
                if all(
                    one.phrase != old.phrase or iou(one.box, old.box) < self.overlap for old in kept
                ):
                    kept.append(one)
            found.append(kept)
        return found


def prompt(words: Sequence[str]) -> str:
    """Phrases as one text in the form that the network was trained on."""
    return " ".join(f"{word}." for word in words)


def iou(a: NDArray, b: NDArray) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1; 0 where one is empty."""
    shared = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inner = float(np.prod(np.maximum(shared, 0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - inner
    return inner / union if union > 0 else 0.0


def _plain(phrase: str) -> str:
    return re.sub(r"[.?\s]+", " ", phrase.lower()).strip()


def _corners(boxes: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Boxes in pixels, cut at the picture's border, from shares of a picture (height, width).

    Shares count from the picture's edge, half a pixel outside its first pixel's centre.
    """
    size = np.array([shape[1], shape[0], shape[1], shape[0]])
    half = boxes[..., 2:] / 2
    edges = np.concatenate((boxes[..., :2] - half, boxes[..., :2] + half), -1)
    return np.clip(edges, 0, 1) * size - 0.5


def _whole(pixels: torch.Tensor) -> torch.Tensor:
    """A mask (n, h, w) of pictures that are not padded: frames of one video are of one size."""
    return pixels.new_ones((len(pixels), *pixels.shape[-2:])).long()


def _by_phrase(scores: torch.Tensor, spans: list[list[int]]) -> torch.Tensor:
    """(n, queries, phrases) best score over each phrase's tokens, of scores by token."""
    torch = torch_module()
    return torch.stack([scores[..., span].amax(-1) for span in spans], -1)


def _spans(tokens: list[str]) -> list[list[int]]:
    """Places of each phrase's tokens in a text of phrases that end in stops."""
    spans: list[list[int]] = [[]]
    for place, token in enumerate(tokens):
        if token in _STOPS:
            spans.append([])
        elif token not in _AROUND:
            spans[-1].append(place)
    return [span for span in spans if span]


@functools.cache
def _tokenizer(folder: Path) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"{folder}: its tokenizer cannot be loaded ({cause})") from error
