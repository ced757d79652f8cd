"""Suites by name. Naming them needs no simulator."""

from __future__ import annotations

from ego_ops.errors import UserError, hint
from sim_eval.suite import Suite


def names() -> list[str]:
    """Names of all suites."""
    return ["tabletop", "tabletop_wrist"]


def get(name: str) -> Suite:
    """The suite of that name.

    Raises:
        UserError: there is none.
    """
    if name not in names():
        raise UserError(f"there is no suite {name}: {hint(name, names())}")
    from sim_eval.suites.tabletop import CAMERAS, Tabletop

    return Tabletop(CAMERAS if name == "tabletop_wrist" else CAMERAS[:1])
