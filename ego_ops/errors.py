"""What can go wrong with one clip, and with a command.

A clip never disappears: an error below becomes the clip's row, `rejected` with a reason (the
method worked and says that this clip has no usable trajectory) or `failed` with an error class
(something is broken). A `UserError` ends a command with one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A command cannot go on; its message says what, where and what to do."""


def hint(name: str, known: Iterable[str]) -> str:
    """What to write in place of a name that is none of the known ones: "did you mean a?"."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"


class ClipError(Exception):
    """Base of everything that ends one clip. `error_class` is what the shard row records."""

    error_class = "unexpected"
    transient = False
    """Whether another attempt may succeed (at most `verdict.MAX_ATTEMPTS` are made)."""


class DecodeError(ClipError):
    """The video cannot give the frames asked for (truncated, wrong codec, empty window)."""

    error_class = "decode_corrupt"


class MissingFileError(ClipError):
    """A file the clip points at does not exist or cannot be opened."""

    error_class = "missing_file"


class AnnotationError(ClipError):
    """The clip's own annotation is unusable (NaN poses, missing fields, negative interval)."""

    error_class = "bad_annotation"


class StorageError(ClipError):
    """Reading timed out or the storage answered with a passing error."""

    error_class = "io_timeout"
    transient = True


class EndpointError(ClipError):
    """A network service was busy, broken or silent for longer than its client retries."""

    error_class = "endpoint"
    transient = True


class Rejection(ClipError):
    """The method ran and found that the clip has no trajectory worth keeping.

    Args:
        reason: a short snake_case class, counted by `status` (for example `no_object`).
        detail: one sentence with the numbers behind the verdict.
    """

    error_class = ""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Rejection], tuple[str, str]]:
        return type(self), (self.reason, self.detail)
