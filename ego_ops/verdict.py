"""How a clip ends that gives no trajectory, and how often it is tried."""

from __future__ import annotations

import errno
import os
import traceback
from dataclasses import dataclass

from ego_ops.errors import ClipError, Rejection

MAX_ATTEMPTS = 3
"""For what may pass by itself: storage that timed out, memory that was short."""
UNEXPECTED_ATTEMPTS = 2
"""For an error that no one foresaw: once more, in case it passes."""

_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,
    errno.EMFILE,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENFILE,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_DETAIL_LENGTH = 500


@dataclass(frozen=True)
class Verdict:
    """Why one clip has no trajectory."""

    status: str
    """`rejected` or `failed`."""
    label: str
    """The reason of a rejection, or the error class of a failure."""
    detail: str
    """One line for a person."""
    attempts: int = 1
    """How many attempts such a clip gets in all, this one counted."""


def failed(error_class: str, detail: str, attempts: int = 1) -> Verdict:
    return Verdict("failed", error_class, _line(detail), attempts)


def verdict(error: Exception) -> Verdict:
    """Classify what a pipeline raised on a clip."""
    if isinstance(error, Rejection):
        return Verdict("rejected", error.reason, _line(error.detail))
    if isinstance(error, ClipError):
        return failed(error.error_class, str(error), MAX_ATTEMPTS if error.transient else 1)
    detail = f"{type(error).__name__}: {error} ({_innermost(error)})"
    if isinstance(error, MemoryError):
        return failed("out_of_memory", detail, MAX_ATTEMPTS)
    if type(error).__name__ == "OutOfMemoryError":  # torch's, not imported here for its name
        return failed("cuda_oom", detail, MAX_ATTEMPTS)
    if isinstance(error, OSError) and (
        isinstance(error, TimeoutError | ConnectionError) or error.errno in _PASSING
    ):
        return failed("io_timeout", detail, MAX_ATTEMPTS)
    return failed("unexpected", detail, UNEXPECTED_ATTEMPTS)


def _innermost(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"


def _line(text: str) -> str:
    return " ".join(text.split())[:_DETAIL_LENGTH]
