"""Normalisation statistics of a source, as a Ray Data job over its units: two passes, no pictures.

    spans of units -> read and add up (tasks) -> added up here, in the order of the spans

The spans hang on the source alone, so the same source has the same statistics to the last bit,
however many workers there are.
"""

from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

from ego_ops.errors import UserError
from training.config import SourceConfig
from training.data.moments import Histogram, Moments
from training.data.norm import NormStats
from training.data.sample import Source, Unit
from training.data.sources import open_source

_Sum = TypeVar("_Sum", Moments, Histogram)
_SPANS = 256
"""Most of them, for what comes back of each (a megabyte) is held here for a moment."""


def statistics(
    config: SourceConfig, horizon: int, held_out: float = 0.0, workers: int | None = None
) -> NormStats:
    """Statistics of the states and actions that a source trains on.

    Works in the Ray that this process is connected to.

    Args:
        config: the source.
        horizon: actions of a window; each recorded action counts once, whatever it is.
        held_out: share that is held out from training, and left out here.
        workers: units read at a time; as many as Ray has CPUs by default.

    Raises:
        UserError: the source cannot be read, or holds numbers that are not finite.
    """
    source = open_source(config, horizon, "train" if held_out else "all", held_out)
    return of_source(source, workers)


def of_source(source: Source, workers: int | None = None) -> NormStats:
    """Statistics of every window of a source: see `statistics`."""
    moments = _added(source, _moments, workers)
    state, actions = _added(source, functools.partial(_histograms, moments=moments), workers)
    return NormStats(state.statistics(), actions.statistics())


def _moments(unit: Unit) -> tuple[Moments, Moments]:
    return Moments.of(unit.states()), Moments.of(unit.steps())


def _histograms(unit: Unit, moments: tuple[Moments, Moments]) -> tuple[Histogram, Histogram]:
    state, actions = moments
    return Histogram.of(unit.states(), state), Histogram.of(unit.steps(), actions)


def _added(
    source: Source, look: Callable[[Unit], tuple[_Sum, _Sum]], workers: int | None
) -> tuple[_Sum, _Sum]:
    """What `look` says of the states and actions of every unit, added up."""
    import ray

    units = len(source.windows())
    size = math.ceil(units / _SPANS)
    rows = [{"begin": at, "end": min(at + size, units)} for at in range(0, units, size)]
    room = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    plan = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _span,
        fn_args=(source, look),
        compute=ray.data.TaskPoolStrategy(size=min(room, len(rows))),
        batch_size=1,
        batch_format="pyarrow",
    )
    found: dict[int, tuple[_Sum, _Sum]] = {}
    for row in plan.iter_rows():
        if row["fatal"]:
            raise UserError(row["fatal"])
        found[row["begin"]] = pickle.loads(row["sums"])
    return functools.reduce(_both, (found[begin] for begin in sorted(found)))


def _span(batch: pa.Table, source: Source, look: Callable[[Unit], tuple]) -> pa.Table:
    """The task: the sums of a span of units. An error comes back as a row, in its own words."""
    (row,) = batch.to_pylist()
    sums, fatal = b"", ""
    try:
        units = (source.load(unit, pictures=False) for unit in range(row["begin"], row["end"]))
        sums = pickle.dumps(functools.reduce(_both, map(look, units)), -1)
    except UserError as error:
        fatal = str(error)
    columns = {"begin": [row["begin"]], "sums": [sums], "fatal": [fatal]}
    return pa.table(columns, schema=_RESULT)


def _both(one: tuple[_Sum, _Sum], other: tuple[_Sum, _Sum]) -> tuple[_Sum, _Sum]:
    return one[0] + other[0], one[1] + other[1]


_RESULT = pa.schema({"begin": pa.int64(), "sums": pa.large_binary(), "fatal": pa.string()})
