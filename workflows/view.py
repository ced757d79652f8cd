"""One clip as a recording for the Rerun viewer: frames, camera, object and their paths."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import tyro

from ego_ops import shards
from ego_ops.errors import UserError
from ego_ops.pipeline import Extraction
from ego_ops.quality import SCORES
from ego_ops.report.record import extraction, source_camera
from ego_ops.storage import store

TIMELINE = "video"
"""Seconds from the start of the video."""
_AXIS = 0.05
_XYZ = ("x right", "y down", "z forward")
_COLOURS = ((224, 69, 58), (46, 158, 79), (59, 125, 224))
_AMBER, _GREY = (255, 176, 0), (138, 143, 152)


@dataclass(frozen=True)
class ViewConfig:
    """Write one clip as a recording for the Rerun viewer."""

    clip: tyro.conf.Positional[str]
    """The clip: its id, the beginning of its id, or its video's uid."""
    shards: str = "shards"
    """Folder (or fsspec URL) of the shards, from `extract`."""
    out: Path = Path("clip.rrd")
    """The recording; open it with `rerun clip.rrd`."""


def run(config: ViewConfig) -> Path:
    """Write the recording and say where it is.

    Raises:
        UserError: no such clip or several, the clip has no trajectory, the file cannot be written,
            or the extra `view` is not installed.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise UserError("view needs rerun-sdk: pip install 'egoscaler-ray[view]'") from error
    row = find(config.shards, config.clip)
    found = extraction(row)
    if found is None:
        end = row["reason"] or row["error_class"]
        raise UserError(
            f"clip {row['clip_id']} ({row['video_uid']}) has no trajectory: "
            f"{row['status']}, {end} ({row['detail']})"
        )
    _write(rerun, row, found, config.out)
    print(f"wrote {config.out} ({config.out.stat().st_size / 1e6:.1f} MB): rerun {config.out}")
    return config.out


def find(url: str, name: str) -> dict[str, Any]:
    """The whole row of the clip that `name` means: an id, the beginning of one, or a video's uid.

    Raises:
        UserError: nothing is committed, or not exactly one clip is meant; says which are close.
    """
    parts = dict[str, str]()
    for part, ids in shards.parts(url, None):
        parts.update(dict.fromkeys(ids, part))
    if not parts:
        raise UserError(f"--shards {url}: nothing is committed there; run `extract` first")
    meant = [name] if name in parts else [i for i in parts if name and i.startswith(name)]
    if not meant:
        meant = _of_video(url, name)
    if len(meant) > 1:
        more = ", ..." if len(meant) > 5 else ""
        raise UserError(f"{name!r} means {len(meant)} clips: {', '.join(sorted(meant)[:5])}{more}")
    return shards.read_part(store(url), parts[meant[0]], meant).to_pylist()[0]


def _of_video(url: str, name: str) -> list[str]:
    """Ids of the clips of one video; raises UserError if there is no such video."""
    uids = {
        row["clip_id"]: row["video_uid"]
        for table in shards.read(url, ["clip_id", "video_uid"], status=None)
        for row in table.to_pylist()
    }
    meant = [clip_id for clip_id, uid in uids.items() if uid == name]
    if meant:
        return meant
    names = sorted({*uids, *uids.values()})
    # Any three, when none is like it, say what names look like here.
    close = difflib.get_close_matches(name, names, 3) or list(uids.values())[:3]
    raise UserError(f"{url}: no clip {name!r} among {len(uids)}; close: {', '.join(close)}")


def _write(rr: ModuleType, row: Mapping[str, Any], found: Extraction, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(b"")  # the SDK only logs that it cannot write
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    stream = rr.RecordingStream("egoscaler", recording_id=row["clip_id"])
    stream.save(out, default_blueprint=_blueprint(rr, found))
    stream.send_recording_name(f"{row['video_uid']} {row['narration']}")
    times = [rr.TimeColumn(TIMELINE, duration=found.timestamps)]
    _log_still(rr, stream, row, found)
    _log_poses(rr, stream, times, found)
    if found.frames:
        columns = rr.EncodedImage.columns(
            blob=found.frames, media_type=["image/jpeg"] * len(found.frames)
        )
        stream.send_columns("world/camera/image", times, columns)
    stream.flush()
    stream.disconnect()


def _log_still(rr: ModuleType, stream: Any, row: Mapping[str, Any], found: Extraction) -> None:
    """What does not change with time; the world is the first camera's frame."""
    stream.log("world", rr.ViewCoordinates.RDF, static=True)
    camera = source_camera(found).letterboxed(224)  # that of the shards' frames
    pinhole = rr.Pinhole(
        image_from_camera=camera.matrix,
        width=camera.width,
        height=camera.height,
        camera_xyz=rr.ViewCoordinates.RDF,
        image_plane_distance=0.12,
    )
    stream.log("world/camera/image", pinhole, static=True)
    paths = (("object_path", found.position, _AMBER),
             ("camera_path", found.camera_position, _GREY))  # fmt: skip
    for name, path, colour in paths:
        strip = rr.LineStrips3D([path], colors=[colour], radii=[0.0015])
        stream.log(f"world/{name}", strip, static=True)
    stream.log("world/object", rr.TransformAxes3D(_AXIS), static=True)
    stream.log("plots/position", rr.SeriesLines(names=_XYZ, colors=_COLOURS), static=True)
    observed = rr.SeriesLines(names=["observed"], colors=[_GREY])
    stream.log("plots/observed", observed, static=True)
    about = rr.TextDocument(_about(row, found), media_type="text/markdown")
    stream.log("about", about, static=True)


