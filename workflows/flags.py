"""Whether what was given as flags makes sense."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from ego_ops.errors import UserError
from ego_ops.storage_errors import unreadable


def at_least(config: object, least: Mapping[str, int]) -> None:
    """See that fields of a command's config, where they are given, are not below these.

    Raises:
        UserError: one is.
    """
    for name, value in least.items():
        given = getattr(config, name)
        if given is not None and given < value:
            raise UserError(f"--{name.replace('_', '-')} {given}: must be at least {value}")


def token(path: str | None) -> str | None:
    """What a file of --token-file has.

    Raises:
        UserError: it cannot be read, or is none.
    """
    if path is None:
        return None
    text = _text(path).strip()
    if not text.isascii() or not text.isprintable() or not text or " " in text:
        raise UserError(f"--token-file {path}: must have one token, ASCII without spaces")
    return text


def certificates(path: str | None) -> str | None:
    """What a file of --ca has, PEM.

    Raises:
        UserError: it cannot be read, or has none.
    """
    if path is None:
        return None
    text = _text(path).encode("ascii", "ignore").decode()  # comments may have other letters
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise UserError(f"--ca {path}: there are no certificates in it (PEM)") from error
    return text


def _text(path: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8")
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
