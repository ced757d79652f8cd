"""What plots of all pages share: their style, and SVG that takes its text colour from the page."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

INK = "#010203"
"""Stands for the page's text colour."""
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "egoscaler",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
"""For `matplotlib.rc_context`."""


def element(figure: Figure) -> str:
    """A figure as an `<svg>` element."""
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None})
    text = sink.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
