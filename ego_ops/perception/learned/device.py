"""Where networks run and in which precision, and how pictures get there."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.perception.learned.weights import INSTALL

if TYPE_CHECKING:
    import torch

HALVES = ("float16", "bfloat16")
_NO_GPU = (
    "there is no such GPU for this process: --gpus-per-worker gives workers one, device=cpu does "
    "without"
)
_NAME = re.compile(r"auto|cpu|mps|(cuda|xpu)(:[0-9]+)?")


@dataclass(frozen=True)
class Device:
    """One accelerator or the CPU, as every network of a process uses it."""

    name: str = "auto"
    """`cpu`, `cuda`, `cuda:1`...; by default the first GPU that this process may use, else the
    CPU. Ray shows an actor only the GPUs that it was given."""
    half: str = "float16"
    """Precision on a GPU: `float16`, `bfloat16` or `float32`. On a CPU it is float32."""
    threads: int = 1
    """CPU threads of a network: processes are parallel, one a core."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(str(self.name)):
            raise UserError(f"device={self.name}: auto, cpu, cuda or cuda:1")
        if self.half not in (*HALVES, "float32"):
            raise UserError(f"half={self.half}: float16, bfloat16 or float32")

    @property
    def device(self) -> torch.device:
        """The device.

        Raises:
            UserError: this process has no such device.
        """
        torch = torch_module()
        if self.name == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.name)
            if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
                raise RuntimeError(_NO_GPU)
        except RuntimeError as error:
            raise UserError(f"device={self.name}: {str(error).splitlines()[0]}") from error
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and pictures on the device."""
        torch = torch_module()
        return torch.float32 if self.device.type == "cpu" else getattr(torch, self.half)

    def load(self, kind: str, folder: Path, full: bool = False) -> Any:
        """The network of a checkpoint, ready for inference; a process loads it once.

        Args:
            kind: name of its class in `transformers`.
            full: keep its weights in float32, for one that must not be rounded.

        Raises:
            UserError: the files are not this network's.
        """
        torch = torch_module()
        dtype = torch.float32 if full else self.dtype
        return _load(kind, folder, self.device, dtype)

    def upload(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """(n, 3, H, W) uint8 on the device from pictures (n, H, W, 3).

        They travel as bytes, from pinned memory without waiting, and are scaled over there: an
        eighth of what floats of the network's size would take.
        """
        torch = torch_module()
        device = self.device
        sent = torch.from_numpy(np.ascontiguousarray(images))
        if device.type == "cuda":
            sent = sent.pin_memory().to(device, non_blocking=True)
        return sent.permute(0, 3, 1, 2)

    @contextmanager
    def inference(self, autocast: bool = False) -> Iterator[None]:
        """A stretch of inference: no gradients, the process's share of threads.

        Args:
            autocast: let each operation choose between half and full precision, for a network
                whose weights are full; without effect on a CPU.
        """
        torch = torch_module()
        kind, half = self.device.type, self.dtype
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        mixed = autocast and half != torch.float32
        with torch.inference_mode(), torch.autocast(kind, dtype=half, enabled=mixed):
            yield

    def finish(self) -> None:
        """Wait until the device has done what it was given, so that its time can be taken."""
        if self.device.type == "cuda":
            torch_module().cuda.synchronize(self.device)


def torch_module() -> Any:
    """torch, which is imported where a network runs and nowhere else.

    Raises:
        UserError: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(f"perception with weights needs torch: {INSTALL}") from error
    return torch


@functools.cache
def _load(kind: str, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what it says of files that do not fit is a line a tensor
    try:
        _check_kind(kind, folder)
        network, report = getattr(transformers, kind).from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (
        OSError, ValueError, RuntimeError, SafetensorError,
        LookupError, TypeError, AttributeError, ImportError,  # a config that is another network's
    ) as error:  # fmt: skip
        cause = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder}: cannot be loaded as {kind} ({type(error).__name__}: {cause}): see "
            "`egoscaler weights --check`"
        ) from error
    if report["missing_keys"]:
        name = min(report["missing_keys"])
        raise UserError(
            f"{folder}: lacks {len(report['missing_keys'])} tensors of {kind}, such as {name}"
        )
    return network.eval().requires_grad_(False).to(device)


def _check_kind(kind: str, folder: Path) -> None:
    """See that a checkpoint is one of `kind`, a class of `transformers`: it would load another's
    as far as names of tensors agree.

    Raises:
        OSError, ValueError, TypeError: its config cannot be read, or says that it is not.
    """
    import transformers

    wanted = getattr(transformers, kind).config_class.model_type
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = config.get("model_type") if isinstance(config, dict) else None
    if found != wanted:
        raise ValueError(f"its config.json is of a {found}, not of a {wanted}")
