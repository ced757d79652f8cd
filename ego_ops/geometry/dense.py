"""Poses from clouds of an object's visible surface, for frames with too few tracks to hold it.

Every cloud is registered to a model merged from keyframes, never to its neighbour alone, so that
errors do not add up. The registration is `dense_align` (small_gicp) or `dense_pytorch3d`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import PosePath
from ego_ops.geometry.dense_align import Align, align_gicp, spread, thinned, without_strays
from ego_ops.geometry.dense_worth import Surface, fused
from ego_ops.geometry.view import Array, Mask

LEAST = 60
"""Points below which a cloud is left alone."""
AGREE = 0.5
"""Share of a cloud that must lie on the model before its pose is believed."""
KEYFRAMES = 6
"""Clouds that a model is merged from, at most."""
NEW_VIEW = 0.35
"""Radians that a frame must be turned from every keyframe to become one."""
SPEED, TURN = 1.5, 6.0
"""Metres and radians per second that a carried thing moves at most."""
TURNS = 1.5
"""Radians per second that it is expected to turn, one deviation."""
DEPTH = 0.004
"""Error of a frame's depth as a whole, as a share, at least."""
APART = 0.3
"""Seconds from a frame within which others do not testify to its depth."""
PROBES = 5
"""Known frames that are registered without themselves, to learn how far deviations hold."""


@dataclass(frozen=True)
class DensePoses:
    """What registration made of T clouds."""

    poses: RigidTransform
    """T poses T_camera_object: as known, as measured, and interpolated or held elsewhere."""
    measured: Mask
    """(T,) frames posed by their cloud."""
    position_sd: Array
    """(T,) standard deviation of the object's position in its worst direction, metres; NaN where
    not measured."""
    rotation_sd: Array
    """(T,) of its rotation about its worst axis, radians; large where the surface slips along
    itself (a sphere, a cup without a handle, a plane)."""
    share: Array
    """(T,) share of the cloud that lies on the model; NaN where nothing was tried."""


def register_clouds(
    clouds: Sequence[Array],
    known: RigidTransform,
    have: Mask,
    times: Array,
    align: Align | None = None,
) -> DensePoses:
    """Pose the frames that are not known yet by the object's visible surface.

    Args:
        clouds: T clouds (k_t, 3) in metres, each in its frame's camera frame; k_t may be 0.
        known: T poses T_camera_object at the clouds' scale; anything where not `have`.
        have: (T,) which of them are known. With none, the frame of the largest cloud is the
            reference: the object's frame has its axes and sits at the cloud's median.
        times: (T,) seconds, increasing.
        align: registers one cloud to another; `align_gicp` by default.

    Raises:
        ValueError: the arguments are not all of T frames.
        UserError: the registration backend is not installed.
    """
    if not len(clouds) == len(known) == len(have) == len(times) > 0:
        raise ValueError("clouds, known, have and times must be of the same number of frames")
    return _Registration(clouds, known, have, times, align or align_gicp).run()


