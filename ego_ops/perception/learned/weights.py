"""Where weights lie, whether they are whole, and how they get there."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ego_ops.errors import UserError
from ego_ops.perception.learned.registry import Checkpoint

INSTALL = "pip install 'egoscaler-ray[learned]'"


@dataclass(frozen=True)
class Weights:
    """A place that holds checkpoints."""

    folder: str | None = None
    """A folder with one subfolder for each, as `save_pretrained` writes it; the hub's cache
    (HF_HOME) where None."""
    patience_s: float = 20.0
    """How long the hub may take to say that it has a checkpoint."""

    def find(self, checkpoint: Checkpoint) -> Path:
        """The folder with the checkpoint's files, none of which is opened.

        Raises:
            UserError: it is not there, or a file of it is missing.
        """
        place = Path(self.folder, checkpoint.name) if self.folder else _cached(checkpoint)
        looked = place or f"the hub's cache {_cache()}"
        if place is None or not place.is_dir():
            raise UserError(f"no weights of {checkpoint.repo}: {self._remedy(checkpoint, looked)}")
        missing = [name for name in checkpoint.files if not (place / name).is_file()]
        if missing:
            raise UserError(
                f"weights of {checkpoint.repo} lack {', '.join(missing)}: "
                f"{self._remedy(checkpoint, place)}"
            )
        return place

    def check(self, checkpoint: Checkpoint) -> Path:
        """`find`, with every file opened: configs parsed, the extent of tensors compared.

        Raises:
            UserError: it is not there, or damaged.
        """
        place = self.find(checkpoint)
        for name in checkpoint.files:
            try:
                _check(place / name)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                cause = " ".join(str(error).split())[:200]
                raise UserError(
                    f"{place / name}: damaged ({cause}): delete it and fetch it again"
                ) from error
        return place

    def fetch(self, checkpoint: Checkpoint) -> Path:
        """Download what is missing of a checkpoint from the hub, which is asked for nothing where
        nothing is.

        Raises:
            UserError: the hub cannot be reached, refuses, or the folder cannot be written.
        """
        try:
            return self.find(checkpoint)
        except UserError:
            pass
        hub, folder = _hub(), Path(self.folder, checkpoint.name) if self.folder else None
        try:
            # A hub behind a wall that answers nothing: the download itself would wait for ever.
            hub.HfApi().model_info(checkpoint.repo, timeout=self.patience_s)
            hub.snapshot_download(
                checkpoint.repo, allow_patterns=list(checkpoint.files), local_dir=folder
            )
        except (OSError, ValueError, _http_error()) as error:
            cause = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"{checkpoint.repo} cannot be fetched ({type(error).__name__}: {cause}): on a "
                "machine without the hub, copy a folder of weights there and name it with --weights"
            ) from error
        return self.find(checkpoint)

    def _remedy(self, checkpoint: Checkpoint, looked: Path | str) -> str:
        name = "" if checkpoint.default else f" --names {checkpoint.name}"
        where = f" --weights {self.folder}" if self.folder else ""
        return f"looked in {looked}; run: egoscaler weights --fetch{name}{where}"


def _cached(checkpoint: Checkpoint) -> Path | None:
    """The snapshot of a checkpoint in the hub's cache, None where there is none."""
    hub = _hub()
    for name in checkpoint.files:
        found = hub.try_to_load_from_cache(checkpoint.repo, name)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _cache() -> str:
    return os.environ.get("HF_HOME", "~/.cache/huggingface")


def _check(path: Path) -> None:
    """Open a file as what its name says.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: it cannot be read, or is not whole.
    """
    if path.name == "config.json":
        _transformers().AutoConfig.from_pretrained(path.parent)
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".safetensors":
        _check_tensors(path)
    elif path.suffix == ".pth":
        with zipfile.ZipFile(path) as archive:
            archive.namelist()


def _check_tensors(path: Path) -> None:
    """See that a safetensors file is as long as its header says.

    The format: 8 bytes with the header's length, the header in JSON, the tensors' bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size, 100_000_000):
            raise ValueError("no safetensors header")
        header = json.loads(file.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    wanted = 8 + length + max(ends, default=0)
    if size != wanted:
        raise ValueError(f"{size} bytes, its header says {wanted}")


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"perception with weights needs more packages: {INSTALL}") from error
    return transformers


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"perception with weights needs more packages: {INSTALL}") from error
    return huggingface_hub


def _http_error() -> type[Exception]:
    """What all errors of the hub's HTTP client are, whichever release of httpx that is: most of
    them are no OSError."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
