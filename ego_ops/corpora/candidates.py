"""Which narrations are of the wearer's own handling of a thing, and when it happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ego_ops.corpora.skipped import Skipped


@dataclass(frozen=True)
class Narration:
    """One sentence of an annotator about one moment, or one interval, of a video."""

    uid: str
    text: str
    t: float
    """The moment, seconds from the start of the video."""
    span: tuple[float, float] | None = None
    """The interval (start, end) in seconds where the corpus gives one."""
    drop: str = ""
    """Why the corpus itself rules it out (`unsure`, `not_visible`, `other_person`, …), or empty."""


@dataclass(frozen=True)
class Candidate:
    """A narration that may become a clip."""

    uid: str
    t_start: float
    t_end: float
    narration: str
    verb: str
    object: str
    interval: str
    """`annotated` or `narrated`: see `Clip.interval`."""


def candidates(
    narrations: Sequence[Narration], duration: float, where: str
) -> Iterator[Candidate | Skipped]:
    """The clips that the narrations of one video give, in the order of time.

    Args:
        duration: of the video, seconds; intervals end there.
        where: names the video in what is left out.
    """
