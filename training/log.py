"""A run's numbers, step by step: a file of JSON lines, TensorBoard, and Weights & Biases."""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from ego_ops.storage_errors import unwritable

FILE = "metrics.jsonl"
_WANDB_ID = "wandb_id"
_logger = logging.getLogger(__name__)


class Log:
    """The numbers of a run. One process has it, the folder is local.

    `metrics.jsonl` has one object a line, `step` first, written out at once; TensorBoard's files
    are in `tensorboard/`. Weights & Biases gets the same where `wandb` is installed and
    WANDB_PROJECT is set.
    """

    def __init__(self, folder: str | Path, resume_step: int | None = None):
        """Open the log.

        Args:
            resume_step: the step that the run goes on after; what an interrupted run has written
                about later ones is dropped, so that every step is there once. None: a new run,
                and all that is there is dropped.

        Raises:
            UserError: the folder cannot be written to.
        """
        from torch.utils.tensorboard import SummaryWriter  # seconds: who only reads has no need

        self._path = Path(folder) / FILE
        last = -1 if resume_step is None else resume_step
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _keep(self._path, last)
            self._file = self._path.open("a", encoding="utf-8")
            self._board = SummaryWriter(str(self._path.parent / "tensorboard"), purge_step=last + 1)
        except OSError as error:
            raise unwritable(str(self._path), error) from error
        self._wandb = _wandb_run(self._path.parent, resume_step is not None)

    def write(self, step: int, values: Mapping[str, float | int | str | None]) -> None:
        """Add a record. Numbers that are not finite become null, with a warning.

        Raises:
            UserError: it cannot be written, as on a full disk.
        """
        record: dict[str, float | int | str | None] = {"step": step}
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                _logger.warning("step %d: %s is %s", step, name, value)
                value = None
            record[name] = value
        scalars = {
            name: value
            for name, value in record.items()
            if name != "step" and isinstance(value, int | float)
        }
        try:
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._file.flush()
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        except OSError as error:
            raise unwritable(str(self._path), error) from error
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)

    def close(self) -> None:
        """Write out what is left.

        Raises:
            UserError: it cannot be written.
        """
        try:
            self._file.close()
            self._board.close()
        except OSError as error:
            raise unwritable(str(self._path), error) from error
        finally:
            if self._wandb is not None:
                self._wandb.finish()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _keep(path: Path, last: int) -> None:
    """Leave only whole records up to that step. Either all of it happens or nothing."""
    if not path.exists():
        return
    kept = [line for line in path.read_text("utf-8", "replace").splitlines() if _early(line, last)]
    aside = path.with_suffix(".tmp")
    with open(aside, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in kept)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _early(line: str, last: int) -> bool:
    """Whether the line is a record of a step up to that; a torn line is none."""
    try:
        return int(json.loads(line)["step"]) <= last
    except (ValueError, KeyError, TypeError):
        return False


def _wandb_run(folder: Path, resume: bool) -> Any:
    """The run of Weights & Biases, or None where nobody has asked for one."""
    if not os.environ.get("WANDB_PROJECT") or find_spec("wandb") is None:
        return None
    import wandb

    note = folder / _WANDB_ID
    known = note.read_text(encoding="utf-8").strip() if resume and note.is_file() else None
    try:
        run = wandb.init(dir=str(folder), name=folder.name, id=known, resume="allow")
    except (wandb.errors.Error, OSError) as error:
        warnings.warn(f"Weights & Biases gets nothing of this run: {error}", stacklevel=3)
        return None
    note.write_text(run.id, encoding="utf-8")
    return run
