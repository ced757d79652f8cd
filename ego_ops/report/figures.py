"""Plots of one trajectory as SVG that takes its text colour from the page around it."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ego_ops.pipeline import Extraction
from ego_ops.report import svg
from ego_ops.report.measure import Comparison

Floats = NDArray[np.float64]

XYZ = ("#e0453a", "#2e9e4f", "#3b7de0")
"""As the axes in the pictures."""
ACCENT = "#e69500"
_STYLE: Any = svg.STYLE | {
    "axes.titlesize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
}


def plots(found: Extraction, compared: Comparison | None = None) -> str:
    """Position and rotation over time, errors where there is truth, and the paths from above.

    Returns:
        An `<svg>` element.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(13.2, 3.1), layout=ConstrainedLayoutEngine(w_pad=0.12))
        widths = [1, 1, 1, 0.75] if compared else [1, 1, 0.75]
        grid = figure.add_gridspec(2, len(widths), width_ratios=widths)
        _position(figure.add_subplot(grid[:, 0]), found, compared)
        _rotation(figure.add_subplot(grid[:, 1]), found, compared)
        if compared:
            upper, lower = (figure.add_subplot(grid[i, 2]) for i in (0, 1))
            _error(upper, found, compared, 1000 * compared.position_error, "position error (mm)")
            upper.tick_params(labelbottom=False)
            upper.set_xlabel("")
            _error(
                lower, found, compared, np.degrees(compared.rotation_error), "rotation error (°)"
            )
        _above(figure.add_subplot(grid[:, -1]), found, compared)
        return svg.element(figure)


def _position(axes: Axes, found: Extraction, compared: Comparison | None) -> None:
    axes.set_title("position in the first camera frame (m)")
    names = ("x right", "y down", "z forward")
    for i, (name, colour) in enumerate(zip(names, XYZ, strict=True)):
        axes.plot(found.timestamps, found.position[:, i], color=colour, label=name)
        if compared:
            true = compared.poses.translation[:, i]
            axes.plot(found.timestamps, true, "--", color=colour, lw=1.2, alpha=0.8)
    _over_time(axes, found, compared)
    _legend(axes, compared)


def _rotation(axes: Axes, found: Extraction, compared: Comparison | None) -> None:
    axes.set_title("rotation vector since the first step (°)")
    ours = _turns(Rotation.from_quat(found.rotation))
    for i, (name, colour) in enumerate(zip("xyz", XYZ, strict=True)):
        axes.plot(found.timestamps, ours[:, i], color=colour, label=f"about {name}")
        if compared:
            true = _turns(compared.poses.rotation)[:, i]
            axes.plot(found.timestamps, true, "--", color=colour, lw=1.2, alpha=0.8)
    _over_time(axes, found, compared)
    _legend(axes, compared)


def _error(axes: Axes, found: Extraction, compared: Comparison, error: Floats, title: str) -> None:
    axes.set_title(title)
    axes.plot(found.timestamps, error, color=ACCENT)
    axes.fill_between(found.timestamps, error, color=ACCENT, alpha=0.18, lw=0)
    axes.set_ylim(bottom=0)
    _over_time(axes, found, compared)


def _above(axes: Axes, found: Extraction, compared: Comparison | None) -> None:
    """The plane of the first camera's x and z axes."""
    axes.set_title("x right, z forward (m)")
    axes.plot(*found.position[:, [0, 2]].T, color=ACCENT, label="object")
    axes.plot(*found.position[0, [0, 2]], "o", color=ACCENT, ms=5)
    if compared:
        true = compared.poses.translation
        axes.plot(*true[:, [0, 2]].T, "--", color="#0097b8", lw=1.3, label="truth")
    axes.plot(*found.camera_position[:, [0, 2]].T, color="#8a8f98", lw=1.2, label="camera")
    axes.plot(0, 0, "^", color="#8a8f98", ms=5)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.grid(color="#888888", alpha=0.2, lw=0.6)
    axes.legend(loc="best", handlelength=1.4)


def _over_time(axes: Axes, found: Extraction, compared: Comparison | None) -> None:
    """The time axis, with bands where the object was not observed and lines at the contacts."""
    times = found.timestamps
    half = 0.5 / found.fps
    for first, last in _runs(~found.visible):
        axes.axvspan(times[first] - half, times[last] + half, color="#888888", alpha=0.25, lw=0)
    marks = [found.quality["motion_start_s"]] if "motion_start_s" in found.quality else []
    for mark in marks:
        axes.axvline(mark, color=svg.INK, lw=0.9, alpha=0.6)
    if compared:
        for mark in (compared.truth.contact, compared.truth.release):
            axes.axvline(mark, color=svg.INK, lw=0.9, ls=":", alpha=0.6)
    axes.set_xlim(times[0] - half, times[-1] + half)
    axes.set_xlabel("time in the video (s)")
    axes.grid(axis="y", color="#888888", alpha=0.2, lw=0.6)


def _legend(axes: Axes, compared: Comparison | None) -> None:
    if compared:
        axes.plot([], [], "--", color="#8a8f98", lw=1.2, label="truth")
    axes.legend(loc="best", ncols=2, handlelength=1.4, columnspacing=1.0)


def _turns(rotation: Rotation) -> Floats:
    """(T, 3) rotation vectors since the first step, degrees, without jumps at half a turn."""
    vectors = (rotation * rotation[0].inv()).as_rotvec()
    for t in range(1, len(vectors)):
        angle = np.linalg.norm(vectors[t])
        if angle > 0:
            other = vectors[t] * (1 - 2 * np.pi / angle)
            near = vectors[t - 1]
            if np.linalg.norm(other - near) < np.linalg.norm(vectors[t] - near):
                vectors[t] = other
    return np.degrees(vectors)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    edges = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
    firsts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(a), int(b) - 1) for a, b in zip(firsts, ends, strict=True)]
