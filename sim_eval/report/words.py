"""Numbers as they are printed."""

from __future__ import annotations

import math

from sim_eval.statistics import Estimate


def percent(rate: float) -> str:
    """84.0 %; a dash for what is not a number."""
    return "-" if math.isnan(rate) else f"{100 * rate:.1f} %"


def interval(found: Estimate) -> str:
    """80.1 to 87.4 %, the ends of an interval of rates; a dash where there is nothing in it."""
    if math.isnan(found.value):
        return "-"
    return f"{100 * found.low:.1f} to {100 * found.high:.1f} %"


def p_value(p: float) -> str:
    """0.034, or < 0.001."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def points(found: Estimate) -> str:
    """+5.2 (1.1 to 9.4): a difference in percentage points."""
    value, low, high = (100 * one for one in found)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
