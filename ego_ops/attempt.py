"""One attempt at one half of one clip: whatever the clip does, it ends as a value or a verdict.

An exception becomes a `Verdict` here, and only here. What Python cannot catch (a segmentation
fault, a hang, memory run out) ends the process: see `ego_ops.quarantine`.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import math
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from ego_ops import pipeline
from ego_ops.clip import Clip
from ego_ops.errors import UserError
from ego_ops.job import Job
from ego_ops.verdict import verdict

Half = Literal["perceive", "solve"]


def here(job: Job, half: Half, clip: Clip, *given: bytes) -> Any:
    """Run one half of the pipeline in this process, which a hang ends after the clip's timeout.

    To be called within `watched`.

    Args:
        given: for `solve`, what `perceive` returned.

    Returns:
        `perceive`: bytes, the pickled result; `solve`: what the pipeline gave, unchecked;
        a `Verdict` where there is none.

    Raises:
        UserError: not the clip's fault: the pipeline cannot be loaded.
    """
    pipe = _loaded(job.perception, job.options)
    _WATCHDOG.feed(job.clip_timeout_s)
    try:
        if half == "perceive":
            return pickle.dumps(pipe.perceive(clip), protocol=pickle.HIGHEST_PROTOCOL)
        return pipe.solve(clip, pickle.loads(*given))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place where a clip's error becomes its row
        return verdict(error)


def ahead(job: Job, clip: Clip) -> None:
    """Let a pipeline that can do so begin on the clip that it is asked for after the next one.

    Raises:
        UserError: the pipeline cannot be loaded.
    """
    prefetch = getattr(_loaded(job.perception, job.options), "prefetch", None)
    if prefetch is not None:
        prefetch(clip)


@contextmanager
def watched() -> Iterator[None]:
    """A stretch of attempts, after which the watchdog sleeps."""
    try:
        yield
    finally:
        rest()


def rest() -> None:
    """Let the watchdog sleep until the next attempt."""
    _WATCHDOG.rest()


@functools.cache
def _loaded(name: str, options: str) -> pipeline.Pipeline:
    return pipeline.load(name, json.loads(options))


class _Watchdog:
    """Ends the process, with a trace, where nobody feeds it for as long as it was told.

    faulthandler's thread is not Python's: it fires even where an extension holds the GIL. To
    start and stop it costs more than a quick clip, so it is set a little later than asked, and
    left as it is until that little has passed: a clip gets its time, and at most a twentieth
    (and one second) more.
    """

    def __init__(self) -> None:
        self._until = -math.inf
        """Until when what it was told last is late enough for a clip that begins then."""

    def feed(self, seconds: float) -> None:
        now = time.monotonic()
        if now > self._until:
            slack = min(1.0, seconds / 20)
            faulthandler.dump_traceback_later(seconds + slack, exit=True, file=2)
            self._until = now + slack

    def rest(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._until = -math.inf


_WATCHDOG = _Watchdog()
