"""Calls that may take their process down, made in another one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any

from ego_ops.errors import DecodeError


class Apart:
    """A process that is kept for many calls, and begun anew when one has killed it."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def __call__(self, function: Callable[..., Any], path: str, *more: Any) -> Any:
        """`function(path, *more)`, and what it raises; `path` names it in an error.

        Raises:
            DecodeError: it ended its process.
        """
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=spawn)
        try:
            return self._pool.submit(function, path, *more).result()
        except BrokenProcessPool as error:
            self._pool = None
            raise DecodeError(f"{path}: ends the process that reads it: damaged") from error
