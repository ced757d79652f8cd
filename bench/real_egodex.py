"""Geometry on two real EgoDex clips, against recorded camera poses and hands.

    python bench/real_egodex.py --data FOLDER [--fps 30]

FOLDER holds `basic_pick_and_place/0` and `add_remove_lid/0` (.mp4 and .hdf5). Prints one line of
JSON, and a table on standard error.

Ego-motion is found without the recorded poses. EgoDex has no depth, so the joint estimate gets it
in three ways: triangulated along the path that the pictures alone give; the same as a network
would have it, 12 % too far, with 2 % flicker and 3 % smooth bias; 0.6 m for everything. Errors
are the ATE in per cent of the path's length, after a similarity and after a scale alone, and the
rotation, first cameras together.

The object is compared with the point between thumb and index fingertip of the hand that carries
it: one place in the object's frame is fitted to that point while it is held, and the error is how
far the two are apart. `flow_clock` is the same with hands read `HAND_LAG` later.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ego_ops import corpora
from ego_ops.clip import Clip
from ego_ops.errors import Rejection
from ego_ops.extraction import Perceived
from ego_ops.geometry import metrics
from ego_ops.geometry.estimate import estimate
from ego_ops.geometry.object_motion import solve
from ego_ops.geometry.observed import Observed, TrackedPoints
from ego_ops.geometry.relative_path import RelativePath, relative_path
from ego_ops.geometry.triangulate import triangulate
from ego_ops.geometry.view import View
from ego_ops.perception.clock import estimate_offset
from ego_ops.perception.geometric import GeometricPipeline
from ego_ops.perception.scene import Scene
from ego_ops.pictures import pictures

Floats = NDArray[np.float64]
STAPLER, LID = "basic_pick_and_place/0", "add_remove_lid/0"
HELD = (1.75, 2.6)
"""Seconds in which the stapler is in the hand, seen in the pictures."""
HAND_LAG = 0.013
"""Seconds by which recorded hands lag behind recorded camera poses: optical flow at the joints
agrees best with their motion 10 to 20 ms later."""
AWAY = 0.6
"""Metres to things on a table; what the scene's median depth is taken for."""


def clip_of(folder: str, uid: str) -> Clip:
    found = corpora.get("egodex").index(folder)
    (clip,) = (c for c in found if isinstance(c, Clip) and c.video_uid == uid)
    return clip


def background_of(clip: Clip, fps: float) -> View:
    """Corners followed all over a clip's pictures, and the recorded poses on the video's clock."""
    recording = corpora.get("egodex").recording(clip)
    assert recording.path is not None
    whole = (clip.t_start, clip.t_end)
    frames, camera = pictures(clip, recording, whole, fps=fps, max_side=960)
    pts, kept = np.unique(frames.pts, return_index=True)
    gray = frames.gray()[kept]
    scene = Scene(gray, pts, camera.scaled(gray.shape[2], gray.shape[1]), recording)
    tracks = GeometricPipeline().overview.track(gray)
    scene = replace(scene, offset=estimate_offset(scene, tracks))
    return scene.view(tracks, recording.path.at(scene.clock))


def during(view: View, start: float, end: float) -> View:
    """The frames between two times, with the tracks that have six of them."""
    when = np.flatnonzero((view.times > start - 1e-6) & (view.times < end + 1e-6))
    part = View(view.camera, view.path[when], view.times[when], view.xy[when], view.visible[when])
    return part.select(part.visible.sum(0) >= 6)


def depths(view: View, found: RelativePath, rng: np.random.Generator) -> dict[str, Floats]:
    """(T, N) depth of every track by each way to have it; nothing here knows the recorded poses."""
    path = RigidTransform.from_components(found.path.translation * AWAY, found.path.rotation)
    z = replace(view, path=path).local(found.points * AWAY)[..., 2]
    z = np.where(z > 0.05, z, np.nan)
    wrong = network_like(z, view, rng)
    return {"triangulated": z, "network_like": wrong, "0.6_m": np.full(z.shape, AWAY)}


def network_like(depth: Floats, view: View, rng: np.random.Generator) -> Floats:
    """Depth (T, N) 12 % too far, with 2 % flicker and a smooth bias of 3 % over the picture."""
    flicker = np.exp(0.02 * rng.standard_normal((len(depth), 1)))
    where = 3 * np.nan_to_num(view.xy) / (view.camera.width, view.camera.height)
    phase = rng.uniform(0, 2 * np.pi, 2)
    bias = np.sin(where[..., 0] + phase[0]) * np.cos(where[..., 1] + phase[1])
    return depth * 1.12 * flicker * (1 + 0.03 * bias / np.sqrt(np.mean(bias**2)))


def camera_paths(view: View) -> dict[str, RigidTransform]:
    """T poses T_first_camera by every method; the view's own path stays unused."""
    found = relative_path(view.camera, view.xy, view.visible, view.times)
    paths = {"pictures_alone": found.path}
    moving = found.inliers.sum(0) <= 0.7 * np.maximum(view.visible.sum(0), 1)
    for name, depth in depths(view, found, np.random.default_rng(0)).items():
        every = TrackedPoints(view.xy, view.visible, depth)
        # Only the camera is asked for: whatever does not stand still serves as the object.
        guess = replace(every, depth=np.where(np.isnan(depth), AWAY, depth)).select(moving)
        observed = Observed(view.camera, view.times, guess, every)
        paths["joint, " + name] = estimate(observed).camera
    return paths


