"""FISHEYE624, the camera model of Project Aria (FisheyeRadTanThinPrism) and of Quest 3.

A ray at angle theta from the optical axis is drawn at the distance

    r = theta + k0 theta^3 + k1 theta^5 + ... + k5 theta^13

from the axis; the point (x, y) so found is shifted by a tangential term, 2 (p . (x, y)) (x, y) +
r^2 p, and a thin-prism term, (s0 r^2 + s1 r^4, s2 r^2 + s3 r^4), and scaled to pixels. The model
is that of `FisheyeRadTanThinPrism.h` in Project Aria Tools.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import AnnotationError

Array = NDArray[np.float64]

MAX_SHIFT = 0.2
"""Largest tangential and prism coefficient of a real lens; Aria's and Quest 3's stay below 0.01."""

NODES = 512
"""Angles at which the radial curve is tabulated, to begin Newton's method near its end."""

STEPS = 12
"""Newton steps at most; three or four reach round-off."""

CLOSE = 1e-9
"""A Newton step this small is the last one: the error after it is its square."""


@dataclass(frozen=True)
class Fisheye624:
    """A camera with the model FISHEYE624; pixel centres are at whole numbers."""

    fu: float
    fv: float
    cu: float
    cv: float
    k: tuple[float, ...]
    """Six radial coefficients."""
    p: tuple[float, float]
    """Tangential coefficients."""
    s: tuple[float, ...]
    """Four thin-prism coefficients."""
    width: int
    height: int
    valid_radius: float | None = None
    """Pixels from the principal point beyond which the lens's own rim is seen; None for unknown."""

    @staticmethod
    def from_params(
        params: Sequence[float] | Array,
        width: int,
        height: int,
        valid_radius: float | None = None,
    ) -> Fisheye624:
        """From a calibration file's list of 15 numbers (one focal length) or 16 (two of them).

        Raises:
            AnnotationError: another count, values that are not finite or that no lens has, or a
                picture that does not hold the principal point.
        """
        try:
            values = [float(value) for value in params]
        except (TypeError, ValueError):
            raise AnnotationError(f"FISHEYE624 parameters are no numbers: {params!r}") from None
        if len(values) not in (15, 16):
            raise AnnotationError(f"FISHEYE624 has 15 or 16 parameters, here are {len(values)}")
        if not all(map(math.isfinite, values)):
            raise AnnotationError("a FISHEYE624 parameter is not finite")
        fu, fv, cu, cv, *rest = values if len(values) == 16 else [values[0], *values]
        if width < 1 or height < 1 or not (0 <= cu < width and 0 <= cv < height):
            raise AnnotationError(
                f"FISHEYE624 principal point {cu:g}, {cv:g} lies outside a picture of "
                f"{width} x {height}"
            )
        if not all(0.05 < f / max(width, height) < 20 for f in (fu, fv)):
            raise AnnotationError(
                f"FISHEYE624 focal length {fu:g}, {fv:g} cannot be, for {width} x {height} pixels"
            )
        if max(map(abs, rest[6:])) > MAX_SHIFT:
            raise AnnotationError("FISHEYE624 tangential or prism coefficients are too large")
        if valid_radius is not None and not (math.isfinite(valid_radius) and valid_radius > 0):
            raise AnnotationError(f"FISHEYE624 valid radius {valid_radius} is not positive")
        lens = Fisheye624(
            fu,
            fv,
            cu,
            cv,
            tuple(rest[:6]),
            (rest[6], rest[7]),
            tuple(rest[8:]),
            width,
            height,
            valid_radius,
        )
        if lens.max_angle < 0.1:
            raise AnnotationError("FISHEYE624 radial coefficients fold the picture at its centre")
        return lens

    def scaled(self, width: int, height: int) -> Fisheye624:
        """The camera of the same picture resized to `width` x `height`, borders kept."""
        sx, sy = width / self.width, height / self.height
        radius = None if self.valid_radius is None else self.valid_radius * min(sx, sy)
        return Fisheye624(
            self.fu * sx,
            self.fv * sy,
            (self.cu + 0.5) * sx - 0.5,
            (self.cv + 0.5) * sy - 0.5,
            self.k,
            self.p,
            self.s,
            width,
            height,
            radius,
        )

    @cached_property
    def max_angle(self) -> float:
        """Radians from the optical axis up to which the model holds: to where the radial curve
        turns back, to the valid radius where it is known, or to the farthest corner."""
        powers = np.arange(6, 0, -1)
        slope = np.concatenate(((2 * powers + 1) * self.k[::-1], [1.0]))
        roots = np.roots(np.trim_zeros(slope, "f"))
        turns = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)]
        # At the turning point itself a pixel has no definite angle: stop a hair before it.
        limit = min(math.pi, 0.999 * math.sqrt(turns.min())) if len(turns) else math.pi
        angles = np.linspace(0, limit, NODES)
        beyond = np.flatnonzero(self._radius(angles) >= self._farthest)
        return float(angles[beyond[0]]) if len(beyond) else limit

    def project(self, points: Array) -> Array:
        """Pixels (..., 2) of points (..., 3) in the camera frame (OpenCV axes, any length).

        NaN outside the field of view: further than `max_angle` from the axis, or beyond the
        valid radius. Pixels that are not NaN may lie outside the picture.
        """
        points = np.asarray(points, dtype=float)
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        across = np.hypot(x, y)
        theta = np.arctan2(across, z)
        seen = (theta <= self.max_angle) & (across + np.abs(z) > 0)
        radius = self._radius(np.where(seen, theta, np.nan))
        scale = np.divide(radius, across, out=np.zeros_like(across), where=across > 0)
        scale = np.where(seen, scale, np.nan)
        u, v = self._shifted(x * scale, y * scale)
        pixels = np.stack((self.fu * u + self.cu, self.fv * v + self.cv), -1)
        pixels[self._beyond_rim(pixels)] = np.nan
        return pixels

    def unproject(self, pixels: Array) -> Array:
        """Unit rays (..., 3) in the camera frame that project to pixels (..., 2).

        NaN where no ray of the field of view does.
        """
        pixels = np.asarray(pixels, dtype=float)
        u = (pixels[..., 0] - self.cu) / self.fu
        v = (pixels[..., 1] - self.cv) / self.fv
        x, y = self._unshifted(u, v)
        radius = np.hypot(x, y)
        theta = self._angle(radius)
        theta = np.where(self._beyond_rim(pixels), np.nan, theta)
        sine = np.sin(theta)
        safe = np.where(radius > 0, radius, 1.0)
        return np.stack((sine * x / safe, sine * y / safe, np.cos(theta)), -1)

    @cached_property
    def _farthest(self) -> float:
        """Distance from the axis, in units of the focal length, of what the picture can hold."""
        if self.valid_radius is not None:
            reach = self.valid_radius / min(self.fu, self.fv)
        else:
            side = (max(self.cu, self.width - self.cu), max(self.cv, self.height - self.cv))
            reach = math.hypot(side[0] / self.fu, side[1] / self.fv)
        return reach * 1.02 + 0.02  # room for the tangential and prism shifts

    def _beyond_rim(self, pixels: Array) -> NDArray[np.bool_]:
        if self.valid_radius is None:
            return np.zeros(pixels.shape[:-1], dtype=bool)
        return np.hypot(pixels[..., 0] - self.cu, pixels[..., 1] - self.cv) > self.valid_radius

    def _radius(self, theta: Array) -> Array:
        """Radial curve: distance from the axis, in focal lengths, at angles `theta`."""
        squared = theta * theta
        total = np.zeros_like(squared)
        for k in reversed(self.k):
            total = (total + k) * squared
        return theta * (1 + total)

    def _slope(self, theta: Array) -> Array:
        """Derivative of the radial curve."""
        squared = theta * theta
        total = np.zeros_like(squared)
        for i in range(5, -1, -1):
            total = (total + (2 * i + 3) * self.k[i]) * squared
        return 1 + total

    def _angle(self, radius: Array) -> Array:
        """Angle at which the radial curve reaches `radius`; NaN where it does not."""
        nodes = np.linspace(0, self.max_angle, NODES)
        curve = self._radius(nodes)
        theta = np.interp(radius, curve, nodes, right=np.nan)
        for _ in range(STEPS):
            step = (self._radius(theta) - radius) / self._slope(theta)
            theta = np.clip(theta - step, 0, self.max_angle)
            if not (np.abs(step) > CLOSE).any():
                break
        return theta

    def _shifted(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Add the tangential and thin-prism terms."""
        squared = x * x + y * y
        twice = 2 * (self.p[0] * x + self.p[1] * y)
        s0, s1, s2, s3 = self.s
        return (
            x + twice * x + squared * (self.p[0] + s0 + s1 * squared),
            y + twice * y + squared * (self.p[1] + s2 + s3 * squared),
        )

    def _unshifted(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Undo `_shifted` with Newton's method on both coordinates; NaN where it fails."""
        p0, p1 = self.p
        s0, s1, s2, s3 = self.s
        x, y = u.copy(), v.copy()
        step = np.zeros_like(u)
        for _ in range(STEPS):
            found = self._shifted(x, y)
            du, dv = found[0] - u, found[1] - v
            squared = x * x + y * y
            twice = 2 * (p0 * x + p1 * y)
            along_x = 2 * (p0 + s0 + 2 * s1 * squared)
            along_y = 2 * (p1 + s2 + 2 * s3 * squared)
            xx, xy = 1 + twice + (2 * p0 + along_x) * x, 2 * p1 * x + along_x * y
            yx, yy = 2 * p0 * y + along_y * x, 1 + twice + (2 * p1 + along_y) * y
            det = xx * yy - xy * yx
            dx, dy = (yy * du - xy * dv) / det, (xx * dv - yx * du) / det
            x, y, step = x - dx, y - dy, np.abs(dx) + np.abs(dy)
            if not (step > CLOSE).any():
                break
        lost = step > 1e-9
        return np.where(lost, np.nan, x), np.where(lost, np.nan, y)
