"""Windows of committed shards: what the camera sees, where the object is, how it moves on.

A unit is one Parquet part. A clip of T steps has T - 1 windows, t = 0 to T - 2: the picture of step
t, the narration, the object's pose in the camera frame of step t (metres, and the first two columns
of its rotation matrix: 9 numbers), and the shard's actions from t on, then the action of standing
still, marked as not recorded.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ego_ops import shards
from ego_ops.curation import selected
from ego_ops.errors import UserError, hint
from ego_ops.quality_policy import FENCED, PRESETS, Bound, Policy, bounds, tried
from ego_ops.quality_select import Sample
from ego_ops.storage import Store, store
from training.config import SourceConfig
from training.data.keyed import held_out as chosen
from training.data.shard_unit import ShardUnit, read_rows, read_unit

Part = Literal["train", "held_out", "all"]
_LENGTH = "visible"
"""The smallest column that tells how many steps a clip has."""


class ShardSource:
    """Windows of committed shards, as `training.data.sample.Source`. Holds 12 bytes a clip.

    Args:
        config: where the shards are, and which of their clips to take.
        horizon: actions of a window.
        part: `train`, what is `held_out` from training, or `all`; by a hash of each clip's video,
            so that clips that overlap are on one side (of its id, where all are of one video).
        held_out: share of the videos held out.

    Raises:
        UserError: nothing is left to train on, shards or selection cannot be read, or the
            configuration asks for what is not there.
    """

    state_size = 9
    action_size = 9
    cameras: tuple[str, ...] = ("base_0_rgb",)

    def __init__(
        self, config: SourceConfig, horizon: int, part: Part = "all", held_out: float = 0.0
    ):
        if config.smooth < 1 or config.smooth % 2 == 0:
            raise UserError(f"source {config.path}: smooth={config.smooth} must be odd")
        self.name = config.name or config.kind
        self._url, self._smooth, self._horizon = config.path, config.smooth, horizon
        clips, videos = _index(config)
        if part != "all":
            several = (videos != videos[0]).any()
            mask = chosen(videos if several else clips.ids, held_out)
            clips = clips.only(mask if part == "held_out" else ~mask)
            if not len(clips.ids):
                raise UserError(
                    f"{config.path}: no clip is left for {part.replace('_', ' ')} "
                    f"(held_out {held_out:g}); extract more, or change held_out"
                )
        self._clips = clips
        self.digest = clips.digest(f"{horizon} {config.smooth}")

    def windows(self) -> NDArray[np.int64]:
        """(units,) how many windows each unit has."""
        return np.add.reduceat(self._clips.steps.astype(np.int64) - 1, self._clips.begins)

    def load(self, unit: int, pictures: bool = True) -> ShardUnit:
        """Read a part: see `training.data.sample.Source.load`."""
        part, ids = self._clips.of(unit)
        return read_unit(self._store, part, ids, self._horizon, self._smooth, pictures)

    @functools.cached_property
    def _store(self) -> Store:
        return store(self._url)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_store"}


@dataclass(frozen=True)
class _Clips:
    """Of n clips, part by part."""

    ids: NDArray[np.uint64]
    steps: NDArray[np.int32]
    parts: list[str]
    begins: NDArray[np.int64]
    """(parts,) the index of each part's first clip."""

    def only(self, keep: NDArray[np.bool_]) -> _Clips:
        """Some of the clips, and the parts that still have any."""
        counts = np.add.reduceat(keep.astype(np.int64), self.begins)
        parts = [part for part, count in zip(self.parts, counts, strict=True) if count]
        return _Clips(self.ids[keep], self.steps[keep], parts, _begins(counts[counts > 0]))

    def of(self, number: int) -> tuple[str, list[str]]:
        """A part and the ids of its clips."""
        begin = int(self.begins[number])
        end = int(self.begins[number + 1]) if number + 1 < len(self.begins) else len(self.ids)
        return self.parts[number], [f"{clip:016x}" for clip in self.ids[begin:end].tolist()]

    def digest(self, config: str) -> str:
        """Differs wherever windows or their order may."""
        found = hashlib.sha256(config.encode())
        found.update("\n".join(self.parts).encode())
        for array in (self.begins, self.ids, self.steps):
            found.update(array.tobytes())
        return found.hexdigest()


