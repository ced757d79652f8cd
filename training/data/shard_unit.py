"""One Parquet part in memory: the windows of its clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ego_ops import rows, shards
from ego_ops.curation import smoothed
from ego_ops.errors import UserError
from ego_ops.geometry.actions import IDENTITY, actions
from ego_ops.jpeg import decode
from ego_ops.storage import Store
from training.data.sample import Window

_WIDTHS = {"position": 3, "rotation": 4, "camera_position": 3, "camera_rotation": 4, "action": 9}
_WORDS = ("narration", "verb", "object")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ShardUnit:
    """The windows of n clips, of all their T steps together."""

    place: str
    """Names the part, for errors."""
    ids: list[str]
    instructions: list[str]
    first: NDArray[np.int64]
    """(n + 1,) how many steps come before each clip's."""
    state: Floats
    """(T, 9) T_camera_object."""
    action: Floats
    """(T, 9); a clip's last is that of standing still."""
    frames: pa.Array | None
    """(T,) JPEGs; None where they were left out."""
    horizon: int

    def window(self, number: int) -> Window:
        """The window of that number; its picture is decoded here.

        Raises:
            UserError: the picture is damaged.
        """
        # Each clip has one window less than it has steps.
        before = self.first - np.arange(len(self.first))
        clip = int(np.searchsorted(before, number, side="right")) - 1
        step, end = number + clip, int(self.first[clip + 1]) - 1
        count = min(self.horizon, end - step)
        chunk = np.tile(IDENTITY.astype(np.float32), (self.horizon, 1))
        chunk[:count] = self.action[step : step + count]
        images = {} if self.frames is None else {"base_0_rgb": self._picture(step, clip)}
        return Window(
            images, self.instructions[clip], self.state[step], chunk,
            np.arange(self.horizon) < count,
        )  # fmt: skip

    def states(self) -> Floats:
        """(windows, 9)."""
        return self.state[self._begins()]

    def steps(self) -> Floats:
        """(windows, 9)."""
        return self.action[self._begins()]

    def _begins(self) -> NDArray[np.bool_]:
        """(T,) whether a window begins at each step."""
        mask = np.ones(len(self.state), bool)
        mask[self.first[1:] - 1] = False
        return mask

    def _picture(self, step: int, clip: int) -> NDArray[np.uint8]:
        assert self.frames is not None
        image = decode(self.frames[step].as_buffer())
        if image is None:
            where = f"step {step - int(self.first[clip])}"
            raise _bad(self.place, self.ids[clip], f"the frame of {where} is no whole JPEG")
        return image


