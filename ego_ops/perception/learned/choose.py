"""Which of the boxes that a detector draws is the thing that is moved by hand.

Boxes of the same thing are linked through the frames that were looked at; which of the linked ones
moves with a hand at it is `contact.ContactChoice`'s to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ego_ops.geometry.view import Array, Mask
from ego_ops.perception.learned.contact import ContactChoice
from ego_ops.perception.learned.detect import Found, iou


@dataclass(frozen=True)
class Hands:
    """H hands in T frames."""

    boxes: Array
    """(T, H, 4), NaN where not seen."""
    tips: Array
    """(T, H, F, 2) fingertips, NaN where not seen; F may be 0."""


@dataclass
class Chain:
    """Boxes that show one thing, in increasing frames."""

    boxes: dict[int, Array] = field(default_factory=dict)
    """(4,) by frame."""
    scores: dict[int, float] = field(default_factory=dict)
    """The detector's of each."""

    @property
    def last(self) -> int:
        return max(self.boxes)

    @property
    def total(self) -> float:
        return sum(self.scores.values())

    @property
    def best(self) -> int:
        """The frame in which the detector is surest of it."""
        return max(self.scores, key=lambda t: self.scores[t])

    def add(self, t: int, box: Array, score: float) -> None:
        self.boxes[t], self.scores[t] = box, score

    def drawn(self, steps: int) -> Array:
        """(T, 4) its box in each frame, linear between those that are known; NaN beyond them."""
        known = sorted(self.boxes)
        at = np.arange(steps)
        columns = np.array([self.boxes[t] for t in known]).T
        return np.stack(
            [np.interp(at, known, column, left=np.nan, right=np.nan) for column in columns], -1
        )


@dataclass(frozen=True)
class Chooser:
    """How boxes are linked, and which of them are worth a look."""

    contact: ContactChoice = field(default_factory=ContactChoice)
    largest: float = 0.5
    """Share of the picture that a thing in a hand covers at most."""
    same: float = 0.2
    """Least intersection over union of a thing's boxes in frames looked at one after the other."""
    most: int = 10
    """Candidates, those that the detector is surest of."""

    def manipulated(
        self,
        found: dict[int, list[Found]],
        inside: Mask,
        hands: Hands,
        background: Array,
        size: tuple[int, int],
    ) -> Chain | None:
        """The thing that is moved by hand; None where no box can be one.

        Where no candidate is seen to move at a hand, it is the one that the detector is surest of.

        Args:
            found: the detector's boxes of the noun, by the frame that it looked at.
            inside: (T,) frames of the interval in which it is moved.
            background: (T, M, 2) tracks, NaN where not seen.
            size: (width, height) of the picture.
        """
        area = self.largest * size[0] * size[1]
        kept = {
            t: [(one.box, one.score) for one in boxes if 0 < _area(one.box) < area]
            for t, boxes in found.items()
            if inside[t]
        }
        chains = sorted(linked(kept, self.same), key=lambda chain: -chain.total)[: self.most]
        if not chains:
            return None
        boxes = np.stack([chain.drawn(len(inside)) for chain in chains], 1)[inside]
        choice = self.contact.choose(
            boxes, hands.tips[inside], hands.boxes[inside], background[inside]
        )
        return chains[choice.index if choice.scores[choice.index] > 0 else 0]


def linked(scored: dict[int, list[tuple[Array, float]]], same: float, most: int = 2) -> list[Chain]:
    """Boxes linked through frames: each goes on the chain whose last box it covers best.

    Args:
        scored: boxes with their scores, by frame.
        same: least intersection over union of linked boxes.
        most: frames looked at after which a chain that found no box has ended.
    """
    chains: list[Chain] = []
    order = sorted(scored)
    for place, t in enumerate(order):
        open_since = order[max(0, place - most)]
        free = [chain for chain in chains if open_since <= chain.last < t]
        for box, score in sorted(scored[t], key=lambda one: -one[1]):
            fit = [iou(chain.boxes[chain.last], box) for chain in free]
            if fit and max(fit) >= same:
                free.pop(int(np.argmax(fit))).add(t, box, score)
            else:
                chains.append(Chain({t: box}, {t: score}))
    return chains


def hands_of(found: dict[int, Sequence[Found]], steps: int, most: int = 2) -> Hands:
    """The hands that the detector saw best, each in its own column, fingertips not known.

    Args:
        found: its boxes of hands, the best first, by the frame that it looked at.
    """
    scored = {t: [(one.box, one.score) for one in boxes[:most]] for t, boxes in found.items()}
    drawn = np.full((steps, most, 4), np.nan)
    for chain in sorted(linked(scored, 0.05), key=lambda chain: -chain.total):
        boxes = chain.drawn(steps)
        known = np.isfinite(boxes[:, 0])
        for k in range(most):  # a hand that comes back takes the place that it left
            if not np.isfinite(drawn[known, k, 0]).any():
                drawn[known, k] = boxes[known]
                break
    return Hands(drawn, np.zeros((steps, most, 0, 2)))


def _area(box: Array) -> float:
    return float(np.prod(box[2:] - box[:2]))