class _Registration:
    """The poses found so far, and the keyframes that models are merged from."""

    def __init__(
        self, clouds: Sequence[Array], known: RigidTransform, have: Mask, times: Array, align: Align
    ):
        whole = [without_strays(cloud) for cloud in clouds]
        self.clouds = [thinned(cloud) for cloud in whole]
        self.times, self.align = times, align
        self.poses = {int(t): known[int(t)] for t in np.flatnonzero(have)}
        self.measured = np.zeros(len(times), bool)
        self.sd = np.full((len(times), 2), np.nan)
        self.share = np.full(len(times), np.nan)
        self.models: dict[tuple[int, ...], Surface] = {}
        self.ready = [t for t, cloud in enumerate(self.clouds) if _is_enough(cloud)]
        if not self.poses and self.ready:
            self._begin(whole)
        self.base = [t for t in self.poses if t in set(self.ready)]
        self.keys = list(self.base)

    def _begin(self, clouds: list[Array]) -> None:
        first = max(self.ready, key=lambda t: len(clouds[t]))
        self.poses[first] = _shift(np.median(clouds[first], axis=0))
        self.measured[first], self.sd[first], self.share[first] = True, 0.0, 1.0

    def run(self) -> DensePoses:
        if self.keys:
            excess = self._excess()
            away = {t: np.abs(self.times[self.keys] - self.times[t]).min() for t in self.ready}
            for t in sorted(self.ready, key=lambda t: away[t]):
                if t not in self.poses:
                    self._pose(t, excess)
        return DensePoses(self._filled(), self.measured, self.sd[:, 0], self.sd[:, 1], self.share)

    def _pose(self, t: int, excess: Array) -> None:
        """Register cloud t, and keep its pose where it can be believed."""
        guess, near, gap = self._guess(t)
        keys = self._keys(t)
        pose, own, share = self._registered(t, keys, guess)
        self.share[t] = share
        turned = (self.poses[near].inv() * pose).rotation.magnitude()
        shift = np.linalg.norm(pose.translation - self.poses[near].translation)
        far = 0.3 + TURN * gap, self._model(keys).radius + SPEED * gap
        if share < AGREE or turned > far[0] or shift > far[1]:
            return
        inherited = np.mean(np.nan_to_num(self.sd[list(keys)]) ** 2, axis=0)
        self.poses[t], self.measured[t] = pose, True
        self.sd[t] = np.sqrt(own**2 + inherited + excess)
        if min((self.poses[k].inv() * pose).rotation.magnitude() for k in self.keys) > NEW_VIEW:
            self.keys.append(t)

    def _registered(
        self, t: int, keys: tuple[int, ...], guess: RigidTransform
    ) -> tuple[RigidTransform, Array, float]:
        """T_camera_object of frame t by the model of `keys`, its deviations (2,), and the share."""
        model = self._model(keys)
        found = self.align(self.clouds[t], model.points, guess.inv())
        gap = min(abs(self.times[k] - self.times[t]) for k in self.base)
        turns = min(TURNS * (gap + 0.05), np.pi / np.sqrt(3))
        moves = np.array([0.5 * model.radius, turns])
        pose, sd = fused(self.clouds[t], model, guess, found.pose.inv(), moves)
        return pose, sd, found.share

    def _guess(self, t: int, left_out: int = -1) -> tuple[RigidTransform, int, float]:
        """The pose to begin from, the nearest frame with a pose, and seconds to it.

        Where the object sits with respect to its cloud's median is interpolated, not its place:
        that changes more slowly.
        """
        frames = [k for k in sorted(self.poses) if _is_enough(self.clouds[k]) and k != left_out]
        found = RigidTransform.concatenate([self.poses[k] for k in frames])
        middles = np.stack([np.median(self.clouds[k], axis=0) for k in frames])
        beside = RigidTransform.from_components(found.translation - middles, found.rotation)
        near = int(np.abs(self.times[frames] - self.times[t]).argmin())
        gap = float(abs(self.times[frames[near]] - self.times[t]))
        here = PosePath(self.times[frames], beside).held(self.times[[t]])[0]
        return _shift(np.median(self.clouds[t], axis=0)) * here, frames[near], gap

    def _excess(self) -> Array:
        """(2,) variance of position and rotation beyond the stated, by known frames left out.

        Each frame's depth is wrong as a whole too, which no residual of its own shows.
        """
        probes = [self.base[i] for i in np.linspace(0, len(self.base) - 1, PROBES).astype(int)]
        probes = sorted(set(probes)) if len(self.base) >= PROBES else []
        beyond = []
        for t in probes:
            # Neighbours share the errors of smooth depth, so only those further off can tell.
            keys = tuple(k for k in self._keys(t) if abs(self.times[k] - self.times[t]) > APART)
            if not keys:
                continue
            pose, sd, share = self._registered(t, keys, self._guess(t, left_out=t)[0])
            if share >= AGREE:
                turned = (self.poses[t].inv() * pose).rotation.magnitude()
                shift = np.linalg.norm(pose.translation - self.poses[t].translation)
                beyond.append(np.array([shift, turned]) ** 2 - sd**2)
        distance = np.median([np.linalg.norm(self.poses[k].translation) for k in self.keys])
        least = np.array([(DEPTH * distance) ** 2, 0.0])
        return np.maximum(np.mean(beyond, axis=0), least) if beyond else least

    def _keys(self, t: int) -> tuple[int, ...]:
        """The keyframes to merge: the nearest in time on both sides, and others spread evenly."""
        before = [k for k in self.keys if k < t]
        after = [k for k in self.keys if k > t]
        chosen = {*([max(before)] if before else []), *([min(after)] if after else [])}
        spread_out = np.linspace(0, len(self.keys) - 1, KEYFRAMES - len(chosen)).astype(int)
        return tuple(sorted(chosen | {sorted(self.keys)[k] for k in spread_out}))

    def _model(self, keys: tuple[int, ...]) -> Surface:
        if keys not in self.models:
            merged = np.concatenate([self.poses[k].inv().apply(self.clouds[k]) for k in keys])
            self.models[keys] = Surface.of(thinned(merged))
        return self.models[keys]

    def _filled(self) -> RigidTransform:
        frames = sorted(self.poses)
        if not frames:
            return RigidTransform.identity(len(self.times))
        found = RigidTransform.concatenate([self.poses[t] for t in frames])
        return PosePath(self.times[frames], found).held(self.times)


def _is_enough(cloud: Array) -> bool:
    """Whether a cloud has the points, and the extent, to be registered."""
    return len(cloud) >= LEAST and spread(cloud) > 1e-3 * float(np.linalg.norm(cloud.mean(0)))


def _shift(by: Array) -> RigidTransform:
    return RigidTransform.from_translation(by)
