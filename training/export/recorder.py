"""A LeRobotDataset v3.0 that grows by an episode at a time, for demonstrations and recordings.

Each episode has files of its own. What `meta/episodes` says of it is written last, whole, so a
writer that is killed leaves whole episodes, and the next one goes on after them. `finish` writes
what is said of all; a reader needs that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from ego_ops.errors import UserError
from ego_ops.lerobot_names import EPISODES, SOURCE
from ego_ops.storage import LocalStore
from ego_ops.storage_errors import unwritable
from training.data.lerobot_layout import DATA, VIDEO, Form, info, place
from training.export import video as export_video
from training.export.episodes import about_episodes, numbers, pixel_levels, sync, write_numbers
from training.export.file import PIXELS
from training.export.meta import write_whole
from training.export.plan import Planned

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Recorded:
    """One episode of T steps."""

    instruction: str
    images: Mapping[str, Sequence[Image]]
    """By camera of the form: T pictures (H, W, 3), RGB."""
    state: ArrayLike
    """(T, S)."""
    action: ArrayLike
    """(T, A): what was done at each step."""
    source: str = ""
    """Where it comes from, in words of whoever records: see `Recorder.sources`."""


class Recorder:
    """Adds episodes to a dataset's folder; see `opened`."""

    def __init__(self, folder: str, form: Form):
        self._root, self._form = Path(folder), form
        tables = [pq.read_table(path, columns=["length", "tasks"]) for path in self._files()]
        self.sources = [table.schema.metadata[SOURCE].decode() for table in tables]
        """Of each episode."""
        self.episodes = len(tables)
        """How many there are."""
        self._frames = sum(int(table["length"][0].as_py()) for table in tables)
        texts = (table["tasks"][0].as_py()[0] for table in tables)
        self._tasks = {text: number for number, text in enumerate(dict.fromkeys(texts))}

    def add(self, episode: Recorded) -> None:
        """Add an episode; once this returns it survives a crash.

        Raises:
            UserError: it is not of the dataset's form, or it cannot be written.
        """
        state, action = (np.asarray(each, np.float32) for each in (episode.state, episode.action))
        self._check(episode, state, action)
        planned = Planned(
            number=self.episodes,
            fps=self._form.fps,
            first_episode=self.episodes,
            first_frame=self._frames,
            parts=[],
            lengths=np.array([len(state)]),
            tasks=np.array([self._tasks.setdefault(episode.instruction, len(self._tasks))]),
            instructions=[episode.instruction],
        )
        try:
            self._write(planned, episode, numbers(planned, state, action))
        except (OSError, av.error.FFmpegError) as error:
            raise unwritable(str(self._root), error) from error
        self.episodes += 1
        self.sources.append(episode.source)
        self._frames += len(state)

    def finish(self) -> None:
        """Write what is said of all episodes.

        Raises:
            UserError: there are none, or it cannot be written.
        """
        if not self.episodes:
            raise UserError(f"{self._root}: no episode was recorded")
        head = info(self._form, export_video.CODEC, self.episodes, self._frames, len(self._tasks))
        try:
            write_whole(self._root, list(self._files()), list(self._tasks), head)
        except OSError as error:
            raise unwritable(str(self._root), error) from error

    def _files(self) -> Iterator[Path]:
        """What is said of each episode, in their order."""
        number = 0
        while (path := self._root / EPISODES.format(**place(number))).exists():
            yield path
            number += 1

    def _check(self, episode: Recorded, state: NDArray, action: NDArray) -> None:
        form, steps = self._form, len(state)
        wanted = [(steps, len(form.state)), (steps, len(form.action))]
        if [state.shape, action.shape] != wanted or not steps:
            raise UserError(
                f"{self._root}: an episode of states {state.shape} and actions {action.shape}: "
                f"they are (steps, {len(form.state)}) and (steps, {len(form.action)}) here"
            )
        if not (np.isfinite(state).all() and np.isfinite(action).all()):
            raise UserError(f"{self._root}: an episode with numbers that are not finite")
        for camera, size in form.cameras.items():
            shapes = {np.shape(image) for image in episode.images.get(camera, ())}
            count = len(episode.images.get(camera, ()))
            if count != steps or shapes != {(*size, 3)}:
                raise UserError(
                    f"{self._root}: {camera} has {count} pictures of {sorted(shapes)}: it must "
                    f"have {steps} of {(*size, 3)}"
                )

    def _write(self, planned: Planned, episode: Recorded, table: pa.Table) -> None:
        at = place(planned.number)
        data = self._root / DATA.format(**at)
        said = self._root / EPISODES.format(**at)
        levels, written = {}, [data]
        for camera, size in self._form.cameras.items():
            film = self._root / VIDEO.format(video_key=camera, **at)
            film.parent.mkdir(parents=True, exist_ok=True)
            export_video.encode(str(film), episode.images[camera], planned.fps, size)
            levels[camera] = pixel_levels(film, planned)
            written.append(film)
        for path in (data, said):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_numbers(data, table, planned.lengths)
        about = about_episodes(planned, table, levels)
        for name, value in at.items():
            about = about.append_column(f"meta/episodes/{name}", pa.array([value]))
        pixels = {camera: counts[0].tolist() for camera, counts in levels.items()}
        head = {PIXELS: json.dumps(pixels).encode(), SOURCE: episode.source.encode()}
        about = about.replace_schema_metadata(head)
        aside = said.with_suffix(".aside")
        pq.write_table(about, aside)
        for path in (*written, aside):
            sync(path)
        os.replace(aside, said)


@contextmanager
def opened(folder: str, form: Form) -> Iterator[Recorder]:
    """A dataset to add episodes to, begun if it is not there; finished at the end, after errors
    too.

    Raises:
        UserError: another process writes it, it is of another form, or it cannot be written.
    """
    where = LocalStore(folder)
    head = info(form, export_video.CODEC, 0, 0, 0)
    with where.lock(".lock", f"{folder}: another process records there"):
        _bind(where, head)
        recorder = Recorder(folder, form)
        try:
            yield recorder
        finally:
            if recorder.episodes:
                recorder.finish()


def _bind(where: LocalStore, head: dict[str, Any]) -> None:
    """See that a dataset has this form, or begin one."""
    path = "meta/info.json"
    try:
        found = json.loads(where.read(path))
    except FileNotFoundError:
        where.write(path, json.dumps(head, indent=4).encode())
        return
    except ValueError:
        found = None
    same = isinstance(found, dict) and all(
        found.get(name) == head[name] for name in ("codebase_version", "fps", "features")
    )
    if not same:
        raise UserError(
            f"{where.url}/{path}: a dataset of other cameras, numbers or rate; give another folder"
        )
