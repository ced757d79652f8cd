"""Suites by name. Naming them needs no simulator."""

from __future__ import annotations

from ego_ops.errors import UserError, hint
from sim_eval.suite import Suite

LIBERO = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")


def names() -> list[str]:
    """Names of all suites."""
    return ["tabletop", "tabletop_wrist", "tabletop_plain", *LIBERO]


def get(name: str) -> Suite:
    """The suite of that name.

    Raises:
        UserError: there is none, or it is not installed.
    """
    if name not in names():
        raise UserError(f"there is no suite {name}: {hint(name, names())}")
    if name in LIBERO:
        from sim_eval.suites.libero import Libero

        return Libero(name)
    from sim_eval.suites.tabletop import CAMERAS, Tabletop

    cameras = CAMERAS if name == "tabletop_wrist" else CAMERAS[:1]
    return Tabletop(cameras, plain=name == "tabletop_plain")
