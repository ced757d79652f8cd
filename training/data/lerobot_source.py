"""Windows of a LeRobot dataset (v2.0, v2.1 or v3.0). A unit is one episode."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError, hint
from ego_ops.lerobot_names import ACTION, FILLER, STATE
from training.config import SourceConfig
from training.data.keyed import held_out as chosen
from training.data.lerobot_index import read_index, read_info
from training.data.lerobot_unit import LeRobotUnit, read_episode
from training.data.sample import CAMERAS

Part = Literal["train", "held_out", "all"]


class LeRobotSource:
    """Windows of a robot dataset, as `training.data.sample.Source`. Holds some 50 bytes an episode.

    An episode of L frames has L windows; one of `egoscaler export lerobot` has L - 1, and they are
    those of the shards it was made of. Pictures larger than 224 pixels are shrunk to that.

    Args:
        config: where the dataset is, and which of its cameras to take.
        horizon: actions of a window.
        part: `train`, what is `held_out` from training, or `all`; by a hash of the episode's index.
        held_out: share of the episodes held out.

    Raises:
        UserError: it is no LeRobot dataset, one of another version or not whole; it lacks state,
            action or the cameras; or nothing of it is left.
    """

    def __init__(
        self, config: SourceConfig, horizon: int, part: Part = "all", held_out: float = 0.0
    ):
        self.name = config.name or config.kind
        info = read_info(config.path)
        features = info["features"]
        self._features = _cameras(config, features)
        self.cameras = tuple(name for name in CAMERAS if name in self._features.values())
        self.state_size = _width(config, features, STATE)
        self.action_size = _width(config, features, ACTION)
        self._filler = bool((features[ACTION].get("info") or {}).get(FILLER))
        self._horizon = horizon
        self._data = read_index(config.path, tuple(self._features))
        keep = self._data.lengths > self._filler
        if part != "all":
            mask = chosen(self._data.episodes.astype(np.uint64), held_out)
            keep &= mask if part == "held_out" else ~mask
        self._at = np.flatnonzero(keep)
        """Places in the index of this part's episodes."""
        if not len(self._at):
            raise UserError(
                f"{config.path}: no episode is left for {part.replace('_', ' ')} "
                f"(held_out {held_out:g}); change held_out"
            )
        self.digest = self._digest(info)

    def windows(self) -> NDArray[np.int64]:
        """(units,) how many windows each unit has."""
        return self._data.lengths[self._at] - self._filler

    def load(self, unit: int, pictures: bool = True) -> LeRobotUnit:
        """Read an episode: see `training.data.sample.Source.load`."""
        cameras = self._features if pictures else {}
        at = int(self._at[unit])
        episode = read_episode(self._data, at, cameras, self._horizon, self._filler)
        sizes = episode.state.shape[1], episode.action.shape[1]
        if sizes != (self.state_size, self.action_size):
            raise UserError(
                f"{self._data.data_path(at)}: state and action have {sizes} numbers, not "
                f"{(self.state_size, self.action_size)} as meta/info.json says"
            )
        return episode

    def _digest(self, info: dict[str, Any]) -> str:
        config = [info, self._features, self._horizon]
        found = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        data = self._data
        arrays = [data.episodes, data.lengths, data.data, self._at, data.tasks[0]]
        for one in data.videos.values():
            arrays += [one.file, one.begins]
        for array in arrays:
            found.update(array.tobytes())
        found.update("\n".join(data.tasks[1].to_pylist()).encode())
        return found.hexdigest()


def _width(config: SourceConfig, features: dict[str, Any], name: str) -> int:
    shape = features.get(name, {}).get("shape", ())
    if len(shape) != 1:
        raise UserError(
            f"{config.path}: has no feature {name} of one axis; there are {', '.join(features)}"
        )
    return int(shape[0])


def _cameras(config: SourceConfig, features: dict[str, Any]) -> dict[str, str]:
    """π0's camera by feature.

    Raises:
        UserError: a name is not known, two features are for one camera, or there are none.
    """
    there = [name for name, feature in features.items() if _is_picture(feature)]
    chosen: dict[str, str] = {}
    for text in config.cameras:
        feature, equals, camera = text.partition("=")
        where = f"source {config.path}: cameras {text}"
        if not equals:
            raise UserError(f"{where}: not of the form feature=camera")
        if feature not in there:
            raise UserError(f"{where}: no such feature of pictures; {hint(feature, there)}")
        if camera not in CAMERAS:
            raise UserError(f"{where}: π0 has no such camera; {hint(camera, CAMERAS)}")
        if camera in chosen.values():
            raise UserError(f"{where}: {camera} is taken already")
        chosen[feature] = camera
    if not chosen:
        named = {name.rsplit(".", 1)[-1]: name for name in there}
        chosen = {named[camera]: camera for camera in CAMERAS if camera in named}
    if not chosen and there:
        chosen = {there[0]: CAMERAS[0]}
    if not chosen:
        raise UserError(f"{config.path}: has no camera; there are {', '.join(features)}")
    return chosen


def _is_picture(feature: dict[str, Any]) -> bool:
    said = feature.get("info") or {}
    depth = said.get("is_depth_map") or said.get("video.is_depth_map")
    return feature.get("dtype") in ("video", "image") and not depth