def _log_poses(rr: ModuleType, stream: Any, times: Sequence[Any], found: Extraction) -> None:
    poses = {
        "world/object": (found.position, found.rotation),
        "world/camera": (found.camera_position, found.camera_rotation),
    }
    for entity, (position, rotation) in poses.items():
        columns = rr.Transform3D.columns(translation=position, quaternion=rotation)
        stream.send_columns(entity, times, columns)
    count = len(found.timestamps)
    position = rr.Scalars.columns(scalars=found.position.ravel()).partition([3] * count)
    stream.send_columns("plots/position", times, position)
    observed = rr.Scalars.columns(scalars=found.visible.astype(float))
    stream.send_columns("plots/observed", times, observed)


def _about(row: Mapping[str, Any], found: Extraction) -> str:
    scores = "\n".join(
        f"| {name} | {found.quality[name]:.4g} | {meaning} |"
        for name, meaning in SCORES.items()
        if name in found.quality
    )
    return (
        f"# {row['narration']}\n\n{row['corpus']} {row['video_uid']}, "
        f"{row['t_start']:.2f} to {row['t_end']:.2f} s, clip {row['clip_id']}\n\n"
        f"| score | value | meaning |\n|---|---|---|\n{scores}\n"
    )


def _blueprint(rr: ModuleType, found: Extraction) -> Any:
    """The layout; the eye looks from the wearer's left, so that no picture hides the paths."""
    from rerun import blueprint as rrb

    eye = rrb.EyeControls3D(
        position=(-0.55, -0.45, 0.0), look_target=found.position.mean(0) * 0.7, eye_up=(0, -1, 0)
    )
    camera = rrb.Spatial2DView(
        origin="world/camera/image", contents="world/**", name="through the camera"
    )
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Spatial3DView(origin="world", name="first camera frame (m)", eye_controls=eye),
            rrb.Vertical(
                camera,
                rrb.TimeSeriesView(origin="plots", name="position (m), observed (0 or 1)"),
                rrb.TextDocumentView(origin="about", name="about"),
                row_shares=[3, 2, 2],
            ),
            column_shares=[3, 2],
        ),
        collapse_panels=True,
    )