def _begins(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(counts) - counts


def _index(config: SourceConfig) -> tuple[_Clips, NDArray[np.uint64]]:
    """The clips that the configuration asks for, with two steps or more, and their videos'
    hashes."""
    where = store(config.path)
    limits = _limits(config, where)
    scores = list(dict.fromkeys(limit.score for limit in limits))

    def look(item: tuple[str, list[str]]) -> tuple[str, int, NDArray, NDArray, NDArray]:
        table = read_rows(where, *item, [_LENGTH, "corpus", "video_uid", *scores])
        steps = pc.fill_null(pc.list_value_length(table[_LENGTH]), 0).to_numpy()
        keep = (steps > 1) & ~tried(limits, _scores(table, scores), len(table)).any(0)
        ids = np.array([int(text, 16) for text in table["clip_id"].to_pylist()], np.uint64)
        return item[0], len(table), ids[keep], steps[keep].astype(np.int32), _videos(table)[keep]

    found = list(where.each(look, _parts(config)))
    some = [each for each in found if len(each[2])]
    if not some:
        raise UserError(_nothing(config, sum(each[1] for each in found)))
    parts, _, *columns = (list(each) for each in zip(*some, strict=True))
    begins = _begins(np.array([len(each) for each in columns[0]], np.int64))
    ids, steps, videos = map(np.concatenate, columns)
    return _Clips(ids, steps, parts, begins), videos


def _videos(table: pa.Table) -> NDArray[np.uint64]:
    """A hash of each row's corpus and video."""
    names = pc.binary_join_element_wise(table["corpus"], table["video_uid"], "/")
    coded = names.combine_chunks().dictionary_encode()
    hashes = [
        int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        for name in coded.dictionary.to_pylist()
    ]
    return np.array(hashes, np.uint64)[coded.indices.to_numpy()]


def _parts(config: SourceConfig) -> Iterator[tuple[str, list[str]]]:
    if config.selection is None:
        return shards.parts(config.path)
    return selected(config.selection, config.path).parts()


def _nothing(config: SourceConfig, clips: int) -> str:
    """Why there is nothing to train on."""
    if clips:
        why = f" within limits {', '.join(config.limits)}" if config.limits else ""
        return f"{config.path}: none of {clips} clips has two steps{why}: nothing to train on"
    if config.selection:
        return f"{config.selection}: selects no clip; choose others with `curate`"
    return f"{config.path}: no trajectory is committed there; run `extract` first"


def _limits(config: SourceConfig, where: Store) -> list[Bound]:
    """The limits of a source, as `egoscaler curate` has them."""
    policy, changes = Policy(), {}
    known = [field.name for field in fields(Policy)]
    for text in config.limits:
        name, _, value = text.partition("=")
        try:
            if name == "policy":
                if value not in PRESETS:
                    raise ValueError(f"no such policy; {hint(value, PRESETS)}")
                policy = PRESETS[value]
                continue
            if name not in known:
                raise ValueError(f"no such limit; {hint(name, [*known, 'policy'])}")
            changes[name] = float(value)
        except ValueError as error:
            raise UserError(f"source {config.path}: limits {text}: {error}") from error
    policy = policy.with_changes(Policy(**changes))
    sample = Sample(FENCED)
    if policy.fence is not None:
        for part, ids in shards.parts(config.path):
            table = read_rows(where, part, ids, FENCED)
            sample.add(table["clip_id"].to_numpy(), _scores(table, FENCED))
    return bounds(policy, sample.scores()[0])


def _scores(table: pa.Table, names: tuple[str, ...] | list[str]) -> dict[str, NDArray[np.float32]]:
    """(n,) scores by name, NaN where a clip has none."""
    return {
        name: pc.fill_null(table[name], float("nan")).to_numpy().astype(np.float32, copy=False)
        for name in names
    }
