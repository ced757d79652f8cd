"""EgoDex (Apple, arXiv 2505.11709): 1080p 30 Hz headset video with recorded camera and hands.

Layout: `{root}/[part*/]{task}/{n}.mp4` beside `{n}.hdf5`. The HDF5 holds one row a video frame of
`transforms/<joint>` (N, 4, 4), all T_world_joint in metres in ARKit's world (y up) with the
camera's axes as OpenCV's, `camera/intrinsic` (3, 3) in pixels, and the description as attributes.
One file is one clip: the whole recording, named by its language description.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ego_ops.camera import Camera, PosePath
from ego_ops.clip import Clip, clip_id
from ego_ops.corpora.skipped import Skipped
from ego_ops.errors import AnnotationError, MissingFileError, UserError
from ego_ops.recording import Hand, Recording

VERSION = "1.0"
FPS = 30.0
"""Poses are stored one a video frame, without times; the video is 30 Hz throughout."""
PART_OF_HAND = ("Finger", "Thumb", "Hand")


def index(root: str) -> Iterator[Clip | Skipped]:
    """Clips of every HDF5 file below `root`, in the order of their paths.

    Raises:
        UserError: `root` is no folder, or holds no HDF5 file.
    """
    if not Path(root).is_dir():
        raise UserError(f"--root {root}: no such folder")
    found = False
    base = Path(os.path.abspath(root))
    for path in _annotations(base):
        found = True
        yield _clip(base, path)
    if not found:
        raise UserError(
            f"--root {root}: no EgoDex recordings here (looked for {{task}}/{{n}}.hdf5)"
        )


def recording(clip: Clip) -> Recording:
    """Intrinsics, camera path and both hands of a clip.

    Raises:
        MissingFileError: the HDF5 file is not there or cannot be opened.
        AnnotationError: a field is missing, empty or not finite.
    """
    with _open(clip.annotation) as file:
        camera = _camera(file, clip.annotation)
        matrices = _numbers(file, "transforms/camera", (4, 4))
        if matrices is None:
            raise AnnotationError(f"{clip.annotation}: has no poses (N x 4 x 4) transforms/camera")
        transforms = file["transforms"]
        times = np.arange(len(matrices)) / FPS
        try:
            path = PosePath.from_matrices(times, matrices)
        except AnnotationError as error:
            raise AnnotationError(f"{clip.annotation}: {error}") from None
        hands = [_hand(transforms, side, times) for side in ("left", "right")]
    return Recording(camera, path, tuple(hand for hand in hands if hand is not None))


def _annotations(root: Path) -> Iterator[Path]:
    """HDF5 files in a stable order, holding one folder's names at a time.

    Links are followed, since large corpora are often put together from several disks.
    """
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names, key=lambda n: (len(n), n)):
            if name.endswith(".hdf5") and not name.startswith("."):
                yield Path(folder, name)


def _clip(root: Path, path: Path) -> Clip | Skipped:
    relative = path.relative_to(root)
    video = relative.with_suffix(".mp4")
    if not (root / video).exists():
        return Skipped("no_video", str(relative), "the .mp4 beside it is missing")
    try:
        with _open(str(path)) as file:
            attributes = {key: _plain(value) for key, value in file.attrs.items()}
            frames = _frame_count(file)
    except (AnnotationError, MissingFileError) as error:
        return Skipped("bad_annotation", str(relative), str(error))
    if frames < 2:
        return Skipped("bad_annotation", str(relative), f"transforms/camera has {frames} poses")
    narration = _description(attributes)
    if not narration:
        return Skipped("no_description", str(relative), "no language description in attributes")
    # A recording keeps its name whichever folder of parts it was unpacked into.
    uid = "/".join(relative.with_suffix("").parts[-2:])
    end = frames / FPS
    return Clip(
        clip_id=clip_id("egodex", VERSION, uid, 0.0, end, uid),
        corpus="egodex",
        corpus_version=VERSION,
        video_uid=uid,
        root=str(root),
        video_path=str(video),
        annotation_path=str(relative),
        t_start=0.0,
        t_end=end,
        narration=narration,
        verb=_verb(attributes),
        object=_word(attributes.get("llm_objects"), 0),
        interval="whole",
    )


def _open(path: str) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file") from error
    except PermissionError as error:
        raise MissingFileError(f"{path}: may not be read ({error.strerror})") from error
    except OSError as error:
        raise AnnotationError(f"{path}: not a readable HDF5 file ({error})") from error


def _frame_count(file: h5py.File) -> int:
    camera = file.get("transforms/camera")
    if not isinstance(camera, h5py.Dataset):
        raise AnnotationError("has no transforms/camera")
    return int(camera.shape[0]) if camera.shape else 0


def _numbers(group: h5py.Group, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """A field as float64 if it holds numbers and its shape ends in `shape`, else None."""
    data = group.get(key)
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiu":
        return None
    return data[()].astype(float) if data.shape[-len(shape) :] == shape else None


def _camera(file: h5py.File, name: str) -> Camera:
    """The intrinsics; EgoDex keeps the principal point in the middle of the picture."""
    k = _numbers(file, "camera/intrinsic", (3, 3))
    if k is None or k.ndim != 2:
        raise AnnotationError(f"{name}: camera/intrinsic is not a 3 x 3 matrix")
    fx, fy, cx, cy = (float(k[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not np.isfinite(k).all() or not all(
        c > 0 and 0.1 < f / c < 100 for f, c in ((fx, cx), (fy, cy))
    ):
        raise AnnotationError(
            f"{name}: camera/intrinsic cannot be: focal length {fx:g} {fy:g}, centre {cx:g} {cy:g}"
        )
    # Published with the picture's corner as origin; ours is the first pixel's centre.
    return Camera(fx, fy, cx - 0.5, cy - 0.5, round(2 * cx), round(2 * cy))


def _hand(transforms: h5py.Group, side: str, times: np.ndarray) -> Hand | None:
    """A hand of the joints that have a pose for every frame; None where there is no such joint."""
    rows = {}
    for name in sorted(transforms):
        if name.startswith(side) and any(part in name for part in PART_OF_HAND):
            poses = _numbers(transforms, name, (4, 4))
            if poses is not None and poses.shape == (len(times), 4, 4):
                rows[name] = poses[:, :3, 3]
    if not rows:
        return None
    names = list(rows)
    tips = [i for i, name in enumerate(names) if name.endswith(("FingerTip", "ThumbTip"))]
    tips.sort(key=lambda i: "Thumb" not in names[i])  # `Hand.tips` promises the thumb first
    return Hand(side, times, np.stack(list(rows.values()), axis=1), tuple(tips))


def _description(attributes: dict[str, Any]) -> str:
    """The sentence that is true of this recording: of reversible tasks, one of two."""
    second = ("llm_description2",) if _second_way(attributes) else ()
    for key in (*second, "llm_description", "description", "task"):
        text = str(attributes.get(key) or "").strip()
        if text and text != "None":
            return text
    return ""


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _second_way(attributes: dict[str, Any]) -> bool:
    """Whether a reversible task was recorded in its second direction."""
    return str(attributes.get("which_llm_description", "1")) == "2"


def _verb(attributes: dict[str, Any]) -> str:
    """The verb of this recording: a reversible task lists those of both directions."""
    verbs = attributes.get("llm_verbs")
    return _word(verbs, 1 if _second_way(attributes) else 0) or _word(verbs, 0)


def _word(values: Any, place: int) -> str:
    """A word of a list, or a lone word; empty where there is none."""
    values = values if isinstance(values, list | tuple) else [values]
    word = _plain(values[place]) if place < len(values) else ""
    return word if isinstance(word, str) else ""
