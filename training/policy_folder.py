"""The folder of a trained policy: everything that is needed to act.

POLICY/config.json                      model, cameras, sources, where it comes from
POLICY/model.safetensors                weights, as openpi and LeRobot have them
POLICY/assets/SOURCE/norm_stats.json    what a source is normalised by, as openpi has it
POLICY/tokeniser/                       the tokeniser's files, unless it is built in
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ego_ops.errors import UserError
from ego_ops.storage import read_head, store
from ego_ops.storage_errors import unwritable
from training import tokeniser
from training.adapt import add_lora, freeze, merge_lora
from training.config import TrainConfig
from training.data import norm
from training.data.norm import NormStats
from training.data.sample import CAMERAS, Source
from training.pi0 import checkpoint
from training.pi0.config import GemmaSize, Pi0Config, SiglipSize
from training.pi0.inference import cast
from training.pi0.model import Pi0
from training.policy import Policy
from training.run_folder import POLICY_CONFIG, POLICY_VERSION
from training.tokeniser import Tokeniser

_ASSETS, _TOKENISER = "assets", "tokeniser"


def save(
    folder: str | Path,
    config: TrainConfig,
    weights: Mapping[str, Tensor],
    words: Tokeniser,
    sources: Sequence[Source],
    stats: Sequence[NormStats],
    steps: int,
) -> None:
    """Write a policy; where there was one it is replaced when the new one is whole.

    Args:
        config: of its training.
        weights: of all parameters of the model that was trained, adapters among them.
        words: the tokeniser of its instructions.
        sources, stats: what it was trained on, and what that was normalised by.
        steps: that it was trained for.

    Raises:
        UserError: the file system refuses.
    """
    target = Path(folder)
    aside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        checkpoint.save(_plain(config, weights), aside)
        for source, each in zip(sources, stats, strict=True):
            norm.write(aside / _ASSETS / source.name / "norm_stats.json", each)
        builtin = words.save(aside / _TOKENISER) == words.name
        name = words.name if builtin else _TOKENISER
        head = json.dumps(_head(config, name, sources, steps), indent=1)
        (aside / POLICY_CONFIG).write_text(head, encoding="utf-8")
        _replace(target, aside)
    except OSError as error:
        raise unwritable(str(target), error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(
    folder: str | Path,
    device: torch.device | str = "cpu",
    source: str | None = None,
    half: bool | None = None,
) -> Policy:
    """Load a policy.

    Args:
        folder: the `policy` of a run.
        device: where it is to compute.
        source: whose states and actions it takes and gives; needed where there are several.
        half: whether to compute in bf16; by default on a GPU only.

    Raises:
        UserError: something is missing, damaged, left over, or of another size.
    """
    head = read_head(store(str(folder)), POLICY_CONFIG, POLICY_VERSION, "a policy")
    if head is None:
        raise UserError(f"{folder}: no {POLICY_CONFIG}: not the folder of a policy")
    try:
        names = list(head["sources"])
        size = _size(head["model"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}/{POLICY_CONFIG}: not that of a policy ({error!r})") from error
    name = names[0] if source is None and len(names) == 1 else source
    if name is None or name not in names:
        asked = "name the source to act as" if name is None else f"no source {name}"
        raise UserError(f"{folder}: {asked}; there are {', '.join(names)}")
    device = torch.device(device)
    with torch.device("meta"):
        model = Pi0(size)
    model.to_empty(device=device)
    checkpoint.load(model, folder)
    model.requires_grad_(False).eval()
    if half if half is not None else device.type == "cuda":
        cast(model)
    stats = norm.read(Path(folder) / _ASSETS / name / "norm_stats.json")
    own = Path(folder) / _TOKENISER
    words = tokeniser.load(str(own) if own.is_dir() else head["tokeniser"])
    return Policy(model, words, head, name, stats)


def _head(config: TrainConfig, words: str, sources: Sequence[Source], steps: int) -> dict[str, Any]:
    used = {camera for source in sources for camera in source.cameras}
    return {
        "version": POLICY_VERSION,
        "model": dataclasses.asdict(config.model),
        "cameras": [camera for camera in CAMERAS if camera in used],
        "tokeniser": words,
        "sources": {
            source.name: {
                "normalise": each.normalise,
                "state_size": source.state_size,
                "action_size": source.action_size,
                "cameras": list(source.cameras),
            }
            for source, each in zip(sources, config.sources, strict=True)
        },
        "trained": {
            "config": config.name,
            "steps": steps,
            "code_version": importlib.metadata.version("egoscaler-ray"),
        },
    }


def _plain(config: TrainConfig, weights: Mapping[str, Tensor]) -> Pi0:
    """The model with these weights, adapters folded in."""
    with torch.device("meta"):
        model = Pi0(config.model)
        freeze(model, config.freeze)  # what is frozen has no adapters
        if config.lora is not None:
            add_lora(model, config.lora, config.lora_alpha)
    model.load_state_dict(weights, assign=True)
    merge_lora(model)
    return model


def _size(values: dict[str, Any]) -> Pi0Config:
    return Pi0Config(
        **values
        | {
            "vision": SiglipSize(**values["vision"]),
            "language": GemmaSize(**values["language"]),
            "expert": GemmaSize(**values["expert"]),
        }
    )


def _replace(target: Path, new: Path) -> None:
    old = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