def path_error(path: RigidTransform, truth: RigidTransform) -> dict[str, float]:
    """ATE in per cent of the path's length, and degrees of rotation."""
    should = truth[0].inv() * truth
    length = float(np.linalg.norm(np.diff(should.translation, axis=0), axis=-1).sum())
    off = np.degrees((should.rotation.inv() * path.rotation).magnitude())

    def ate(kind: metrics.Alignment) -> float:
        return 100 * metrics.absolute_error(path.translation, should.translation, kind) / length

    return {
        "path_cm": round(100 * length, 1),
        "ate_percent": round(ate("similarity"), 2),
        "ate_scale_percent": round(ate("scale"), 2),
        "rotation_median_deg": round(float(np.median(off)), 2),
        "rotation_max_deg": round(float(off.max()), 2),
    }


def ego_motion(view: View) -> dict[str, Any]:
    """Errors over the whole clip and over windows of two seconds, by method."""
    end = float(view.times[-1])
    spans = {"whole": (0.0, end)}
    spans |= {f"{s}-{s + 2} s": (s, s + 2.0) for s in range(int(end - 0.9))}
    result: dict[str, Any] = {}
    for name, span in spans.items():
        part = during(view, *span)
        for method, path in camera_paths(part).items():
            result.setdefault(method, {})[name] = path_error(path, part.path)
    return result


def object_paths(perceived: Perceived, around: View) -> dict[str, RigidTransform]:
    """T poses T_world_object by `object_motion.solve`, and by the joint estimate with three depths.

    `at_rest` is what triangulation knows before the touch. The others go on through the motion and
    are made from what `solve` found, so that they are not independent of it.
    """
    view = perceived.object
    moved = solve(view, perceived.points, perceived.start)
    throughout = view.from_object(moved.motion).local(moved.points)[..., 2]
    far = around.local(triangulate(around).points)[..., 2]
    at_rest = view.local(perceived.points)[..., 2]
    at_rest[max(perceived.start - 2, 0) :] = np.nan
    both = replace(view, xy=np.concatenate((view.xy, around.xy), 1))
    wrong = network_like(np.concatenate((throughout, far), 1), both, np.random.default_rng(0))
    given = {
        "at_rest": (at_rest, far),
        "throughout": (throughout, far),
        "network_like": (wrong[:, : view.count], wrong[:, view.count :]),
    }
    paths = {"solve": moved.motion}
    for name, (near, away) in given.items():
        observed = Observed(
            view.camera, view.times,
            TrackedPoints(view.xy, view.visible, near),
            TrackedPoints(around.xy, around.visible, away), view.path,
        )  # fmt: skip
        paths["joint, " + name] = view.path[0] * estimate(observed).object
    return paths


def carried(poses: RigidTransform, grip: Floats) -> Floats:
    """(T,) metres between a point (T, 3) of the hand and the one place in the object's frame that
    stays nearest to it (geometric median)."""
    local = np.stack([pose.inv().apply(at) for pose, at in zip(poses, grip, strict=True)])
    place = local.mean(0)
    for _ in range(20):
        weight = 1 / np.maximum(np.linalg.norm(local - place, axis=-1), 1e-4)
        place = weight @ local / weight.sum()
    return np.linalg.norm(local - place, axis=-1)


def with_hand(clip: Clip, perceived: Perceived, poses: RigidTransform) -> dict[str, Any]:
    """How far the object is from where the right hand's fingertips carry it; centimetres."""
    times = perceived.object.times
    hands = corpora.get("egodex").recording(clip).hands
    (hand,) = (hand for hand in hands if hand.side == "right")
    held = np.flatnonzero((times > HELD[0]) & (times < HELD[1]))
    result = {}
    for name, lag in (("recorded_clock", 0.0), ("flow_clock", HAND_LAG)):
        tips = hand.at(times[held] + perceived.clock_offset + lag)[:, list(hand.tips[:2])]
        off = 100 * carried(poses[held], tips.mean(1))
        middle, most = np.percentile(off, (50, 90)).round(2).tolist()
        result[name] = {"median_cm": middle, "p90_cm": most}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of the two clips")
    parser.add_argument("--fps", type=float, default=30.0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    ego, thing = dict[str, Any](), dict[str, Any]()
    for uid in (STAPLER, LID):
        clip = clip_of(args.data, uid)
        background = background_of(clip, args.fps)
        ego[uid] = ego_motion(background)
        try:
            perceived = GeometricPipeline(fps=args.fps).perceive(clip)
            paths = object_paths(perceived, background)
            thing[uid] = {name: with_hand(clip, perceived, path) for name, path in paths.items()}
        except Rejection as error:
            thing[uid] = {"rejected": error.reason}
    result = {"fps": args.fps, "ego_motion": ego, "object": thing}
    print(table(result), file=sys.stderr)
    print(json.dumps(result))


def table(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = []
    for uid, methods in result["ego_motion"].items():
        lines.append(f"\n{uid:30} {'span':10} ATE %  scaled  degrees  worst")
        for method, spans in methods.items():
            for span, e in spans.items():
                cells = [e[key] for key in list(e)[1:]]
                lines.append(f"  {method:28} {span:8} " + " ".join(f"{c:8}" for c in cells))
    for uid, methods in result["object"].items():
        lines.append(f"\n{uid}: cm from the fingertips while held, median / 90 %; flow's clock")
        for method, of in methods.items():
            told = of if isinstance(of, str) else "   ".join(
                f"{e['median_cm']} / {e['p90_cm']}" for e in of.values()
            )  # fmt: skip
            lines.append(f"  {method:28} {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
