"""A pipeline that notes what it is asked for, and in which order."""

from __future__ import annotations

from typing import ClassVar

from ego_ops.clip import Clip
from ego_ops.errors import Rejection


class Noted:
    calls: ClassVar[list[str]] = []

    def prefetch(self, clip: Clip) -> None:
        self.calls.append(f"ahead {clip.clip_id}")

    def perceive(self, clip: Clip) -> None:
        self.calls.append(clip.clip_id)
        raise Rejection("noted", "and that is all")
