"""Tracked points with depth, on the object and around it, from masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.errors import Rejection
from ego_ops.geometry.observed import TrackedPoints
from ego_ops.geometry.view import Array, Mask
from ego_ops.perception import DepthEstimator, Tracker
from ego_ops.perception.anchors import AnchoredDepth
from ego_ops.perception.decoded import Decoded
from ego_ops.perception.depth import RecordedDepth, TriangulatedDepth
from ego_ops.perception.learned.depth import DepthNetwork
from ego_ops.perception.learned.depth_scale import ScaleFit
from ego_ops.perception.learned.segment import Masks
from ego_ops.perception.learned.track import CoTracker
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks

INNER, OUTER = 2, 4
"""Pixels inside its mask within which the object's points are chosen, and outside it up to which
they are believed."""
CLEAR = 8
"""Pixels around the masks of object and hand that belong to neither them nor the background."""
FEWEST_SEEN = 6
"""Frames in which a track must be seen."""
FEWEST_TRACKS = 5
"""Tracks without which no motion can be told."""


@dataclass(frozen=True)
class Measured:
    """Depth of tracked points and of the object's surface."""

    object: TrackedPoints
    background: TrackedPoints
    clouds: list[NDArray[np.float32]]
    """T clouds (k, 3) of the object in the camera frame, metres; none where not asked for."""


def overview(decoded: Decoded, tracker: Tracker) -> Tracks:
    """Tracks over the whole picture, of whatever it shows."""
    return tracker.track(_frames(tracker, decoded))


def closeup(decoded: Decoded, masks: Masks, tracker: Tracker) -> Tracks:
    """Tracks of points in the object's mask, seen where that mask is: what leaves it slid off, or
    something came before it.

    Raises:
        Rejection: the mask is empty in every frame (`no_object`).
    """
    if not masks.object.any():
        raise Rejection("no_object", "the mask of the object is empty in every frame")
    inner = _each(masks.object, cv2.erode, INNER)
    thin = ~np.asarray(inner.any((1, 2)))
    inner[thin] = masks.object[thin]
    tracks = tracker.track(_frames(tracker, decoded), inner)
    return _seen(tracks, _each(masks.object, cv2.dilate, OUTER) & ~masks.hand)


def around(tracks: Tracks, masks: Masks) -> Tracks:
    """The tracks, seen only where neither the object is nor a hand."""
    return _seen(tracks, ~_each(masks.object | masks.hand, cv2.dilate, CLEAR))


def longest(tracks: Tracks, most: int, of: str) -> Tracks:
    """Those seen longest, `most` of them at most.

    Args:
        of: what they are on, for an error.

    Raises:
        Rejection: hardly any is seen for more than a moment (`too_few_tracks`).
    """
    count = tracks.visible.sum(0)
    order = np.argsort(-count, kind="stable")[:most]
    kept = np.sort(order[count[order] >= FEWEST_SEEN])
    if len(kept) < FEWEST_TRACKS:
        raise Rejection("too_few_tracks", f"{len(kept)} tracks on {of}, {FEWEST_TRACKS} are needed")
    return tracks.select(kept)


def measured(
    decoded: Decoded,
    thing: Tracks,
    background: Tracks,
    path: RigidTransform | None,
    network: DepthNetwork,
    masks: Masks,
    cloud: int,
) -> Measured:
    """Depth of both sets of tracks: recorded, or by the network.

    Args:
        path: T recorded poses T_world_camera, which a relative network needs.
        cloud: points of each frame's cloud, at most.

    Raises:
        Rejection: nothing gives a relative network's depth a scale (`no_metric_scale`).
        UserError: the checkpoint cannot be loaded.
    """
    scene, both = decoded.scene, Tracks.joined([thing, background])
    if scene.recording.depth is not None:
        return _split(both, RecordedDepth().depth(scene, path, both), thing.count, [])
    value, spread = network.sample(decoded.images, both, masks.object if cloud else None, cloud)
    surface = [part[:, 2][None] for part in spread]
    if not network.metric:
        known = _known_depth(scene, path, background)
        scale = ScaleFit().fit(value[:, thing.count :], known)
        value = scale.depth(value)
        surface = [scale.frame(t).depth(part) for t, part in enumerate(surface)]
    clouds = [
        (scene.camera.rays(part[:, :2]) * depth[0][:, None])[np.isfinite(depth[0])]
        for part, depth in zip(spread, surface, strict=True)
    ]
    packed = [one.astype(np.float32) for one in clouds] if cloud else []
    return _split(both, value, thing.count, packed)


def _known_depth(scene: Scene, path: RigidTransform | None, background: Tracks) -> Array:
    if path is None:
        raise Rejection(
            "no_metric_scale",
            "relative depth needs recorded camera poses: take a metric depth network",
        )
    landmarks = scene.recording.landmarks
    known: DepthEstimator = TriangulatedDepth() if landmarks is None else AnchoredDepth()
    return known.depth(scene, path, background)


def _split(both: Tracks, depth: Array, count: int, clouds: list[NDArray[np.float32]]) -> Measured:
    depth = np.where(depth > 0, depth, np.nan)
    xy = np.nan_to_num(both.xy)
    whole = TrackedPoints(xy, both.visible, depth)
    first = np.arange(both.count) < count
    return Measured(whole.select(first), whole.select(~first), clouds)


def _frames(tracker: Tracker, decoded: Decoded) -> NDArray[np.uint8]:
    """What the tracker takes: CoTracker colour, others grey."""
    return decoded.images if isinstance(tracker, CoTracker) else decoded.scene.gray


def _each(masks: Mask, operation: Callable[..., Any], pixels: int) -> Mask:
    """`cv2.erode` or `cv2.dilate` of each mask (T, H, W) by so many pixels."""
    size = 2 * pixels + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    changed = [operation(mask.astype(np.uint8), kernel) for mask in masks]
    return np.stack(changed) > 0


def _seen(tracks: Tracks, allowed: Mask) -> Tracks:
    """The tracks, visible only where `allowed` (T, H, W) is true."""
    visible = tracks.visible.copy()
    limit = np.array(allowed.shape[2:0:-1]) - 1
    for t in range(len(visible)):
        who = np.flatnonzero(visible[t])
        x, y = np.clip(np.rint(tracks.xy[t, who]).astype(int), 0, limit).T
        visible[t, who] = allowed[t, y, x]
    return replace(tracks, visible=visible)
