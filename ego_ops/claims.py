"""Who was in the middle of which clip when it died.

    claims/bucket=00042/<first>-<last>-<random>   content: "<half> <clip_id>"

A worker keeps one such file while it works on an interval of clips, and writes into it each half
of each clip that it enters. A file that outlives its worker names the clip that the worker died
in, be it the clip's fault or not; whoever comes to that clip next runs it in quarantine. A file
of a worker that still lives reads the same, but then its clip is being done twice anyway.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection
from types import TracebackType

from ego_ops.bucket import overlaps
from ego_ops.storage import Store

MAX_DEATHS = 5
"""Processes lost in one clip, quarantine notwithstanding, before it is given up."""


class Claims:
    """The claims on the clips of one bucket from `first` to `last`; a context manager."""

    def __init__(self, where: Store, bucket: int, first: str, last: str):
        self._where = where
        folder = f"claims/bucket={bucket:05d}"
        names = [n for n in where.names(folder) if overlaps(n, first, last)]
        self._left_behind = {f"{folder}/{n}": _content(where, f"{folder}/{n}") for n in names}
        self._deaths = Counter(self._left_behind.values())
        self._path = f"{folder}/{first}-{last}-{uuid.uuid4().hex[:8]}"
        self._made = False

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Also on an exception: this process lives, so no clip has killed it.
        if self._made:
            self._where.delete(self._path)

    def deaths(self, half: str, clip_id: str) -> int:
        """How many processes were lost in this half of this clip."""
        return self._deaths[f"{half} {clip_id}"]

    def enter(self, half: str, clip_id: str) -> None:
        """Record that this process now begins on a half of a clip."""
        self._made = True
        self._where.mark(self._path, f"{half} {clip_id}".encode())

    def forget(self, clip_ids: Collection[str]) -> None:
        """Remove what dead workers left behind about clips that are now committed."""
        for path, content in self._left_behind.items():
            if content.partition(" ")[2] in clip_ids:
                self._where.delete(path)


def _content(where: Store, path: str) -> str:
    try:
        return where.read(path).decode()
    except FileNotFoundError:  # its worker came to the end meanwhile
        return ""
