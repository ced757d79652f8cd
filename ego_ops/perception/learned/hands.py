"""Hands in the picture, by MediaPipe's landmarks (Zhang et al. 2020, arXiv 2006.10214).

Optional: `pip install --no-deps mediapipe==0.10.21 flatbuffers absl-py`. The models are in that
wheel (in 1.x they are not); it runs beside numpy 2 and protobuf 6, which its own requirements rule
out, hence `--no-deps`.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError

Array = NDArray[np.float64]

INSTALL = "pip install --no-deps mediapipe==0.10.21 flatbuffers absl-py"
JOINTS = 21
TIPS = (4, 8, 12, 16, 20)
"""Landmarks that are fingertips, the thumb's first."""
HANDS = 2
SAME = 0.5
"""Two hands whose middles are nearer than this share of their size are one, found twice."""
_NOISE = re.compile(
    r"^(?:[IWE]\d{4} |INFO: Created TensorFlow|WARNING: All log messages before|"
    r"AttributeError: 'MessageFactory' object)"
)


@dataclass(frozen=True)
class SeenHands:
    """Up to two hands in T frames. A hand keeps its place among the two while it is followed;
    which is the left and which the right hand is not known for sure."""

    landmarks: Array
    """(T, 2, 21, 2) pixels; NaN where no hand is seen."""
    scores: Array
    """(T, 2) from 0 to 1; 0 where no hand is seen."""

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(T, 2)."""
        return np.isfinite(self.landmarks[:, :, 0, 0])

    @property
    def tips(self) -> Array:
        """(T, 2, 5, 2) fingertips, the thumb's first."""
        return self.landmarks[:, :, list(TIPS)]

    def boxes(self, margin: float = 0.1) -> Array:
        """(T, 2, 4) x0, y0, x1, y1 around the landmarks, grown by `margin` of their extent on each
        side, since they lie within the hand; NaN where no hand is seen."""
        low, high = self.landmarks.min(2), self.landmarks.max(2)
        grow = margin * (high - low)
        return np.concatenate([low - grow, high + grow], -1)


@dataclass(frozen=True)
class MediaPipeHands:
    """Finds hands and follows them from frame to frame, on the CPU."""

    detection: float = 0.5
    """Least score of a palm for its hand to be followed."""
    tracking: float = 0.5
    """Least score of a hand for it to be followed further."""

    def find(self, images: NDArray[np.uint8]) -> SeenHands:
        """Hands in consecutive frames (T, H, W, 3) RGB of one clip.

        Raises:
            UserError: MediaPipe is not installed, or has no hand landmarks.
        """
        graph = _graph(self.detection, self.tracking)
        size = np.array(images.shape[2:0:-1])
        seats = _Seats(size)
        landmarks = np.full((len(images), HANDS, JOINTS, 2), np.nan)
        scores = np.zeros((len(images), HANDS))
        for t, image in enumerate(images):
            if t == 0:
                with _hushed():  # a graph that starts anew says so
                    graph.reset()
                    found = graph.process(np.ascontiguousarray(image))
            else:
                found = graph.process(np.ascontiguousarray(image))
            hands, certain = _distinct(*_read(found, size))
            places = seats.taken(hands.mean(1))
            landmarks[t, places], scores[t, places] = hands, certain
        return SeenHands(landmarks, scores)


class _Seats:
    """Who of two hands is who, by where each was last."""

    def __init__(self, size: NDArray):
        # Until a hand is seen, the first place is for one that comes from the left.
        self._last = size * np.array([[0.25, 0.8], [0.75, 0.8]])

    def taken(self, middles: Array) -> list[int]:
        """Places of (n, 2) hands, n up to 2."""
        far = np.linalg.norm(middles[:, None] - self._last, axis=-1)
        orders = [list(order) for order in itertools.permutations(range(HANDS), len(middles))]
        best = min(orders, key=lambda order: far[range(len(order)), order].sum())
        self._last[best] = middles
        return best


def _read(found: Any, size: NDArray) -> tuple[Array, Array]:
    """(n, 21, 2) pixels and (n,) scores of what the graph gave for a picture of (W, H)."""
    marks = [
        [(point.x, point.y) for point in hand.landmark] for hand in found.multi_hand_landmarks or []
    ]
    certain = [hand.classification[0].score for hand in found.multi_handedness or []]
    # Its coordinates run from border to border; ours count from the first pixel's centre.
    return np.array(marks).reshape(-1, JOINTS, 2) * size - 0.5, np.array(certain, float)


def _distinct(hands: Array, certain: Array) -> tuple[Array, Array]:
    """The same without a hand that was found twice."""
    if len(hands) < HANDS:
        return hands, certain
    middles, extent = hands.mean(1), np.ptp(hands, axis=1).max()
    if np.linalg.norm(middles[0] - middles[1]) > SAME * extent:
        return hands, certain
    best = [int(certain.argmax())]
    return hands[best], certain[best]


@functools.lru_cache(maxsize=2)
def _graph(detection: float, tracking: float) -> Any:
    """MediaPipe's graph of hands, one a process."""
    with _hushed():
        try:
            return importlib.import_module("mediapipe.python.solutions.hands").Hands(
                static_image_mode=False,
                max_num_hands=HANDS,
                model_complexity=1,
                min_detection_confidence=detection,
                min_tracking_confidence=tracking,
            )
        except (ImportError, OSError, RuntimeError) as error:
            cause = " ".join(str(error).split())[:300]
            raise UserError(f"hands need MediaPipe 0.10.21 ({cause}): {INSTALL}") from error


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep from standard error what MediaPipe's libraries write there on every start.

    They write to the file descriptor itself. Whatever else is written comes out afterwards.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            aside.seek(0)
            for line in aside:
                if not _NOISE.match(line):
                    os.write(2, line.encode())
