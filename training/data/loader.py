"""Batches for one worker, made ahead of time by threads of its process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from training.batch import Batch
from training.data.mixture import Mixer
from training.data.mixture import Sample as Made
from training.data.order import Draw, Order, lanes, share
from training.data.sample import Source, Unit

_AHEAD = 2
_Pool = tuple[int, int]
"""A source and the number of one of its pools."""


class Loader:
    """Batches from step `begin` on, without end; use it in a `with`, or `close` it.

    Args:
        sources: those of the mixture.
        order: of their windows: `training.data.order.Order`.
        mixer: makes batches of windows: `training.data.mixture.Mixer`.
        batch: samples a step, over all workers.
        rank, world: this worker, and how many there are.
        begin: the first step; a run that is resumed gives the steps that are done.
        threads: that decode and augment.
        finish: what to do to each batch in the background (to pin its memory, for one).

    Raises:
        UserError: `world` does not divide `batch`. What goes wrong in the background is raised
            where the next batch is asked for.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        order: Order,
        mixer: Mixer,
        *,
        batch: int,
        rank: int = 0,
        world: int = 1,
        begin: int = 0,
        threads: int = 2,
        finish: Callable[[Batch], Batch] | None = None,
    ):
        share(begin, batch, rank, world)  # an error now, not in the background
        self._numbers = lambda step: share(step, batch, rank, world)
        self._order, self._mixer, self._begin, self._finish = order, mixer, begin, finish
        self._pools = _Pools(sources, order, lanes(rank, world))
        self._makers = ThreadPoolExecutor(threads, "make samples")
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._worker = threading.Thread(target=self._work, name="make batches", daemon=True)
        self._worker.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed.is_set():
            raise StopIteration
        got = self._ready.get()
        if isinstance(got, BaseException):
            self.close()
            raise got
        return got

    def close(self) -> None:
        """Stop the background threads and let go of what they hold."""
        self._closed.set()
        self._pools.close()
        self._makers.shutdown(cancel_futures=True)
        self._worker.join()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        step = self._begin
        try:
            while not self._closed.is_set():
                self._put(self._make(self._numbers(step)))
                step += 1
        except BaseException as error:  # noqa: BLE001  it is raised in the consumer
            self._put(error)

    def _make(self, numbers: range) -> Batch:
        draws = self._order.draws(numbers)
        units = self._pools.units(draws)
        made = self._makers.map(self._sample, draws, units)
        batch = self._mixer.batch(list(made))
        return self._finish(batch) if self._finish else batch

    def _sample(self, draw: Draw, unit: Unit) -> Made:
        return self._mixer.sample(draw.number, draw.source, unit.window(draw.window))

    def _put(self, item: Batch | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return


class _Pools:
    """The units that some lanes use of the pools drawn from now, and of each source's next."""

    def __init__(self, sources: Sequence[Source], order: Order, lanes: Sequence[int]):
        self._sources, self._order, self._lanes = sources, order, lanes
        self._reader = ThreadPoolExecutor(1, "read units")
        self._held: dict[_Pool, dict[int, Future[Unit]]] = {}

    def units(self, draws: Sequence[Draw]) -> list[Unit]:
        """The unit of each draw. Draws of one call come after those of the call before."""
        used = {(draw.source, draw.pool) for draw in draws}
        first = {source: min(p for s, p in used if s == source) for source, _ in used}
        for source, pool in list(self._held):
            if pool < first.get(source, 0):
                del self._held[source, pool]
        wanted = sorted(used, key=lambda each: each[1])
        for source, pool in wanted + [(s, p + 1) for s, p in wanted if p == first[s]]:
            self._want(source, pool)
        return [self._held[draw.source, draw.pool][draw.unit].result() for draw in draws]

    def close(self) -> None:
        """Read no more."""
        self._reader.shutdown(cancel_futures=True)

    def _want(self, source: int, pool: int) -> None:
        if (source, pool) in self._held:
            return
        # Where an epoch has few units, the next one's first pool has some of those held already.
        load = self._sources[source].load
        held: dict[int, Future[Unit]] = {}
        for (other, _), units in self._held.items():
            if other == source:
                held |= units
        self._held[source, pool] = {
            unit: held[unit] if unit in held else self._reader.submit(load, unit)
            for unit in self._order.units(source, pool, self._lanes)
        }
