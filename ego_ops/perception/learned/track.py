"""CoTracker 3 (Karaev et al. 2024, arXiv 2410.11831) through torch.hub, and which tracker to take.

A point that CoTracker follows is found again after something covered it, which Lucas-Kanade cannot
do. It works at 384 x 512 pixels, whatever the frames' size, and so is less exact on large frames.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
import os
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.perception import Tracker
from ego_ops.perception.learned.device import Device, torch_module
from ego_ops.perception.learned.track_windows import Array, Course, spans
from ego_ops.perception.track_lk import LucasKanade
from ego_ops.perception.tracks import Tracks

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

HUB = "facebookresearch/co-tracker:main"
ENTRY = "cotracker3_offline"
WEIGHTS = "scaled_offline.pth"


@dataclass(frozen=True)
class CoTracker:
    """Points followed by CoTracker 3, all of a window of frames at once.

    Its code is not part of any package: `torch.hub` fetches it from GitHub once, or takes it from
    a folder. The network is loaded at the first use, once a process.
    """

    hub: str = HUB
    """Folder with a checkout of CoTracker's repository, or its name on GitHub."""
    checkpoint: str = ""
    """File with the weights (`scaled_offline.pth`); fetched by the hub where empty."""
    device: Device = field(default_factory=Device)
    """On a GPU the network runs in mixed precision: its coordinates stay float32, since half
    precision has steps of half a pixel at pixel 512."""
    every: int = 15
    """Frames between those in which points are chosen. A thing that stays in view is given points
    in each of them: none of its tracks is then far from the frame that it is exact in."""
    most: int = 200
    """Points chosen in one frame."""
    spacing: int = 7
    """Pixels between points of one frame."""
    quality: float = 0.003
    """The weakest corner's strength, as a share of the strongest in the frame."""
    window: int = 60
    """Frames that the network sees at once: what it was trained on."""
    overlap: int = 20
    """Fewest frames that two windows share. A point is handed on in one in which it is visible."""
    chunk: int = 512
    """Points followed at once; they and the window bound the memory, about 35 kB a point and
    frame."""

    def __post_init__(self) -> None:
        if not 0 < self.overlap < self.window or min(self.chunk, self.every) < 1:
            raise UserError(
                f"CoTracker: window {self.window}, overlap {self.overlap}, chunk {self.chunk}, "
                f"every {self.every}: the overlap must be within the window, all above 0"
            )

    def track(
        self,
        frames: NDArray[np.uint8],
        where: NDArray[np.bool_] | None = None,
        queries: Array | None = None,
    ) -> Tracks:
        """Tracks of points through frames (T, H, W) or, better, (T, H, W, 3) RGB.

        Args:
            where: (T, H, W) where to choose corners; everywhere by default.
            queries: (N, 3) frame, x and y of the points to follow, instead of corners.

        Raises:
            UserError: CoTracker's code or weights cannot be had.
        """
        points = self._corners(frames, where) if queries is None else np.asarray(queries, float)
        course = Course(points, len(frames))
        for errand in course.errands(spans(len(frames), self.window, self.overlap)):
            first, end = errand.span
            course.add(errand, self._follow(frames[first:end], errand.seeds - [first, 0, 0]))
        return course.tracks(frames.shape[1:3])

    def missing(self) -> str:
        """What of CoTracker is not on this machine; empty where it can be loaded offline."""
        if importlib.util.find_spec("torch") is None:
            return "torch is not installed"
        cache = torch_module().hub.get_dir()
        code = self.hub
        if not os.path.isdir(code):
            code = os.path.join(cache, self.hub.replace("/", "_").replace(":", "_"))
        weights = self.checkpoint or os.path.join(cache, "checkpoints", WEIGHTS)
        for path in (os.path.join(code, "hubconf.py"), weights):
            if not os.path.isfile(path):
                return f"there is no {path}"
        return ""

    def _corners(self, frames: NDArray[np.uint8], where: NDArray[np.bool_] | None) -> Array:
        """(N, 3) frame, x and y of Shi-Tomasi corners, sought in one frame of `every`."""
        found = [np.zeros((0, 3))]
        for t in range(0, len(frames), self.every):
            gray = frames[t]
            if gray.ndim == 3:
                gray = cv2.cvtColor(gray, cv2.COLOR_RGB2GRAY)
            mask = None if where is None else where[t].astype(np.uint8)
            xy = cv2.goodFeaturesToTrack(gray, self.most, self.quality, self.spacing, mask=mask)
            if xy is not None:
                found.append(np.insert(xy[:, 0].astype(float), 0, t, axis=1))
        return np.concatenate(found)

    def _follow(self, frames: NDArray[np.uint8], queries: Array) -> Array:
        """(t, n, 2) pixels of points queried as (n, 3), NaN where not visible."""
        if not len(queries):
            return np.zeros((len(frames), 0, 2))
        torch = torch_module()
        if frames.ndim == 3:
            frames = np.broadcast_to(frames[..., None], (*frames.shape, 3))
        network = _network(self.hub, self.checkpoint, self.device.device)
        found = []
        with self.device.inference(autocast=True):
            video = self.device.upload(frames).float()[None]
            for at in range(0, len(queries), self.chunk):
                some = torch.from_numpy(queries[at : at + self.chunk]).float()[None]
                xy, seen = network(video, queries=some.to(video.device), backward_tracking=True)
                found.append(torch.where(seen[0, ..., None] > 0, xy[0].float(), math.nan).cpu())
        return torch.cat(found, 1).numpy().astype(float)


