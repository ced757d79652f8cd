"""One attempt at one half of one clip: whatever the clip does, it ends as a value or a verdict.

An exception becomes a `Verdict` here, and only here. What Python cannot catch (a segmentation
fault, a hang, memory run out) ends the process: see `ego_ops.quarantine`.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from ego_ops import pipeline, rows
from ego_ops.clip import Clip
from ego_ops.errors import UserError
from ego_ops.job import Job
from ego_ops.verdict import failed, verdict

Half = Literal["perceive", "solve"]


def here(job: Job, half: Half, clip: Clip, *given: bytes) -> Any:
    """Run one half of the pipeline in this process, which a hang ends after the clip's timeout.

    Args:
        given: for `solve`, what `perceive` returned.

    Returns:
        `perceive`: bytes, the pickled result; `solve`: an `Extraction` that passed `rows.check`;
        a `Verdict` where there is none.

    Raises:
        UserError: not the clip's fault: the pipeline cannot be loaded.
    """
    pipe = _loaded(job.perception, job.options)
    try:
        with _deadline(job.clip_timeout_s):
            if half == "perceive":
                return pickle.dumps(pipe.perceive(clip), protocol=pickle.HIGHEST_PROTOCOL)
            result = pipe.solve(clip, pickle.loads(*given))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place where a clip's error becomes its row
        return verdict(error)
    try:
        rows.check(result)
    except (ValueError, TypeError, AttributeError) as error:
        return failed("invalid_result", str(error))
    return result


@functools.cache
def _loaded(name: str, options: str) -> pipeline.Pipeline:
    return pipeline.load(name, json.loads(options))


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    # faulthandler's thread is not Python's: it fires even where an extension holds the GIL.
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
