"""Weights and tokenisers from the Hugging Face hub, by the name of a repository."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ego_ops.errors import UserError

Found = TypeVar("Found")

_PATIENCE_S = 20.0
"""How long the hub may take to say that it has a repository."""


def is_name(place: str) -> bool:
    """Whether a text may be the name of a repository, `owner/name`."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", place)) and not place.startswith(".")


def fetched(
    name: str, patterns: Sequence[str], pick: Callable[[Path], Found | None], what: str
) -> Found:
    """What `pick` finds in a repository's files: those in the hub's cache, else fetched ones.

    Args:
        patterns: of the files to fetch.
        pick: what is wanted of a folder; None where the folder does not have it.
        what: it is, for the error.

    Raises:
        UserError: the hub cannot be reached or refuses, or the repository does not have it.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise UserError(
            f"{name}: no such file or folder; to fetch it from the hub: pip install huggingface-hub"
        ) from error
    # Most errors of the hub's HTTP client are no OSError.
    http = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    failures = (OSError, ValueError, http)
    wanted = list(patterns)
    try:
        cached = hub.snapshot_download(name, allow_patterns=wanted, local_files_only=True)
        found = pick(Path(cached))
    except (*failures, UserError):
        found = None
    if found is not None:
        return found
    try:
        # A hub behind a wall that answers nothing: the download itself would wait for ever.
        hub.HfApi().model_info(name, timeout=_PATIENCE_S)
        folder = Path(hub.snapshot_download(name, allow_patterns=wanted))
    except failures as error:
        cause = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{name}: no such file or folder, and it cannot be fetched from the hub "
            f"({type(error).__name__}: {cause}): accept its terms and log in if it asks for that "
            f"(hf auth login), or copy {what} to this machine and name that"
        ) from error
    found = pick(folder)
    if found is None:
        raise UserError(f"{name}: that repository of the hub has no {' or '.join(patterns)}")
    return found
