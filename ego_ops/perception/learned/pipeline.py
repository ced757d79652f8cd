"""The pipeline behind `--perception learned`: boxes, masks, tracks and depth by networks."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2

from ego_ops import extraction
from ego_ops.clip import Clip
from ego_ops.errors import Rejection, UserError
from ego_ops.perception import Tracker
from ego_ops.perception.decoded import Decoded, Decoding
from ego_ops.perception.ego_path import with_path
from ego_ops.perception.learned import registry
from ego_ops.perception.learned.ahead import Ahead
from ego_ops.perception.learned.depth import DepthNetwork
from ego_ops.perception.learned.detect import Detector
from ego_ops.perception.learned.device import Device
from ego_ops.perception.learned.find import Finder
from ego_ops.perception.learned.perceived import LearnedPerceived
from ego_ops.perception.learned.points import (
    around,
    closeup,
    longest,
    measured,
    overview,
)
from ego_ops.perception.learned.sam_meta import SamMeta
from ego_ops.perception.learned.segment import Masker, Sam
from ego_ops.perception.learned.segment_video import SamVideo
from ego_ops.perception.learned.stopwatch import Stopwatch
from ego_ops.perception.learned.track import CoTracker, best_tracker
from ego_ops.perception.learned.vision_endpoint import (
    AnnotatedLocation,
    Located,
    Locator,
    VisionEndpoint,
)
from ego_ops.perception.learned.weights import INSTALL, Weights
from ego_ops.perception.surroundings import widened, with_surroundings
from ego_ops.perception.track_lk import LucasKanade
from ego_ops.pipeline import Extraction


@dataclass(frozen=True)
class LearnedPipeline:
    """Perception with weights, which are looked for at once and loaded at their first use.

    A worker keeps one copy of each network on its GPU. `extract --gpus-per-worker 0.25` puts four
    workers on one GPU, so that some decode and track on their CPUs while others infer.

    Raises:
        UserError: weights are missing, a package is, or an option is none.
    """

    weights: str | None = None
    """Folder with one subfolder a checkpoint; the hub's cache by default. As with the corpora,
    every node must see it."""
    detector: str = "grounding-dino-tiny"
    """Checkpoint that draws boxes."""
    segmenter: str = "sam2.1-hiera-base-plus"
    """Checkpoint that draws masks, of SAM or SAM 2, or a .pth file of Meta's for Meta's package."""
    depth: str = "Depth-Anything-V2-Metric-Indoor-Small-hf"
    """Checkpoint for depth, metric or relative; unused where depth is recorded."""
    tracker: str = "auto"
    """`cotracker`, `lk`, or `auto`: CoTracker where it is on this machine."""
    cotracker: str = ""
    """Folder with a checkout of CoTracker's repository; torch.hub's by default."""
    localizer: Literal["annotated", "endpoint"] = "annotated"
    """Who says when which thing is moved: the corpus, or a vision model."""
    endpoint: Mapping[str, Any] = field(default_factory=dict)
    """Options of the vision model, those of `VisionEndpoint`, as JSON."""
    hands: Literal["detector", "mediapipe"] = "detector"
    """Who finds hands where none are recorded."""
    device: str = "auto"
    """`cpu`, `cuda`...; a GPU where there is one by default."""
    half: str = "float16"
    """Precision on a GPU."""
    batch: int = 8
    """Pictures that a network sees at a time."""
    threads: int = 1
    """CPU threads of a network, where it runs on the CPU."""
    fps: float = 20.0
    """Steps a second; videos of a lower rate keep their own."""
    max_side: int = 960
    """Pixels of the longer side of the pictures."""
    decoder: Literal["pyav", "decord"] = "pyav"
    lead: float = 1.0
    """Seconds looked at before an annotated interval."""
    tail: float = 0.3
    """Seconds looked at after it."""
    every: int = 5
    """Frames between those that the detector looks at."""
    points: int = 200
    """Tracks kept of the object, and of the background."""
    cloud: int = 100
    """Points of the object's surface kept in each frame."""

    def __post_init__(self) -> None:
        for package in ("torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise UserError(f"--perception learned needs {package}: {INSTALL}")
        if self.localizer not in ("annotated", "endpoint"):
            raise UserError(f"localizer={self.localizer}: annotated or endpoint")
        if self.hands not in ("detector", "mediapipe"):
            raise UserError(f"hands={self.hands}: detector or mediapipe")
        if min(self.batch, self.threads, self.every, self.points) < 1:
            raise UserError("batch, threads, every and points must be 1 or more")
        _ = self._finder, self._masker, self._network, self._trackers, self._locator

    def prefetch(self, clip: Clip) -> None:
        """Begin to decode the clip that `perceive` is asked for next."""
        self._ahead.begin(self._wide(clip))

    def perceive(self, clip: Clip) -> LearnedPerceived:
        """Decode a clip, and follow its manipulated object and the background.

        Raises:
            ClipError: the clip's files cannot be used.
            Rejection: there is nothing in it that can be followed.
            UserError: a checkpoint cannot be loaded.
        """
        cv2.setNumThreads(1)  # processes are parallel, one a core
        return with_surroundings(clip, self._wide(clip), lambda wide: self._look(clip, wide))

    def _wide(self, clip: Clip) -> Clip:
        return widened(clip, self.lead, self.tail, self.fps)

    def _look(self, clip: Clip, wide: Clip) -> LearnedPerceived:
        """Follow the object through `wide`, for a trajectory of `clip`."""
        watch = Stopwatch(self._device)
        with watch.stage("decode"):
            decoded = self._ahead.take(wide)
        with watch.stage("track"):
            whole = overview(decoded, self._trackers[1])
        path = None
        if decoded.scene.recording.path is not None:
            scene, path = with_path(wide, decoded.scene, whole)
            decoded = replace(decoded, scene=scene)
        with watch.stage("locate"):
            located = self._located(clip, decoded)
        with watch.stage("detect"):
            prompts = self._finder.find(clip, decoded, located, whole)
        with watch.stage("segment"):
            masks = self._masker.masks(decoded.images, prompts)
        with watch.stage("track"):
            thing = closeup(decoded, masks, self._trackers[0])
            thing = longest(thing, self.points, "the object")
            background = longest(around(whole, masks), self.points, "the background")
        with watch.stage("depth"):
            found = measured(decoded, thing, background, path, self._network, masks, self.cloud)
        interval = (located.t_start, located.t_end) if located else (clip.t_start, clip.t_end)
        return LearnedPerceived.of(decoded, interval, found, path, watch.seconds)

    def solve(self, clip: Clip, perceived: LearnedPerceived) -> Extraction:
        """The object's trajectory from its tracks.

        Raises:
            Rejection: the trajectory cannot be right, or nobody can vouch for it.
        """
        return extraction.extract_jointly(
            perceived.asked, perceived.observed, perceived.clock_offset
        )

    def _located(self, clip: Clip, decoded: Decoded) -> Located | None:
        """When what is moved; None where it cannot be told, and the corpus's boxes must do."""
        try:
            return self._locator.locate(clip, decoded.scene.times, decoded.images)
        except Rejection:
            if not clip.boxes:
                raise
            return None

    @cached_property
    def _device(self) -> Device:
        return Device(self.device, self.half, self.threads)

    @cached_property
    def _ahead(self) -> Ahead:
        return Ahead(Decoding(self.fps, self.max_side, self.decoder))

    @cached_property
    def _locator(self) -> Locator:
        if self.localizer == "annotated":
            return AnnotatedLocation()
        return VisionEndpoint(**self.endpoint)

    @cached_property
    def _finder(self) -> Finder:
        folder = self._found(self.detector, registry.DETECT)
        detector = Detector(folder, self._device, self.batch)
        return Finder(detector, self.hands, self.every)

    @cached_property
    def _masker(self) -> Masker:
        if self.segmenter.endswith(".pth"):
            return self._meta()
        folder = self._found(self.segmenter, registry.SEGMENT)
        kind = SamVideo if self.segmenter.startswith("sam2") else Sam
        return kind(folder, self._device, self.batch)

    @cached_property
    def _network(self) -> DepthNetwork:
        return DepthNetwork(self._found(self.depth, registry.DEPTH), self._device, self.batch)

    @cached_property
    def _trackers(self) -> tuple[Tracker, Tracker]:
        """For the object and for the background."""
        common: dict[str, Any] = {"device": self._device, "checkpoint": self._cotracker_weights()}
        if self.cotracker:
            common["hub"] = self.cotracker
        near = best_tracker(self.tracker, CoTracker(**common), LucasKanade())
        if isinstance(near, CoTracker):
            return near, CoTracker(**common, every=20, spacing=15)
        return near, LucasKanade(every=20, most=200, spacing=15)

    def _cotracker_weights(self) -> str:
        """The tracker's weights where they lie among the others; else torch.hub's own."""
        one = registry.checkpoint("cotracker3")
        try:
            return str(Weights(self.weights).find(one) / one.files[0])
        except UserError:
            return ""

    def _found(self, name: str, purpose: str) -> Path:
        return Weights(self.weights).find(registry.checkpoint(name, purpose))

    def _meta(self) -> SamMeta:
        kind = re.search(r"vit_[bhl]", Path(self.segmenter).name)
        if kind is None or not Path(self.segmenter).is_file():
            raise UserError(
                f"segmenter={self.segmenter}: no such file, or not named as Meta names its "
                "checkpoints (sam_vit_b_01ec64.pth)"
            )
        return SamMeta(Path(self.segmenter), self._device, kind[0])
