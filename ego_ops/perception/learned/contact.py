"""Which of several things a hand manipulates: the one that moves while it is touched.

A thing that merely lies where a hand passes is touched, in the picture, but does not move; what
is seen to move by itself, such as a reflection or an arm, is not touched. So each candidate is
scored by the share of the clip in which both are the case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_TRACKS = 6
"""Background tracks below which nothing is known of the camera's motion."""


@dataclass(frozen=True)
class Choice:
    """Which candidate it is."""

    index: int
    margin: float
    """From 0 to 1: how far its score is above the next best, as a share of its score; 0 where
    nothing tells them apart. With one candidate, 1 where a hand moves it."""
    scores: Array
    """(K,) from 0 to 1: share of the frames in which each is seen to move with a hand at it."""


@dataclass(frozen=True)
class ContactChoice:
    """Chooses among candidates by hands' contact and by motion."""

    near: float = 0.3
    """Distance between a fingertip and a thing at which contact is as likely as not, as a share of
    the hand's size."""
    lag: int = 5
    """Frames over which motion is looked at."""
    noise: float = 4.0
    """Pixels of motion that are as likely as not the noise of boxes and of the camera's motion."""
    wobble: float = 0.06
    """The same as a share of a candidate's size."""
    hand_overlap: float = 0.6
    """Overlap (intersection over union) with a hand's box, in half of the frames, above which a
    candidate is that hand."""
    touch: float = 0.05
    """What contact without motion counts, to decide where nothing is seen to move."""

    def choose(
        self,
        boxes: Array,
        tips: Array,
        hand_boxes: Array,
        background: Array | None,
    ) -> Choice:
        """The manipulated one of K candidates.

        Args:
            boxes: (T, K, 4) x0, y0, x1, y1 of each candidate; NaN where it is not seen.
            tips: (T, H, F, 2) fingertips of each hand, NaN where not seen; with F = 0, hands' boxes
                are looked at instead.
            hand_boxes: (T, H, 4), NaN where not seen.
            background: (T, M, 2) tracks of the still world, NaN where not seen; None for a camera
                that stands still, which a head's never does.

        Raises:
            ValueError: there is no candidate.
        """
        if boxes.shape[1] == 0:
            raise ValueError("no candidates to choose from")
        contact = self.contact(boxes, tips, hand_boxes)
        moving = self.moving(boxes, background)
        both = np.minimum(contact, moving)
        scores = (both + self.touch * contact).mean(0) / (1 + self.touch)
        scores[self._hands(boxes, hand_boxes)] = 0.0
        index = int(scores.argmax())
        rest = np.delete(scores, index)
        best, second = scores[index], rest.max(initial=0.0)
        return Choice(index, float((best - second) / best) if best > 0 else 0.0, scores)

    def contact(self, boxes: Array, tips: Array, hand_boxes: Array) -> Array:
        """(T, K) from 0 to 1, how likely a hand touches each candidate; 0 where either is not
        seen."""
        sizes = np.linalg.norm(hand_boxes[..., 2:] - hand_boxes[..., :2], axis=-1)
        if tips.shape[2]:
            low, high = boxes[:, :, None, None, :2], boxes[:, :, None, None, 2:]
            outside = np.maximum(low - tips[:, None], tips[:, None] - high)
        else:
            low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
            outside = np.maximum(
                low - hand_boxes[:, None, :, 2:], hand_boxes[:, None, :, :2] - high
            )
            outside = outside[..., None, :]
        gap = np.linalg.norm(np.maximum(outside, 0), axis=-1) / sizes[:, None, :, None]
        closeness = np.nan_to_num(1 / (1 + (gap / self.near) ** 4))
        # Three fingertips at a thing tell more than one that passes in front of it.
        fingers = np.sort(closeness, -1)[..., -3:].mean(-1)
        return np.asarray(fingers.max(-1, initial=0.0))

    def moving(self, boxes: Array, background: Array | None) -> Array:
        """(T, K) from 0 to 1, how likely each candidate moves against the background around a
        frame; 0 where that is not seen."""
        steps = len(boxes)
        lag = min(self.lag, steps - 1)
        moved = np.zeros(boxes.shape[:2])
        if lag < 1:
            return moved
        before, after = boxes[:-lag], boxes[lag:]
        still = before if background is None else _carried(before, background, lag)
        shift = after - still
        # A hand in front of a still thing moves one side of what is left of its box, not both.
        far = np.hypot(_agreed(shift[..., 0::2]), _agreed(shift[..., 1::2]))
        size = np.linalg.norm(before[..., 2:] - before[..., :2], axis=-1)
        doubt = np.maximum(self.noise, self.wobble * size)
        likely = np.nan_to_num(far**2 / (far**2 + doubt**2))
        moved[lag // 2 : lag // 2 + len(likely)] = likely
        return moved

    def _hands(self, boxes: Array, hand_boxes: Array) -> NDArray[np.bool_]:
        """(K,) candidates that are a hand."""
        overlap = _overlap(boxes[:, :, None], hand_boxes[:, None]).max(-1, initial=0.0)
        seen = np.isfinite(boxes[..., 0])
        frames = np.maximum(seen.sum(0), 1)
        return np.asarray((overlap > self.hand_overlap).sum(0) > 0.5 * frames)


def boxes_of(masks: NDArray[np.bool_]) -> Array:
    """(..., 4) x0, y0, x1, y1 around masks (..., H, W); NaN around empty ones."""
    sides: list[Array] = []
    for axis in (-2, -1):
        line: NDArray[np.bool_] = np.asarray(masks.any(axis))
        first, last = line.argmax(-1), line.shape[-1] - 1 - line[..., ::-1].argmax(-1)
        sides += [np.where(line.any(-1), side, np.nan) for side in (first, last)]
    return np.stack([sides[k] for k in (0, 2, 1, 3)], -1)


def _agreed(shift: Array) -> Array:
    """What two sides (..., 2) shift by both; 0 where they shift apart or one stays."""
    low, high = shift[..., 0], shift[..., 1]
    common = np.minimum(abs(low), abs(high))
    return np.asarray(np.where(low * high < 0, 0.0, common))


def _carried(boxes: Array, background: Array, lag: int) -> Array:
    """(T - lag, K, 4) where boxes would be `lag` frames on if they were part of the background;
    NaN where too little of that is seen."""
    carried = np.full_like(boxes, np.nan)
    for t, (here, there) in enumerate(zip(background[:-lag], background[lag:], strict=True)):
        seen = np.isfinite(here).all(-1) & np.isfinite(there).all(-1)
        if seen.sum() < LEAST_TRACKS:
            continue
        for k in np.flatnonzero(np.isfinite(boxes[t, :, 0])):
            corners = boxes[t, k].reshape(2, 2)
            carried[t, k] = _moved(corners, here[seen], there[seen]).ravel()
    return carried


def _moved(points: Array, here: Array, there: Array) -> Array:
    """Points (n, 2) moved as the tracks (m, 2) around them: a similarity fitted to those, the
    nearer the more (moving least squares, Schaefer et al. 2006), outliers left out."""
    middle, size = points.mean(0), np.ptp(points, axis=0).max() + 1
    near = 1 / (1 + (np.linalg.norm(here - middle, axis=-1) / (2 * size)) ** 2)
    weight = near
    start, flow = here[:, 0] + 1j * here[:, 1], there[:, 0] + 1j * there[:, 1]
    for _ in range(4):
        total = weight.sum()
        a, b = (weight @ start) / total, (weight @ flow) / total
        spread = weight @ abs(start - a) ** 2
        turn = (weight @ ((flow - b) * (start - a).conj())) / spread if spread > 0 else 1.0
        miss = abs(flow - b - turn * (start - a))
        scale = max(1.0, 1.5 * float(np.median(miss)))
        weight = near / (1 + (miss / scale) ** 2) ** 2
    moved = b + turn * (points[:, 0] + 1j * points[:, 1] - a)
    return np.stack((moved.real, moved.imag), -1)


def _overlap(a: Array, b: Array) -> Array:
    """Intersection over union of boxes (..., 4); 0 where one is NaN."""
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.prod(np.maximum(side, 0), -1)
    area = sum(np.prod(one[..., 2:] - one[..., :2], -1) for one in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(both / (area - both))
