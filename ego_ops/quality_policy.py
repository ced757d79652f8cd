"""Which trajectories to train on: limits on their scores, as one table of named presets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.quality import SCORES

Floats = NDArray[np.float32]

FENCED = (
    "travel_m", "turn_rad", "top_speed_m_s", "top_turn_rad_s", "jerk_rms_m_s3",
    "head_travel_m", "head_top_speed_m_s", "head_top_turn_rad_s", "depth_m",
    "reprojection_rmse_px", "background_rmse_px", "position_sd_m", "rotation_sd_rad",
)  # fmt: skip
"""Scores that `Policy.fence` is put around; none is ever negative."""


@dataclass(frozen=True)
class Policy:
    """Limits on scores. `min_` and `max_` are followed by the score's name; None is no limit, and
    a clip whose method has no such score passes. The first one that a clip fails is its reason."""

    min_travel_m: float | None = None
    """Least length of the object's path, metres."""
    min_displacement_m: float | None = None
    """Least distance that the object gets away from where it lay, metres."""
    max_is_static: float | None = None
    """0 drops clips in which no frame shows beyond doubt that the object moved."""
    max_background_similarity: float | None = None
    """Most similarity of the object's path to that of still background, -1 to 1."""
    min_in_frame_share: float | None = None
    """Least share of the object's points in the picture, in the frame that has fewest."""
    max_reprojection_rmse_px: float | None = None
    """Largest reprojection error of the object's points, pixels."""
    max_forward_backward_px: float | None = None
    """Largest error of tracks followed forth and back, pixels."""
    min_inlier_share: float | None = None
    """Least share of the object's observations that fit its motion."""
    min_observed_share: float | None = None
    """Least share of the steps in motion that were observed."""
    max_longest_gap_s: float | None = None
    """Longest stretch of motion that was bridged over, seconds."""
    max_position_sd_m: float | None = None
    """Largest standard deviation of the position, metres."""
    max_rotation_sd_rad: float | None = None
    """Largest standard deviation of the rotation, radians."""
    min_confidence: float | None = None
    """Least confidence, 0 to 1."""
    max_is_uncertain: float | None = None
    """0 drops clips whose estimate itself says that its poses are not sure enough."""
    max_background_rmse_px: float | None = None
    """Largest reprojection error of the still background, pixels."""
    max_depth_scale_spread: float | None = None
    """Largest relative spread over frames of the measured depth's scale."""
    max_top_speed_m_s: float | None = None
    """Largest speed of the object from one frame to the next, metres per second."""
    max_top_turn_rad_s: float | None = None
    """Largest rate of turn of the object from one frame to the next, radians per second."""
    max_jerk_rms_m_s3: float | None = None
    """Largest root mean square jerk of the object."""
    max_head_top_speed_m_s: float | None = None
    """Largest speed of the camera from one frame to the next, metres per second."""
    max_head_top_turn_rad_s: float | None = None
    """Largest rate of turn of the camera from one frame to the next, radians per second."""
    max_side_m: float | None = None
    """Workspace: the furthest to a side of the first camera's axis, metres."""
    min_near_m: float | None = None
    """Workspace: the least distance along the first camera's axis, metres."""
    max_far_m: float | None = None
    """Workspace: the largest distance along the first camera's axis, metres."""
    max_is_symmetric: float | None = None
    """0 drops objects that look the same however they are turned about an axis."""
    max_is_ambiguous: float | None = None
    """0 drops clips in which more than one motion fits what was seen."""
    fence: float | None = None
    """Drop what lies this many interquartile ranges beyond the quartiles of all clips (2.5 is
    common), in any of the scores of motion and of fit."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and math.isnan(value):
                raise UserError(f"--{_flag(name)} {value}: must be a number")
        if self.fence is not None and self.fence <= 0:
            raise UserError(f"--fence {self.fence:g}: must be above 0")

    def with_changes(self, changes: Policy) -> Policy:
        """This policy, with those limits of `changes` that are not None."""
        return replace(self, **{k: v for k, v in asdict(changes).items() if v is not None})


_PAPER = Policy(
    # How far a thing must travel is published as a rule without its number; that is ours.
    min_travel_m=0.1,
    max_background_similarity=0.7,
    min_in_frame_share=0.5,
    max_side_m=2.0,
    min_near_m=0.0,
    max_far_m=2.5,
)
_DEFAULT = Policy(
    min_travel_m=0.05,
    max_is_static=0.0,
    max_background_similarity=0.9,
    min_in_frame_share=0.5,
    max_reprojection_rmse_px=2.0,
    max_forward_backward_px=2.0,
    min_inlier_share=0.5,
    min_observed_share=0.6,
    max_longest_gap_s=0.7,
    max_position_sd_m=0.03,
    max_rotation_sd_rad=0.35,
    max_is_uncertain=0.0,
    max_background_rmse_px=2.0,
    max_top_speed_m_s=3.0,
    max_top_turn_rad_s=15.0,
    max_head_top_speed_m_s=2.0,
    max_head_top_turn_rad_s=5.0,
    max_side_m=2.0,
    min_near_m=0.0,
    max_far_m=2.5,
)
_STRICT = replace(
    _DEFAULT,
    min_travel_m=0.1,
    max_background_similarity=0.7,
    max_reprojection_rmse_px=1.5,
    max_forward_backward_px=1.0,
    min_inlier_share=0.6,
    min_observed_share=0.8,
    max_longest_gap_s=0.4,
    max_position_sd_m=0.01,
    max_rotation_sd_rad=0.12,
    min_confidence=0.5,
    max_background_rmse_px=1.5,
    max_depth_scale_spread=0.1,
    max_side_m=1.5,
    max_far_m=1.5,
    max_is_symmetric=0.0,
    max_is_ambiguous=0.0,
    fence=2.5,
)

PRESETS = {"paper": _PAPER, "default": _DEFAULT, "strict": _STRICT}
"""`paper`: the rules of EgoScaler (arXiv 2506.03605, 2509.21986): travel distance, similarity to
the background, points that stay in the picture, workspace. `default`: those that a trajectory of
ours can be held to, with a wide margin. `strict`: closer ones, and outliers fenced off."""


class Bound(NamedTuple):
    """One limit of a policy."""

    reason: str
    """What is said of a clip that fails: the limit's name, or `fence_` and the score's."""
    score: str
    low: float
    high: float
    """What is from `low` to `high` passes, both included."""

    @property
    def text(self) -> str:
        """What is asked for, for people."""
        bounds = (("≥", self.low), ("≤", self.high))
        return ", ".join(f"{sign} {value:.3g}" for sign, value in bounds if math.isfinite(value))

    def fails(self, values: Floats) -> NDArray[np.bool_]:
        """Which of (n,) scores fail; NaN, for a score that is not there, passes."""
        # A score of 0.7 is stored as the float32 nearest to it, and so must the bound be.
        return (values < np.float32(self.low)) | (values > np.float32(self.high))


def bounds(policy: Policy, scores: Mapping[str, Floats] | None = None) -> list[Bound]:
    """The limits of a policy, in the order in which they are tried.

    Args:
        scores: of a sample of clips, by name; needed for `policy.fence`.
    """
    found = []
    for field in fields(policy):
        kind, _, score = field.name.partition("_")
        value = getattr(policy, field.name)
        if score not in SCORES or value is None or math.isinf(value):
            continue
        low, high = (value, math.inf) if kind == "min" else (-math.inf, value)
        found.append(Bound(field.name, score, low, high))
    return found + _fences(policy, scores or {})


def tried(limits: Sequence[Bound], scores: Mapping[str, Floats], count: int) -> NDArray[np.bool_]:
    """(k, count) whether each clip fails each of k limits.

    Args:
        scores: (count,) by name; NaN where a clip has none.
    """
    failed = np.zeros((len(limits), count), bool)
    for row, limit in zip(failed, limits, strict=True):
        row[:] = limit.fails(scores[limit.score])
    return failed


def first(failed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) index of the first of k limits that each clip fails, -1 where none: see `tried`."""
    if not len(failed):
        return np.full(failed.shape[1], -1)
    return np.where(failed.any(0), failed.argmax(0), -1)


def _fences(policy: Policy, scores: Mapping[str, Floats]) -> list[Bound]:
    found = []
    for name in FENCED if math.isfinite(policy.fence or math.inf) else ():
        values = scores.get(name, np.empty(0, np.float32))
        values = values[np.isfinite(values)]
        if len(values) < _ENOUGH:
            continue
        lower, upper = np.percentile(values, [25, 75])
        margin = float(policy.fence or 0) * float(upper - lower)
        low, high = float(lower) - margin, float(upper) + margin
        found.append(Bound(f"fence_{name}", name, low if low > 0 else -math.inf, high))
    return found


_ENOUGH = 20
"""Clips below which quartiles say nothing of outliers."""


def _flag(name: str) -> str:
    return name.replace("_", "-")
