"""What a storage refuses, said in one line."""

from __future__ import annotations

import sys

from ego_ops.errors import UserError

_FOREIGN = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
)
"""Errors of the libraries behind fsspec that are no `OSError`s."""


def failures() -> tuple[type[Exception], ...]:
    """Every class of error that a storage raises, for an `except` clause."""
    foreign = (
        getattr(sys.modules[module], name, None)
        for module, name in _FOREIGN
        if module in sys.modules
    )
    return (OSError, *(kind for kind in foreign if kind is not None))


def unreadable(path: str, error: Exception) -> UserError:
    return UserError(f"cannot read {path}: {_reason(error)}")


def unwritable(path: str, error: Exception) -> UserError:
    return UserError(
        f"cannot write {path}: {_reason(error)}; nothing committed is lost: "
        "mend that and run the same command again"
    )


def _reason(error: Exception) -> str:
    # An error's own message tells more than errno's where a library translated it from HTTP.
    text = str(error.__cause__ or "") or getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
