"""Whether numbers that were given as flags make sense."""

from __future__ import annotations

from collections.abc import Mapping

from ego_ops.errors import UserError


def at_least(config: object, least: Mapping[str, int]) -> None:
    """See that fields of a command's config, where they are given, are not below these.

    Raises:
        UserError: one is.
    """
    for name, value in least.items():
        given = getattr(config, name)
        if given is not None and given < value:
            raise UserError(f"--{name.replace('_', '-')} {given}: must be at least {value}")
