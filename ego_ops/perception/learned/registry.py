"""The checkpoints that perception can use: what for, how large, under which licence."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ego_ops.errors import UserError

DETECT, SEGMENT, DEPTH, TRACK = "detect", "segment", "depth", "track"
"""What a checkpoint is for."""

_MODEL = ("config.json", "model.safetensors", "preprocessor_config.json")
_TEXT = (*_MODEL, "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """One published checkpoint."""

    repo: str
    """Repository on the Hugging Face hub."""
    purpose: str
    """`DETECT`, `SEGMENT`, `DEPTH` or `TRACK`."""
    size: int
    """Bytes to fetch, to the three digits that the hub shows."""
    licence: str
    """SPDX identifier."""
    about: str
    files: tuple[str, ...] = _MODEL
    """What must be there; nothing else of the repository is fetched."""
    default: bool = False
    """Whether perception uses it unless told otherwise."""

    @property
    def name(self) -> str:
        """The repository's own name, and that of the folder which holds it."""
        return self.repo.rpartition("/")[2]


_DINO = "open-vocabulary boxes (Grounding DINO, arXiv 2303.05499)"
_SAM = "masks from boxes, frame by frame (SAM, arXiv 2304.02643)"
_SAM2 = "masks through the video (SAM 2.1, arXiv 2408.00714)"
_METRIC = "depth in metres, indoors (Depth Anything V2, arXiv 2406.09414)"
_RELATIVE = "depth up to scale and shift (Depth Anything V2)"
_COTRACKER = "point tracks (CoTracker 3, arXiv 2410.11831)"
_APACHE, _NC = "Apache-2.0", "CC-BY-NC-4.0"
# The cards of the metric depth models name no licence: theirs is the one that the project's own
# page gives for each size of the network.
_VIDEO = ("config.json", "model.safetensors")
_PTH = ("scaled_offline.pth",)
_DEPTH_ANYTHING = "depth-anything/Depth-Anything-V2-"

CHECKPOINTS = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint(
            "IDEA-Research/grounding-dino-tiny", DETECT, 690_000_000, _APACHE, _DINO, _TEXT, True
        ),
        Checkpoint("IDEA-Research/grounding-dino-base", DETECT, 934_000_000, _APACHE, _DINO, _TEXT),
        Checkpoint(
            "facebook/sam2.1-hiera-base-plus", SEGMENT, 323_000_000, _APACHE, _SAM2, _VIDEO, True
        ),
        Checkpoint("facebook/sam2.1-hiera-tiny", SEGMENT, 156_000_000, _APACHE, _SAM2, _VIDEO),
        Checkpoint("facebook/sam2.1-hiera-small", SEGMENT, 184_000_000, _APACHE, _SAM2, _VIDEO),
        Checkpoint("facebook/sam2.1-hiera-large", SEGMENT, 898_000_000, _APACHE, _SAM2, _VIDEO),
        Checkpoint("facebook/sam-vit-base", SEGMENT, 375_000_000, _APACHE, _SAM),
        Checkpoint("facebook/sam-vit-large", SEGMENT, 1_250_000_000, _APACHE, _SAM),
        Checkpoint("facebook/sam-vit-huge", SEGMENT, 2_560_000_000, _APACHE, _SAM),
        Checkpoint(
            f"{_DEPTH_ANYTHING}Metric-Indoor-Small-hf", DEPTH, 99_200_000, _APACHE, _METRIC,
            default=True,
        ),
        Checkpoint(f"{_DEPTH_ANYTHING}Metric-Indoor-Base-hf", DEPTH, 390_000_000, _NC, _METRIC),
        Checkpoint(f"{_DEPTH_ANYTHING}Metric-Indoor-Large-hf", DEPTH, 1_340_000_000, _NC, _METRIC),
        Checkpoint(f"{_DEPTH_ANYTHING}Small-hf", DEPTH, 99_200_000, _APACHE, _RELATIVE),
        Checkpoint(f"{_DEPTH_ANYTHING}Base-hf", DEPTH, 390_000_000, _NC, _RELATIVE),
        Checkpoint(f"{_DEPTH_ANYTHING}Large-hf", DEPTH, 1_340_000_000, _NC, _RELATIVE),
        Checkpoint("facebook/cotracker3", TRACK, 102_000_000, _NC, _COTRACKER, _PTH),
    )
}  # fmt: skip
"""By name. CoTracker's network is code of its repository, which `torch.hub` fetches beside it."""


def checkpoint(name: str, purpose: str | None = None) -> Checkpoint:
    """The checkpoint `name`, which must be for `purpose` if that is given.

    Raises:
        UserError: there is none.
    """
    known = [c.name for c in CHECKPOINTS.values() if purpose in (None, c.purpose)]
    if name in known:
        return CHECKPOINTS[name]
    close = difflib.get_close_matches(name, known, 1, 0.4)
    hint = f"; did you mean {close[0]}?" if close else ""
    kind = f" to {purpose} with" if purpose else ""
    raise UserError(f"no weights {name!r}{kind}{hint} (known: {', '.join(sorted(known))})")


def defaults() -> list[Checkpoint]:
    """What perception needs unless told otherwise."""
    return [found for found in CHECKPOINTS.values() if found.default]
