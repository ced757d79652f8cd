"""What each stage of a clip takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ego_ops.perception.learned.device import Device


@dataclass
class Stopwatch:
    """Seconds by stage, with what a stage left running on the device counted to it."""

    device: Device
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.device.finish()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun
