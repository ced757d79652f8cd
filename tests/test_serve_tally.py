"""A minute in a line, from pages that the server itself makes."""

from __future__ import annotations

import numpy as np

from robot.server_metrics import Metrics
from workflows.serve_tally import counted, line, quantile, since


def test_what_was_asked_since() -> None:
    metrics = Metrics()
    chance = np.random.default_rng(0)
    seconds = chance.uniform(0.02, 0.08, 500)

    def ask(some: np.ndarray) -> None:
        for value in some:
            metrics.stages["total"].add(value)
            metrics.stages["infer"].add(9.0)  # another stage's are not counted
            metrics.requests["ok"] += 1

    ask(np.full(100, 0.0002))
    before = counted(metrics.text({"ready": 1.0}))
    assert line(before).startswith("100 answered; p50 0.1")
    ask(seconds)
    metrics.requests["deadline"] += 3
    now = counted(metrics.text({"ready": 1.0}))
    added = since(now, before)
    assert (added["ok"], added["deadline"]) == (500, 3)
    for share in (0.5, 0.99):  # within its bucket: 25, 50, 100 ms
        found, truth = quantile(added, share), np.quantile(seconds, share)
        assert 0.5 * truth < found < 2 * truth
    assert line(added).endswith(" ms; 3 deadline")
    assert line(since(now, now)) == ""
    anew = since(before, now)  # another process began to count
    assert anew["ok"] == 100


def test_beyond_the_last_bound() -> None:
    metrics = Metrics()
    metrics.stages["total"].add(30.0)
    assert quantile(counted(metrics.text({})), 0.5) == 5.0
