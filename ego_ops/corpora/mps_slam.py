"""Aria's SLAM results: when, where the device was, and its cameras' calibration."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.corpora.mps_lines import TIME, SortedLines, floats, reading, table
from ego_ops.errors import AnnotationError
from ego_ops.fisheye import Fisheye624

Array = NDArray[np.float64]

MIN_QUALITY = 0.1
"""`quality_score` (0 to 1) below which a pose is not used. MPS publishes no bound; tracked
recordings have 0.8 to 1."""
MAX_GAP_NS = 100_000_000
"""The longest stretch without a pose that is interpolated over, or held at an end."""

MODELS = ("FisheyeRadTanThinPrism", "CameraModelType.FISHEYE624", "FISHEYE624")
SIZES = {
    "camera-rgb": (1408, 1408),
    "camera-slam-left": (640, 480),
    "camera-slam-right": (640, 480),
}
"""(width, height) of the sensors' pictures as they are commonly recorded."""
FULL_RGB = 2880
"""Side of the RGB sensor's full picture; 1408 is its half after a border of 32 pixels is cut."""
RGB_BORDER = 32
RGB_VALID_RADIUS = 707.5
"""Pixels of a 1408 x 1408 picture, as the calibration inside VRS files has it."""


@dataclass(frozen=True)
class Clock:
    """The device's clock at instants of a video, linear in between and beyond.

    One pair alone stands for clocks of the same rate.

    Raises:
        AnnotationError: no pairs, or values that are not finite or do not increase.
    """

    video_s: Array
    """(N,) seconds from the start of the video, increasing."""
    device_ns: NDArray[np.int64]
    """(N,) nanoseconds on the device's clock, increasing."""

    def __post_init__(self) -> None:
        video, device = np.atleast_1d(self.video_s), np.atleast_1d(self.device_ns)
        if video.ndim != 1 or video.shape != device.shape or not len(video):
            raise AnnotationError("a clock needs as many device times as video times, one at least")
        if not (np.isfinite(video).all() and np.isfinite(device).all()):
            raise AnnotationError("a time of the device's clock is not finite")
        if not ((np.diff(video) > 0).all() and (np.diff(device) > 0).all()):
            raise AnnotationError("the times of the device's clock do not increase")
        object.__setattr__(self, "video_s", video.astype(float))
        object.__setattr__(self, "device_ns", np.rint(device).astype(np.int64))

    def to_device_ns(self, t: ArrayLike) -> NDArray[np.int64]:
        """Device times, int64 nanoseconds, at video times `t` in seconds; any shape."""
        # Counted from the first pair, since nanoseconds since boot fill a float's digits.
        since = _linear(np.asarray(t, dtype=float), self.video_s, self._since_first())
        return np.rint(since * 1e9).astype(np.int64) + self.device_ns[0]

    def to_video_s(self, ns: ArrayLike) -> Array:
        """Video times in seconds at device times `ns` in nanoseconds; any shape."""
        since = (np.asarray(ns) - self.device_ns[0]) / 1e9
        return _linear(since, self._since_first(), self.video_s)

    def _since_first(self) -> Array:
        return (self.device_ns - self.device_ns[0]) / 1e9


@dataclass(frozen=True)
class Track:
    """A window of a trajectory."""

    ns: NDArray[np.int64]
    """(N,) device times in nanoseconds, increasing."""
    poses: RigidTransform
    """N poses T_world_device."""
    graph_uid: str
    """Names the world frame."""


def trajectory(folder: str, t0_ns: int, t1_ns: int) -> tuple[NDArray[np.int64], RigidTransform]:
    """Poses T_world_device from `t0_ns` to `t1_ns` on the device's clock, and one pose beyond
    each end: (times (N,) in ns, N poses).

    Raises:
        MissingFileError, StorageError: `closed_loop_trajectory.csv` cannot be read.
        AnnotationError: it does not cover the window, or tracking was lost within it.
    """
    found = track(folder, t0_ns, t1_ns)
    return found.ns, found.poses


def track(folder: str, t0_ns: int, t1_ns: int, margin_ns: int = 0) -> Track:
    """As `trajectory`, with up to `margin_ns` more at both ends, where tracking goes on there."""
    path = os.path.join(folder, "closed_loop_trajectory.csv")
    pose = [f"{name}_world_device" for name in ("tx", "ty", "tz", "qx", "qy", "qz", "qw")]
    wanted = [*pose, "graph_uid", "quality_score"]
    rows = table(path, wanted, (t0_ns - margin_ns) / 1e3, (t1_ns + margin_ns) / 1e3)
    ns = rows[TIME] * 1000
    if not len(ns):
        raise AnnotationError(f"{path}: has no poses")
    numbers = floats(path, rows, [*pose, "quality_score"])
    kept = _unbroken(path, ns, rows["graph_uid"], numbers[:, 7], t0_ns, t1_ns)
    ns, numbers = ns[kept], numbers[kept]
    norms = np.linalg.norm(numbers[:, 3:7], axis=1)
    if not np.isfinite(numbers[:, :7]).all() or (np.abs(norms - 1) > 0.01).any():
        raise AnnotationError(f"{path}: a pose in the clip is not finite, or no rotation")
    poses = RigidTransform.from_components(numbers[:, :3], Rotation.from_quat(numbers[:, 3:7]))
    return Track(ns, poses, str(rows["graph_uid"][kept][0]))


