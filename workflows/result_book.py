"""Where the results of a running evaluation go: kept for seconds, then committed together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

from ego_ops.storage import store
from sim_eval import results
from sim_eval.episode import JUDGED, Episode, Result

_EVERY_S = 2.0


class Book:
    """The results in a folder: a context manager that commits, also where an error ends it.

    Args:
        out: the folder, or an fsspec URL.
        videos: wanted for each policy, suite, task and outcome.
    """

    def __init__(self, out: str, videos: int):
        self._out, self._store, self._videos = out, store(out), videos
        self._kept: list[Result] = []
        self._committed = time.monotonic()

    def __enter__(self) -> Book:
        self._judged = results.finished(self._out)
        self._films = results.filmed(self._out)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.commit()

    def left(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Those without a result that says something of the policy."""
        return [one for one in episodes if one.id not in self._judged]

    def wants_film(self, result: Result) -> bool:
        """Whether an episode that ended so is to be filmed; if it is, it counts as filmed."""
        kind = _kind(result)
        if result.outcome not in JUDGED or self._films[kind] >= self._videos:
            return False
        self._films[kind] += 1
        return True

    def add(self, result: Result, film: bytes) -> None:
        """Keep a result, and its film (MP4, or nothing)."""
        if film:
            result = replace(result, video=results.video_path(result))
            self._store.write(result.video, film)
        self._kept.append(result)

    def commit_sometimes(self) -> None:
        """Commit, if the last time is seconds ago."""
        if time.monotonic() - self._committed > _EVERY_S:
            self.commit()

    def commit(self) -> None:
        """What is kept survives from here on."""
        if self._kept:
            results.commit(self._out, self._kept)
        self._kept, self._committed = [], time.monotonic()


def _kind(result: Result) -> tuple[str, ...]:
    return tuple(getattr(result, name) for name in results.KIND)