def read_rows(where: Store, part: str, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Columns of some rows of a part, as `ego_ops.shards.read_part`.

    Raises:
        UserError: the part is damaged, lacks some of the rows, or is of another schema version.
    """
    table = shards.read_part(where, part, ids, ["clip_id", *columns])
    version = (table.schema.metadata or {}).get(b"egoscaler_rows", b"none").decode()
    if version != str(rows.VERSION):
        raise UserError(
            f"{where.url}/{part}: rows of schema version {version}, this program reads "
            f"{rows.VERSION}: extract them again, or use the program that wrote them"
        )
    if len(table) != len(ids):
        raise UserError(
            f"{where.url}/{part}: has {len(table)} of {len(ids)} clips that were asked for; "
            "if there is a selection, make it again with `curate`"
        )
    return table


def read_unit(
    where: Store, part: str, ids: Sequence[str], horizon: int, smooth: int, pictures: bool
) -> ShardUnit:
    """Read the clips of `ids` from a part.

    Args:
        smooth: steps of the moving mean over the object's poses; 1 takes them as they are.
        pictures: False leaves the frames out.

    Raises:
        UserError: it cannot be read, or a clip has not what training needs.
    """
    names = [*_WIDTHS, *_WORDS, *(["frames"] if pictures else [])]
    table = read_rows(where, part, ids, names).combine_chunks()
    place = f"{where.url}/{part}"
    lengths = _lengths(table, place)
    first = np.concatenate([[0], np.cumsum(lengths)])
    flat = {name: _numbers(table, name, first, place) for name in _WIDTHS}
    poses = flat["position"], flat["rotation"]
    action = flat["action"]
    if smooth > 1:
        poses, action = _smooth(*poses, first, smooth)
    camera = flat["camera_position"], flat["camera_rotation"]
    return ShardUnit(
        place=place,
        ids=table["clip_id"].to_pylist(),
        instructions=_instructions(table),
        first=first,
        state=_states(*poses, *camera),
        action=action.astype(np.float32, copy=False),
        frames=table["frames"].chunk(0).flatten() if pictures else None,
        horizon=horizon,
    )


def _lengths(table: pa.Table, place: str) -> NDArray[np.int64]:
    """(n,) steps of each clip. Raises UserError where columns of a clip disagree."""
    names = [name for name in (*_WIDTHS, "frames") if name in table.column_names]
    counts = {
        name: pc.fill_null(pc.list_value_length(table[name]), 0).to_numpy().astype(np.int64)
        for name in names
    }
    for name, count in counts.items():
        wrong = np.flatnonzero(count != counts["position"])
        if len(wrong):
            at = int(wrong[0])
            what = f"{count[at]} of {name} for {counts['position'][at]} steps"
            raise _bad(place, table["clip_id"][at].as_py(), what)
    return counts["position"]


def _numbers(table: pa.Table, name: str, first: NDArray[np.int64], place: str) -> Floats:
    """(T, width) of all clips. Raises UserError where a number is not finite."""
    steps = table[name].chunk(0).flatten()
    if steps.null_count:
        steps = steps.fill_null(pa.scalar([np.nan] * _WIDTHS[name], steps.type))
    values = steps.flatten().to_numpy(zero_copy_only=False).reshape(-1, _WIDTHS[name])
    sound = np.isfinite(values).all(1)
    if name.endswith("rotation"):
        sound &= np.abs(np.linalg.norm(values, axis=1) - 1) < 1e-2
    if not sound.all():
        step = int(np.argmin(sound))
        clip = int(np.searchsorted(first, step, side="right")) - 1
        kind = "no quaternion" if np.isfinite(values[step]).all() else "not finite"
        what = f"{name} of step {step - int(first[clip])} is {kind}"
        raise _bad(place, table["clip_id"][clip].as_py(), what)
    return values


def _smooth(
    position: Floats, rotation: Floats, first: NDArray[np.int64], window: int
) -> tuple[tuple[Floats, Floats], Floats]:
    """Poses smoothed clip by clip, and the actions between them."""
    spans = list(zip(first[:-1].tolist(), first[1:].tolist(), strict=True))
    paths = [smoothed(position[a:b], rotation[a:b], window) for a, b in spans]
    moved = np.concatenate([actions(*path) for path in paths])
    place, turn = (np.concatenate(each) for each in zip(*paths, strict=True))
    return (place, turn), moved


def _states(position: Floats, rotation: Floats, eye: Floats, gaze: Floats) -> Floats:
    """(T, 9) T_camera_object, from T_first_object and T_first_camera."""
    back = Rotation.from_quat(gaze).inv()
    place = back.apply(position - eye)
    matrix = (back * Rotation.from_quat(rotation)).as_matrix()
    return np.concatenate([place, matrix[:, :, 0], matrix[:, :, 1]], axis=1).astype(np.float32)


def _instructions(table: pa.Table) -> list[str]:
    columns = (table[name].to_pylist() for name in _WORDS)
    return [
        (narration or "").strip() or f"{verb or ''} {thing or ''}".strip()
        for narration, verb, thing in zip(*columns, strict=True)
    ]


def _bad(place: str, clip: str, what: str) -> UserError:
    return UserError(
        f"{place}: clip {clip}: {what}; delete the part and run `extract` again, "
        "or leave the clip out by a selection"
    )