def best_tracker(
    option: str = "auto", cotracker: CoTracker | None = None, lk: LucasKanade | None = None
) -> Tracker:
    """The tracker to use; the log has one line about what `auto` took, and why.

    Args:
        option: `cotracker`, `lk` (Lucas-Kanade), or `auto`: CoTracker where its code and weights
            are on this machine. The network is not asked: workers that reach it and workers that
            do not must not differ, nor must each of them download it.
        cotracker, lk: the two, set up.

    Raises:
        UserError: there is no such option, or CoTracker is asked for and is not on this machine.
    """
    network, flow = cotracker or CoTracker(), lk or LucasKanade()
    if option == "lk":
        return flow
    if option not in ("auto", "cotracker"):
        raise UserError(f"tracker={option}: auto, cotracker or lk")
    missing = network.missing()
    if missing and option == "cotracker":
        raise UserError(
            f"tracker=cotracker: {missing}; name a checkout of facebookresearch/co-tracker with "
            "--option cotracker=DIR, fetch its weights (egoscaler weights --fetch --names "
            "cotracker3), or take tracker=lk"
        )
    if missing:
        log.warning("tracker: Lucas-Kanade, without CoTracker 3 (%s)", missing)
        return flow
    log.warning("tracker: CoTracker 3 from %s", network.hub)
    return network


@functools.lru_cache(maxsize=2)
def _network(hub: str, checkpoint: str, device: torch.device) -> Any:
    """CoTracker's predictor on a device: see its repository's `hubconf.py`."""
    torch = torch_module()
    options: dict[str, Any] = {"source": "local"}
    if not os.path.isdir(hub):
        options = {"trust_repo": True, "skip_validation": True, "verbose": False}
    try:
        network = torch.hub.load(hub, ENTRY, pretrained=not checkpoint, **options)
        if checkpoint:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            network.model.load_state_dict(state.get("model", state))
    except (
        OSError, ImportError, RuntimeError, ValueError, AttributeError, pickle.UnpicklingError
    ) as error:  # fmt: skip
        raise UserError(
            f"CoTracker from {hub}{f' with {checkpoint}' if checkpoint else ''} cannot be loaded "
            f"({type(error).__name__}: {' '.join(str(error).split())[:300]}): name a folder with "
            "a checkout of facebookresearch/co-tracker and the file of its weights, or take "
            "tracker=lk"
        ) from error
    return network.eval().requires_grad_(False).to(device)
