"""What is looked at around an annotated interval: before the touch, a thing still lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from ego_ops.clip import Clip
from ego_ops.errors import AnnotationError

T = TypeVar("T")


def widened(clip: Clip, lead: float, tail: float, fps: float) -> Clip:
    """The clip with what surrounds it, as far as its interval is a tight one; else itself.

    Args:
        lead, tail: seconds before and after. The lead is shortened to whole steps.
        fps: steps a second.
    """
    if clip.interval != "annotated":
        return clip
    lead = math.floor(min(lead, clip.t_start) * fps) / fps  # keeps the steps
    return replace(clip, t_start=clip.t_start - lead, t_end=clip.t_end + tail)


def with_surroundings(clip: Clip, wide: Clip, look: Callable[[Clip], T]) -> T:
    """What `look` sees in `wide`; in `clip` alone, where nothing was recorded of the rest.

    Raises:
        ClipError: of `look`.
    """
    try:
        return look(wide)
    except AnnotationError:
        if wide == clip:
            raise
        return look(clip)
