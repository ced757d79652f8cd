"""Videos of a report: which of them, and a still of each."""

from __future__ import annotations

import base64
import io
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

import av
import cv2
import numpy as np

from ego_ops.errors import UserError
from ego_ops.storage import Store
from sim_eval.episode import FAILURE, INVALID_ACTION, SUCCESS
from sim_eval.report.tally import Clip, Entry
from sim_eval.suite import Image

_MOST = 6
"""Clips of a policy in a suite."""
_WIDTH = 320
"""Pixels of a still at most."""


class Shown(NamedTuple):
    """A video on the page."""

    clip: Clip
    address: str | None
    """Relative to the page; None if the page cannot reach it."""
    still: str
    """Data URL of its last picture; "" where the video cannot be read."""


def shown(where: Store, to_videos: str | None, entry: Entry) -> list[Shown]:
    """Some videos of a policy in a suite, with a still.

    Args:
        to_videos: what goes before a video's path, see `Shown.address`.
    """
    return [
        Shown(
            clip,
            None if to_videos is None else to_videos + quote(clip.path),
            still(where, clip.path),
        )
        for clip in choose(entry.clips)
    ]


def choose(clips: Sequence[Clip]) -> list[Clip]:
    """At most six, half of them successes where there are as many; of different tasks if possible.
    Successes come first."""
    groups = [
        _spread([clip for clip in clips if clip.outcome in outcomes])
        for outcomes in ((SUCCESS,), (FAILURE, INVALID_ACTION))
    ]
    good = groups[0][: max(_MOST // 2, _MOST - len(groups[1]))]
    return good + groups[1][: _MOST - len(good)]


def still(where: Store, path: str) -> str:
    """The last picture of a video as a JPEG's data URL; "" where it cannot be read."""
    try:
        with av.open(io.BytesIO(where.read(path))) as video:
            last = deque(video.decode(video=0), maxlen=1)
            return _jpeg(last[0].to_ndarray(format="rgb24")) if last else ""
    except (FileNotFoundError, UserError, av.FFmpegError, IndexError):
        return ""


def _spread(clips: Sequence[Clip]) -> list[Clip]:
    """The first of each task, then the second of each."""
    seen: dict[str, int] = {}
    turns = []
    for place, clip in enumerate(clips):
        seen[clip.task] = seen.get(clip.task, 0) + 1
        turns.append((seen[clip.task], place))
    return [clips[place] for _, place in sorted(turns)]


def _jpeg(image: Image) -> str:
    scale = min(1.0, _WIDTH / image.shape[1])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), [1, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
