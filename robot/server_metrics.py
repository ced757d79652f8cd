"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
STAGES = {
    "decode": "reading the message",
    "queue": "waiting for a call of the policy",
    "infer": "the policy's call",
    "total": "from the message's arrival to the sending of its answer",
}


class Histogram:
    """How many values were at most each of some bounds."""

    def __init__(self, bounds: tuple[float, ...]):
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str = "") -> Iterator[str]:
        """As Prometheus's text; labels are `a="b",` or nothing."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels}le="{bound}"}} {total}'
        inner = f"{{{labels.rstrip(',')}}}" if labels else ""
        yield f"{name}_sum{inner} {self._sum:.9g}"
        yield f"{name}_count{inner} {total}"


class Metrics:
    """All of a server's."""

    def __init__(self) -> None:
        self.stages = {stage: Histogram(_SECONDS) for stage in STAGES}
        self.batches = Histogram(_SIZES)
        self.requests: Counter[str] = Counter(ok=0)
        """By outcome: `ok`, or a code of `robot.protocol.CODES`."""
        self.refused: Counter[str] = Counter()
        """Connections and messages that were not taken, by reason."""

    def text(self, gauges: dict[str, float]) -> str:
        """The whole page.

        Args:
            gauges: what is the case now, by name.
        """
        return "\n".join(self._lines(gauges)) + "\n"

    def _lines(self, gauges: dict[str, float]) -> Iterator[str]:
        for name, value in gauges.items():
            yield from (f"# TYPE egoscaler_{name} gauge", f"egoscaler_{name} {value:g}")
        for name, label, counter in (
            ("requests", "code", self.requests),
            ("refused", "reason", self.refused),
        ):
            yield f"# TYPE egoscaler_{name}_total counter"
            for key, count in sorted(counter.items()):
                yield f'egoscaler_{name}_total{{{label}="{key}"}} {count}'
        yield "# HELP egoscaler_stage_seconds " + ", ".join(f"{k}: {v}" for k, v in STAGES.items())
        yield "# TYPE egoscaler_stage_seconds histogram"
        for stage, histogram in self.stages.items():
            yield from histogram.lines("egoscaler_stage_seconds", f'stage="{stage}",')
        yield "# TYPE egoscaler_batch_requests histogram"
        yield from self.batches.lines("egoscaler_batch_requests")