def _unbroken(
    path: str, ns: NDArray[np.int64], graph: NDArray, quality: Array, t0: int, t1: int
) -> NDArray[np.int64]:
    """Indices of the rows around [t0, t1] over which tracking was not interrupted."""
    if (np.diff(ns) < 0).any():
        raise AnnotationError(f"{path}: its times do not increase")
    rows = np.concatenate(
        ([0], np.flatnonzero(np.diff(ns)) + 1)
    )  # a time written twice counts once
    ns, graph, quality = ns[rows], graph[rows], quality[rows]
    first = max(0, int(np.searchsorted(ns, t0, "right")) - 1)
    last = min(len(ns) - 1, int(np.searchsorted(ns, t1, "left")))
    if ns[first] - t0 > MAX_GAP_NS or t1 - ns[last] > MAX_GAP_NS or len(ns) < 2:
        raise AnnotationError(
            f"{path}: covers {ns[0] / 1e9:.3f} to {ns[-1] / 1e9:.3f} s of the device's clock here, "
            f"the clip needs {t0 / 1e9:.3f} to {t1 / 1e9:.3f} s"
        )
    broken = (np.diff(ns) > MAX_GAP_NS) | (graph[1:] != graph[:-1])
    poor = ~(quality >= MIN_QUALITY)
    if broken[first:last].any() or poor[first : last + 1].any():
        raise AnnotationError(
            f"{path}: tracking was lost within the clip "
            f"({t0 / 1e9:.3f} to {t1 / 1e9:.3f} s of the device's clock)"
        )
    breaks = np.concatenate(([True], broken | poor[1:] | poor[:-1], [True]))
    begin = int(np.flatnonzero(breaks[: first + 1])[-1])
    end = last + int(np.flatnonzero(breaks[last + 1 :])[0]) + 1
    return rows[begin:end]


def calibration(
    folder: str, t_ns: int, label: str = "camera-rgb", size: tuple[int, int] | None = None
) -> tuple[Fisheye624, RigidTransform]:
    """(lens, T_device_camera) of the camera `label` as calibrated online nearest to `t_ns`.

    Args:
        size: (width, height) of the sensor's picture, which the file does not tell; None for
            the usual one. RGB calibrations of the full 2880 x 2880 picture and of its usual
            1408 x 1408 crop are told apart by their principal point and converted.

    Raises:
        MissingFileError, StorageError: `online_calibration.jsonl` cannot be read.
        AnnotationError: it has no usable calibration of that camera.
    """
    path = os.path.join(folder, "online_calibration.jsonl")
    with reading(path):
        lines = SortedLines(path).around(_time_of, t_ns / 1e3, t_ns / 1e3)
    if not lines:
        raise AnnotationError(f"{path}: has no calibration")
    nearest = min(lines, key=lambda line: abs(_time_of(line) - t_ns / 1e3))
    try:
        (camera,) = (c for c in json.loads(nearest)["CameraCalibrations"] if c["Label"] == label)
        model = camera["Projection"]["Name"]
        params = [float(value) for value in camera["Projection"]["Params"]]
        w, xyz = camera["T_Device_Camera"]["UnitQuaternion"]  # scalar first, unlike trajectories
        rotation = Rotation.from_quat([*map(float, xyz), float(w)])
        translation = [float(value) for value in camera["T_Device_Camera"]["Translation"]]
        pose = RigidTransform.from_components(translation, rotation)
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError(f"{path}: has no usable calibration of {label} ({error})") from error
    if model not in MODELS or not np.isfinite(pose.as_matrix()).all():
        raise AnnotationError(
            f"{path}: {label} has the model {model}, or a pose that is not finite"
        )
    try:
        return _lens(params, label, size), pose
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {label}: {error}") from None


def _lens(params: list[float], label: str, size: tuple[int, int] | None) -> Fisheye624:
    usual = SIZES.get(label, (0, 0))
    width, height = size or usual
    if label != "camera-rgb":
        return Fisheye624.from_params(params, width, height)
    centre = params[-14] if len(params) > 14 else 0.0  # cu, with one focal length and with two
    full = centre > FULL_RGB / 2 - 400
    side, double = (FULL_RGB, 2) if full else (usual[0], 1)
    lens = Fisheye624.from_params(params, side, side, double * RGB_VALID_RADIUS)
    if full and width < 0.75 * FULL_RGB:
        lens = _cropped(lens, RGB_BORDER).scaled(*usual)
    elif not full and width == FULL_RGB:
        lens = _cropped(lens.scaled(2 * side, 2 * side), -RGB_BORDER)
    return lens if (lens.width, lens.height) == (width, height) else lens.scaled(width, height)


def _cropped(lens: Fisheye624, border: int) -> Fisheye624:
    """The lens of the picture without `border` pixels at each side; negative adds them."""
    width, height = lens.width - 2 * border, lens.height - 2 * border
    return replace(lens, cu=lens.cu - border, cv=lens.cv - border, width=width, height=height)


def _linear(at: Array, x: Array, y: Array) -> Array:
    """Piecewise linear interpolation that goes on beyond both ends as it goes next to them."""
    if len(x) == 1:
        return y[0] + (at - x[0])
    k = np.clip(np.searchsorted(x, at, "right") - 1, 0, len(x) - 2)
    return y[k] + (at - x[k]) * (y[k + 1] - y[k]) / (x[k + 1] - x[k])


def _time_of(line: bytes) -> float:
    """`tracking_timestamp_us` of a line of JSON, without reading the rest; NaN for none."""
    _, found, rest = line.partition(b'"tracking_timestamp_us":')
    try:
        return float(rest.lstrip()[:32].split(b",")[0].split(b"}")[0]) if found else math.nan
    except ValueError:
        return math.nan
