"""Checkpoints of a run: sharded, written in the background, whole or not there at all.

    RUN/checkpoints/step-00001000/__0_0.distcp, …, .metadata, complete.json

Each worker writes its share of the tensors (torch.distributed.checkpoint) into a folder of another
name. When all have, the first worker adds `complete.json`, which has the size and digest of every
file, and gives the folder its name. A process killed at any moment, or a full disk, leaves at
most a folder of the other name, which the next run removes; older checkpoints are not touched
before a newer one is complete. Any number of workers can read what another number wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import BlockingAsyncStager

from ego_ops.errors import UserError
from ego_ops.storage_errors import unwritable
from training.saved_files import COMPLETE, FOLDER, Checkpoint, completed, digest, passed_over

_ASIDE = "writing-"
_FAILURES = (CheckpointException, OSError, RuntimeError, ValueError)

_T = TypeVar("_T")


class Saver:
    """Writes and reads the checkpoints of one run; each worker of it has one.

    Args:
        run: the run's folder, which every worker sees.
        keep: newest checkpoints to keep.
        keep_every: steps whose checkpoints are kept for good.
        device: of the tensors. rank, world: this worker, and how many there are.
    """

    def __init__(
        self,
        run: str | Path,
        keep: int,
        keep_every: int | None,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ):
        self._folder = Path(run) / FOLDER
        self._run, self._keep, self._keep_every = Path(run), max(1, keep), keep_every
        self._device, self._rank, self._world = device, rank, world
        # Its own group: while the background talks over it, training talks over the others.
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        # Pinned memory, used again and again, where it makes copies from the GPU faster.
        self._stager = BlockingAsyncStager(cache_staged_state_dict=device.type == "cuda")
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        if rank == 0:
            self._clean()
        self._agree(None)

    def restore(self, state: dict[str, Tensor], warn: Callable[[str], None]) -> int:
        """Fill the tensors from the newest sound checkpoint.

        Args:
            state: tensors by name, sharded (DTensor) or whole.
            warn: told of each checkpoint that is passed over because it is damaged.

        Returns:
            Its step; 0 if there is none, and nothing is filled then.

        Raises:
            UserError: it has other tensors, or there are checkpoints and all are damaged.
        """
        there, first = self._agree(completed(self._run)), ""
        for checkpoint in there:
            found = self._gather(checkpoint.damage(self._rank, self._world))
            damage = next((one for one in found if one), "")
            if damage:
                first = first or damage
                warn(passed_over(checkpoint, damage))
                continue
            self._load(checkpoint, state)
            return checkpoint.step
        if there:
            raise UserError(
                f"{self._folder}: all {len(there)} checkpoints are damaged (the newest: {first}); "
                "restore one, or delete them to train from the beginning"
            )
        return 0

    def save(self, step: int, state: dict[str, Tensor]) -> None:
        """Begin to save; returns when the tensors have been copied.

        Raises:
            UserError: the checkpoint before this one could not be written.
        """
        self.wait()
        staged = self._stager.stage(state)
        aside = self._folder / self._agree(f"{_ASIDE}{step:08d}-{uuid.uuid4().hex[:8]}")
        self._thread = threading.Thread(
            target=self._work, args=(step, aside, staged), name="save checkpoint", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """See whether something went wrong meanwhile.

        Raises:
            UserError: the last checkpoint could not be written; older ones are as they were.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Wait until the last checkpoint is written. Raises as `check`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def _load(self, checkpoint: Checkpoint, state: dict[str, Tensor]) -> None:
        try:
            reader = dcp.FileSystemReader(checkpoint.path)
            dcp.load(state, storage_reader=reader, process_group=self._group)
        except _FAILURES as error:
            cause = " ".join(str(_cause(error)).split())
            raise UserError(
                f"{checkpoint.path}: cannot be loaded into this model ({cause}): was it saved with "
                "the same configuration?"
            ) from error

    def _work(self, step: int, aside: Path, staged: dict[str, Any]) -> None:
        try:
            self._write(step, aside, staged)
        except BaseException as error:  # noqa: BLE001  it is raised in the trainer
            self._error = error
            if self._rank == 0:
                shutil.rmtree(aside, ignore_errors=True)

    def _write(self, step: int, aside: Path, staged: dict[str, Any]) -> None:
        """Write all workers' shares, in the background."""
        target = self._folder / f"step-{step:08d}"
        try:
            with _stream(self._device):
                dcp.save(staged, storage_writer=_Writer(aside), process_group=self._group)
        except _FAILURES as error:
            raise _unwritable(target, error) from error
        files: dict[str, tuple[int, str]] = {}
        for some in self._gather(_written(aside, self._rank)):
            if isinstance(some, OSError):
                raise _unwritable(target, some)
            files |= some
        if self._rank == 0:
            try:
                self._commit(step, aside, target, files)
            except OSError as error:
                raise _unwritable(target, error) from error

    def _commit(
        self, step: int, aside: Path, target: Path, files: dict[str, tuple[int, str]]
    ) -> None:
        head = {"version": 1, "step": step, "files": files}
        with open(aside / COMPLETE, "w", encoding="utf-8") as file:
            json.dump(head, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(aside)
        if target.exists():  # a damaged one, which training has now come to again
            target.rename(self._folder / f"{_ASIDE}{uuid.uuid4().hex}")
        aside.rename(target)
        _sync_folder(self._folder)
        self._clean()
        for old in completed(self._run)[self._keep :]:
            if not (self._keep_every and old.step % self._keep_every == 0):
                # Not half a checkpoint at any moment: it loses its name first.
                gone = self._folder / f"{_ASIDE}{uuid.uuid4().hex}"
                old.path.rename(gone)
                shutil.rmtree(gone)

    def _clean(self) -> None:  # of what killed runs have left
        for path in self._folder.glob(f"{_ASIDE}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _agree(self, value: _T) -> _T:
        """The first worker's value."""
        if self._group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def _gather(self, value: _T) -> list[_T]:
        """Every worker's value."""
        if self._group is None:
            return [value]
        dist.all_gather_object(found := [value] * self._world, value, group=self._group)
        return found


def _stream(device: torch.device) -> AbstractContextManager[Any]:
    # Writing waits for the thread's stream: in a new thread that of GPU 0, where one trains.
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()


class _Writer(dcp.FileSystemWriter):
    """Says what the file system said: writing a tensor hides it behind an error of its own."""

    def write_data(self, *args: Any) -> Any:
        try:
            return super().write_data(*args)
        except RuntimeError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__context__
            raise (cause or error) from None


def _written(folder: Path, rank: int) -> dict[str, tuple[int, str]] | OSError:
    """Sizes and digests of a worker's files; the first worker's are the metadata too."""
    try:
        mine = [*folder.glob(f"__{rank}_*"), *([folder / ".metadata"] if rank == 0 else [])]
        return {path.name: (path.stat().st_size, digest(path)) for path in mine}
    except OSError as error:
        return error


def _cause(error: BaseException) -> BaseException:
    """What went wrong first."""
    if isinstance(error, CheckpointException) and error.failures:
        return next(iter(error.failures.values()))[0]
    return error


def _unwritable(path: Path, error: BaseException) -> UserError:
    cause = _cause(error)
    return unwritable(str(path), cause if isinstance(cause, Exception) else OSError(str(cause)))


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
