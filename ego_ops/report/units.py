"""Numbers for people: a score's unit follows from the end of its name."""

from __future__ import annotations

import math

_UNITS = {
    "_rad_s": ("°/s", math.degrees(1)),
    "_m_s3": ("m/s³", 1.0),
    "_m_s": ("m/s", 1.0),
    "_m": ("m", 1.0),
    "_rad": ("°", math.degrees(1)),
    "_px": ("px", 1.0),
    "_s": ("s", 1.0),
    "_share": ("%", 100.0),
}


def unit(name: str) -> tuple[str, float]:
    """The unit in which people read a score, and the factor to it; ("", 1) where it has none."""
    return next((_UNITS[end] for end in _UNITS if name.endswith(end)), ("", 1.0))


def title(name: str) -> str:
    """A score's name without its unit and underscores."""
    suffix = next((end for end in _UNITS if name.endswith(end) and end != "_share"), "")
    return name.removesuffix(suffix).replace("_", " ")


def pretty(name: str, value: float | None) -> str:
    """A number with a unit for people: millimetres below 10 cm, degrees, per cent."""
    if value is None:
        return "-"
    what, factor = unit(name)
    if not what:
        return f"{value:.0f}" if value == round(value) else digits(value)
    if name.endswith("_m") and abs(value) < 0.1:
        what, factor = "mm", 1000.0
    space = "" if what.startswith("°") else "\u202f"
    return f"{digits(value * factor)}{space}{what}"


def digits(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(decimals, 0), 3)}f}"
