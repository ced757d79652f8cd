"""Calls in processes of their own, several at a time."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ego_ops.errors import UserError


def in_processes(calls: Sequence[tuple[Any, ...]], at_once: int) -> Iterator[tuple[int, Any]]:
    """Make calls (function, arguments…), all picklable. Yields the number of each that is done,
    and what it returned, as they come.

    If one raises, or this process is interrupted, those under way are told to end (SIGTERM) and
    waited for. If this process is killed, they end with it.

    Raises:
        UserError: a process died.
    """
    spawn = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(max(min(at_once, len(calls)), 1), spawn, _end_with_parent) as pool:
        try:
            jobs = {pool.submit(*call): number for number, call in enumerate(calls)}
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    f"one of {max(min(at_once, len(calls)), 1)} processes died, as if killed: the "
                    "machine may be short of memory; try again with fewer --workers"
                ) from None
            raise


def _end_with_parent() -> None:
    """Have this process end when the one that began it has, however that was: it would wait for
    more to do for ever."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
