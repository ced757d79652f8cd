"""What a training run says while it goes on: read from the log that it writes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from training.config import TrainConfig
from workflows.duration import duration

_EVERY_S = 5.0


class Progress:
    """Follows the `metrics.jsonl` of a run, and prints a line every few seconds.

    Args:
        folder: of the run.
        config: of the run.
        begin: the step that it goes on from.
        quiet: print warnings only.
    """

    def __init__(
        self, folder: str | Path, config: TrainConfig, begin: int = 0, quiet: bool = False
    ):
        from training.log import FILE  # which needs torch: the command must start without

        self._path = Path(folder) / FILE
        self._config, self._quiet = config, quiet
        self._file, self._place, self._step = 0, 0, begin
        self._said = time.monotonic()
        self._last: dict[str, Any] = {}
        self._warned = {record.get("warning") for record in self._new()}
        self._step = begin

    def look(self) -> None:
        """Print what is new, if it is time."""
        for record in self._new():
            warning = record.get("warning")
            if warning is not None and warning not in self._warned:
                self._warned.add(warning)
                print(f"warning: {warning}", flush=True)
            elif "loss" in record:
                self._last = record
            elif warning is None:
                self._say(_numbers(record))
        if self._last and time.monotonic() - self._said > _EVERY_S:
            self.close()

    def close(self) -> None:
        """Print the newest numbers, if that has not been done."""
        if self._last:
            self._say(self._line(self._last))
            self._last, self._said = {}, time.monotonic()

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(text, flush=True)

    def _new(self) -> list[dict[str, Any]]:
        """Whole lines that were added, and warnings. A run that goes on writes the file anew."""
        try:
            with open(self._path, "rb") as file:
                number = os.fstat(file.fileno()).st_ino
                if number != self._file:
                    self._file, self._place = number, 0
                file.seek(self._place)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._place += len(whole)
        found = [json.loads(line) for line in whole.splitlines()]
        new = [record for record in found if record["step"] > self._step or "warning" in record]
        self._step = max([self._step, *(record["step"] for record in found)])
        return new

    def _line(self, record: dict[str, Any]) -> str:
        step, rate, last = record["step"], record["samples_per_s"], self._config.steps
        line = f"step {step}/{last}, loss {record['loss']:.4g}, {rate:.3g} samples/s"
        left = (last - step) * self._config.batch
        return line + (f", {duration(left / rate)} to go" if left and rate else "")


def _numbers(record: dict[str, Any]) -> str:
    """What is known of all sources together, such as `validation/loss`."""
    numbers = [f"{k} {v:.4g}" for k, v in record.items() if k.count("/") == 1 and v is not None]
    return f"step {record['step']}: {', '.join(numbers)}"
