"""Pipelines for tests of the machinery around them: quick, deterministic, and badly behaved.

`Scripted` does to each clip what the clip's verb says. Its trajectories depend on the clip alone.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ego_ops import manifest
from ego_ops.clip import Clip, clip_id
from ego_ops.errors import MissingFileError, Rejection, StorageError
from ego_ops.pipeline import Extraction

JPEG = b"\xff\xd8\xff\xd9"


def trajectory(clip: Clip) -> Extraction:
    """A random trajectory of 2 to 9 steps that depends on nothing but the clip's id."""
    random = np.random.default_rng(int(clip.clip_id, 16))
    count = int(random.integers(2, 10))
    return Extraction(
        fps=10.0,
        timestamps=clip.t_start + np.arange(count) / 10,
        position=random.normal(size=(count, 3)),
        rotation=Rotation.random(count, rng=random).as_quat(),
        camera_position=random.normal(size=(count, 3)),
        camera_rotation=Rotation.random(count, rng=random).as_quat(),
        visible=random.random(count) < 0.8,
        intrinsics=np.array([500.0, 500.0, 320.0, 240.0]),
        image_size=(640, 480),
        frames=[JPEG + random.bytes(20) for _ in range(count)],
        quality={"travel_m": float(random.random())},
    )


class Scripted:
    """Does what the clip's verb says; a verb ending in "-solve" acts in the second half.

    Args:
        seconds: time that each half sleeps on a clip.
        state: folder in which every begun half leaves a line: `<half> <clip_id> <verb>`.
    """

    def __init__(self, seconds: float = 0.0, state: str = ""):
        self._seconds = seconds
        self._state = state

    def perceive(self, clip: Clip) -> bytes:
        self._act("perceive", clip, "" if clip.verb.endswith("-solve") else clip.verb)
        return clip.clip_id.encode()

    def solve(self, clip: Clip, perceived: bytes) -> Extraction:
        assert perceived == clip.clip_id.encode()
        self._act("solve", clip, clip.verb.removesuffix("-solve") if "-" in clip.verb else "")
        result = trajectory(clip)
        if clip.verb == "invalid":
            result.position[-1, 0] = np.nan
        return result

    def _act(self, half: str, clip: Clip, verb: str) -> None:
        before = self._note(half, clip)
        time.sleep(self._seconds)
        if verb == "recover" and before:
            return
        actions: dict[str, Callable[[], object]] = {
            "reject": lambda: _throw(Rejection("no_object", "0 of 9 frames show it")),
            "missing": lambda: _throw(MissingFileError("video.mp4: not there")),
            "flaky": lambda: _throw(StorageError("timed out")),
            "recover": lambda: _throw(StorageError("timed out")),
            "bug": lambda: _throw(KeyError("nobody thought of it")),
            "memory": lambda: _throw(MemoryError("too much")),
            "segfault": lambda: ctypes.string_at(0),
            "exit": lambda: os._exit(7),
            "hang": lambda: time.sleep(3600),
        }
        actions.get(verb, lambda: None)()

    def _note(self, half: str, clip: Clip) -> int:
        """Count this call. Returns how many there were before."""
        if not self._state:
            return 0
        line = f"{half} {clip.clip_id} {clip.verb}\n"
        path = Path(self._state) / clip.clip_id
        with open(path, "a+") as file:
            file.seek(0)
            before = file.read().count(f"{half} ")
            file.write(line)
        return before


class Burn:
    """Spends a fixed time of its own CPU on each clip, whatever else the machine does."""

    def __init__(self, perceive_s: float = 0.0, solve_s: float = 0.0):
        self._perceive_s = perceive_s
        self._solve_s = solve_s

    def perceive(self, clip: Clip) -> bytes:
        _burn(self._perceive_s)
        return b""

    def solve(self, clip: Clip, perceived: bytes) -> Extraction:
        _burn(self._solve_s)
        return trajectory(clip)


def clips(count: int, verbs: tuple[str, ...] = ("",), corpus: str = "toy") -> Iterator[Clip]:
    """Clips of a corpus that has no files, whose verbs go round."""
    for i in range(count):
        video, start = f"video-{i // 20:05d}", float(i % 20)
        yield Clip(
            clip_id=clip_id(corpus, "1", video, start, start + 1, str(i)),
            corpus=corpus,
            corpus_version="1",
            video_uid=video,
            root="/nowhere",
            video_path=f"{video}.mp4",
            annotation_path="",
            t_start=start,
            t_end=start + 1,
            narration=f"does thing {i}",
            verb=verbs[i % len(verbs)],
        )


def write_manifest(folder: Path, count: int, verbs: tuple[str, ...] = ("",)) -> str:
    url = str(folder / "manifest")
    manifest.write(url, clips(count, verbs))
    return url


def _burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def _throw(error: Exception) -> None:
    raise error
