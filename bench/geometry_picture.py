"""A picture of one clip's trajectory as several methods find it, beside the truth.

    python bench/geometry_picture.py --out bench/pictures/geometry.png [--seed 1000]

Needs `pip install -r bench/requirements.txt`. The object is hidden in the grey stretches; around
ours lies the deviation that it states itself, twice.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import geometry_peer as peer
from bench.geometry_peer import Motion
from bench.geometry_scenes import Clip, make_clip
from bench.geometry_score import scale_of_places
from ego_ops.geometry import metrics
from ego_ops.geometry.estimate import estimate

COLOURS = {"ours": "#1768ac", "PnP": "#e07a1f", "EgoScaler": "#b23a48"}


def errors(clip: Clip, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """(T,) centimetres after the best scale, and degrees."""
    scale = scale_of_places(motion.places, clip.object[0].apply(clip.object_points))
    moved, should = (poses * poses[0].inv() for poses in (motion.object, clip.object))
    path, truth = moved.apply(clip.centre / scale), should.apply(clip.centre)
    off = np.linalg.norm(metrics.aligned(path, truth, "scale") - truth, axis=-1)
    angle = metrics.geodesic(moved.rotation.as_quat(), should.rotation.as_quat())
    return 100 * off, np.degrees(angle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args()
    clip = make_clip(args.seed)
    found = estimate(clip.occluded)
    motions = {
        "EgoScaler": peer.published(clip.occluded, clip.film, clip.depth),
        "PnP": peer.pnp(clip.occluded),
        "ours": Motion(found.object, found.object[0].apply(found.points)),
    }
    draw(clip, motions, found.position_sd * 100, np.degrees(found.rotation_sd), args.out)


def draw(
    clip: Clip, motions: dict[str, Motion], position: np.ndarray, turn: np.ndarray, out: str
) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    times = clip.occluded.times
    hidden = ~clip.occluded.object.visible.any(1)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), dpi=120, layout="constrained")
    labels = ("position error, cm (scale aligned)", "rotation error, degrees")
    for side, (axis, label, sd) in enumerate(zip(axes, labels, (position, turn), strict=True)):
        axis.fill_between(
            times, 0, 1, where=hidden, color="0.9", transform=axis.get_xaxis_transform()
        )
        axis.fill_between(times, 0.01, 2 * sd, color=COLOURS["ours"], alpha=0.12, lw=0)
        for name, motion in motions.items():
            axis.plot(times, errors(clip, motion)[side], color=COLOURS[name], label=name, lw=1.8)
        axis.set(yscale="log", ylim=(0.02, 150), xlabel="seconds", ylabel=label)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    axes[0].legend(frameon=False, loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1.0))
    figure.savefig(out)


if __name__ == "__main__":
    main()
