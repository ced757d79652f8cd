"""Who was in the middle of which clip when it died.

    claims/bucket=00042/<first>-<last>-<random>   content: "<half> <clip_id>"

A worker keeps one such file while it works on an interval of clips, and writes into it each half
of each clip that it enters. A file that outlives its worker names the clip that the worker died
in, be it the clip's fault or not; whoever comes to that clip next runs it in quarantine. A file
of a worker that still lives reads the same, but then its clip is being done twice anyway.

On an object store each of these writes would cost more than a quick clip. There, the file is
written for a worker's first clip, and then for each that has taken a second; it may then name
the wrong clip. So where any file was left behind, the next worker writes it for every clip: a clip
that kills at once costs two workers and not one.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from types import TracebackType

from ego_ops.bucket import overlaps
from ego_ops.errors import UserError
from ego_ops.storage import Store

_PATIENCE_S = 1.0
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
        self._later = None if where.local or names else _Later(self._write)

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Also on an exception: this process lives, so no clip has killed it.
        if self._later:
            self._later.close()
        if self._made:
            self._where.delete(self._path)

    def deaths(self, half: str, clip_id: str) -> int:
        """How many processes were lost in this half of this clip."""
        return self._deaths[f"{half} {clip_id}"]

    def enter(self, half: str, clip_id: str) -> None:
        """Record that this process now begins on a half of a clip."""
        claim = f"{half} {clip_id}"
        if self._later and self._made:
            self._later.set(claim)
        else:
            self._made = True
            self._write(claim)

    def forget(self, clip_ids: Collection[str]) -> None:
        """Remove what dead workers left behind about clips that are now committed."""
        for path, content in self._left_behind.items():
            if content.partition(" ")[2] in clip_ids:
                self._where.delete(path)

    def _write(self, claim: str) -> None:
        self._where.mark(self._path, claim.encode())


class _Later:
    """Writes, in a thread of its own, each claim that still holds after a second."""

    def __init__(self, write: Callable[[str], None]):
        self._write = write
        self._claim: tuple[str, float] | None = None
        self._error: UserError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def set(self, claim: str) -> None:
        """Raises UserError where the storage refused an earlier one."""
        if self._error:
            raise self._error
        self._claim = claim, time.monotonic()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        written = None
        while not self._ended.wait(_PATIENCE_S / 4):
            now = self._claim
            if now and now != written and time.monotonic() - now[1] > _PATIENCE_S:
                try:
                    self._write(now[0])
                except UserError as error:
                    self._error = error
                    return
                written = now


def _content(where: Store, path: str) -> str:
    try:
        return where.read(path).decode()
    except FileNotFoundError:  # its worker came to the end meanwhile
        return ""
