"""One clip of a corpus: the row of a manifest."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Box:
    """An annotated box of the manipulated object, in pixels of the video as it is stored."""

    t: float
    """Seconds from the start of the video."""
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Clip:
    """An interval of one video in which the wearer manipulates one thing.

    Paths are relative to `root`, so that a corpus can move without changing a clip's identity.
    """

    clip_id: str
    """16 hexadecimal digits, the same for ever: see `clip_id`."""
    corpus: str
    corpus_version: str
    video_uid: str
    root: str
    """Folder (or fsspec URL) that the corpus lies in."""
    video_path: str
    """Video file, relative to `root`."""
    annotation_path: str
    """File with camera poses and the like, relative to `root`; empty where there is none."""
    t_start: float
    """Seconds from the start of the video."""
    t_end: float
    narration: str
    """What is done, in a sentence."""
    verb: str = ""
    object: str = ""
    """The manipulated thing, in the annotation's words; empty where it does not say."""
    boxes: tuple[Box, ...] = field(default=())
    interval: str = "annotated"
    """Where `t_start` and `t_end` come from: `annotated` by the corpus, `narrated`: built around
    the instant of a narration, or `whole`: the recording is the clip."""
    details: str = ""
    """What else the corpus's reader must know to find what was recorded, in a form of its own."""

    @property
    def video(self) -> str:
        return os.path.join(self.root, self.video_path)

    @property
    def annotation(self) -> str:
        return os.path.join(self.root, self.annotation_path)


def clip_id(
    corpus: str,
    corpus_version: str,
    video_uid: str,
    t_start: float,
    t_end: float,
    annotation_uid: str,
) -> str:
    """Digest that names a clip for ever (blake2b, 16 hexadecimal digits).

    Times enter in whole milliseconds, so that float noise of an annotation file cannot change
    an id.
    """
    key = "|".join(
        (
            corpus,
            corpus_version,
            video_uid,
            str(round(t_start * 1000)),
            str(round(t_end * 1000)),
            annotation_uid,
        )
    )
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
