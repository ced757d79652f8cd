"""Episodes of a robot as a LeRobot dataset.

    DIR/journals/*.journal          the episode that goes on: see `robot.recording`
    DIR/data, videos, meta          episodes that have ended, `FPS` frames a second
    DIR/extra/episode_000000.parquet  every tick of one: times, commands, latency, clips, state

A frame has the newest observation's pictures and state, and the command of its time. A journal is
removed once its episode is committed; one that a killed process has left becomes an episode when
the next one begins to record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.jpeg import decode
from ego_ops.storage_errors import unwritable
from robot.loop_config import Tick
from robot.recording import Entry, Journal, entries
from robot.robot import Floats, Observation, Robot

if TYPE_CHECKING:
    from training.data.lerobot_layout import Form
    from training.export.recorder import Recorder

FPS = 10
"""Frames a second of a dataset."""
_IMAGES = "observation.images."
_POSE = ["x", "y", "z", "qx", "qy", "qz", "qw", "opening"]


class Watched:
    """A robot whose observations are written, and which is otherwise the robot."""

    def __init__(self, robot: Any, journal: Journal):
        self._robot, self._journal = robot, journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._robot, name)

    def observe(self) -> Observation:
        """See `Robot.observe`."""
        seen = self._robot.observe()
        self._journal.observe(seen)
        return seen


class Tape:
    """Records one episode after another; see `recording`."""

    def __init__(self, recorder: Recorder, folder: Path, instruction: str):
        self._recorder, self._folder, self._instruction = recorder, folder, instruction
        self._journal: Journal | None = None

    def watched(self, robot: Robot) -> Any:
        """Begin an episode of this robot. Raises UserError: it cannot be written."""
        path = self._folder / "journals" / f"{time.time_ns()}.journal"
        self._journal = Journal(path, {"instruction": self._instruction, "robot": robot.name})
        return Watched(robot, self._journal)

    def tick(self, tick: Tick) -> None:
        """Write what was done in a tick."""
        if self._journal is not None:
            said = tick._asdict()
            said["position"], said["command"] = tick.position.tolist(), tick.command.tolist()
            self._journal.add("tick", said)

    def end(self) -> None:
        """Make the episode that was recorded one of the dataset. Raises UserError: see
        `Recorder.add`; the journal is kept then."""
        if self._journal is None:
            return
        journal, self._journal = self._journal, None
        journal.close()
        keep(self._recorder, self._folder, journal.path)
        if journal.problem:
            raise UserError(f"recording ended early: {journal.problem}")


@contextmanager
def recording(folder: str | None, robot: Robot, instruction: str) -> Iterator[Tape | None]:
    """A tape that adds to a dataset; journals that were left there are added first.

    Raises:
        UserError: it is no dataset of this robot, or it cannot be written.
    """
    if folder is None:
        yield None
        return
    from training.export.recorder import opened

    where = Path(folder).expanduser()
    with opened(str(where), form(robot)) as recorder:
        for path in sorted((where / "journals").glob("*.journal")):
            steps = keep(recorder, where, path)
            print(f"{path}: recovered, {steps} frames", flush=True)
        yield Tape(recorder, where, instruction)


def form(robot: Robot) -> Form:
    """Of a dataset of this robot."""
    from training.data.lerobot_layout import Form

    joints = getattr(robot, "joints", [f"joint_{n}" for n in range(robot.size)])
    action = _POSE if robot.kind == "pose" else list(joints)
    cameras = {_IMAGES + name: size for name, size in robot.cameras.items()}
    return Form(robot.name, FPS, cameras, [f"s{n}" for n in range(robot.state_size)], action)


def keep(recorder: Recorder, folder: Path, journal: Path) -> int:
    """Make a journal an episode, and remove it. Returns its frames; 0: it has none, or it is an
    episode already.

    Raises:
        UserError: it cannot be read, or the episode cannot be written.
    """
    steps = 0
    if journal.name not in recorder.sources:
        found = list(entries(journal))
        ticks = [one.values for one in found if one.kind == "tick"]
        seen = [one for one in found if one.kind == "observation"]
        if ticks and seen:
            steps = _add(recorder, folder, journal.name, found[0].values, ticks, seen)
    journal.unlink()
    return steps


def _add(
    recorder: Recorder,
    folder: Path,
    name: str,
    head: Mapping[str, Any],
    ticks: list[Mapping[str, Any]],
    seen: list[Entry],
) -> int:
    from training.export.recorder import Recorded

    done = np.array([tick["time"] for tick in ticks])
    shown = np.array([one.values["time"] for one in seen])
    begin = max(done[0], shown[0])
    last = max(done[-1], begin)
    times = begin + np.arange(int((last - begin) * FPS + 1e-6) + 1) / FPS
    at, near = (np.searchsorted(all_, times, "right") - 1 for all_ in (done, shown))
    films = {
        _IMAGES + camera: [_picture(seen[n].pictures[place]) for n in near]
        for place, camera in enumerate(seen[0].values["cameras"])
    }
    states: Floats = np.array([seen[n].values["state"] for n in near])
    commands: Floats = np.array([ticks[n]["command"] for n in at])
    _extra(folder, recorder.episodes, ticks, begin)
    recorder.add(Recorded(head["instruction"], films, states, commands, name))
    return len(times)


def _picture(jpeg: bytes) -> NDArray[np.uint8]:
    image = decode(jpeg)
    if image is None:
        raise UserError("a journal's picture cannot be decoded")
    return image


def _extra(folder: Path, number: int, ticks: list[Mapping[str, Any]], begin: float) -> None:
    """Every tick, its `time` in seconds from the first frame on."""
    rows = [{**tick, "time": tick["time"] - begin} for tick in ticks]
    schema = pa.schema(
        [("time", pa.float64()), ("late", pa.float64()), ("position", pa.list_(pa.float64()))]
        + [("command", pa.list_(pa.float64())), ("clipped", pa.list_(pa.string()))]
        + [("chunk", pa.int64()), ("latency", pa.float64()), ("state", pa.string())]
    )
    path = folder / "extra" / f"episode_{number:06}.parquet"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".aside")
        pq.write_table(pa.Table.from_pylist(rows, schema), aside)
        os.replace(aside, path)
    except OSError as error:
        raise unwritable(str(path), error) from error
