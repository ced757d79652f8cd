"""The metrics of a run as Prometheus reads them, against the committed view."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ego_ops import shards
from ego_ops.manifest import write
from ego_ops.work import Done
from tests.pipelines import clips, write_manifest
from tests.ray_nodes import Cluster, environment, free_ports, get
from workflows import metrics

pytest.importorskip("opencensus", reason="Ray's Prometheus port needs ray[default]")
VERBS = ("fine", "fine", "reject", "missing", "invalid")
LINE = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)$")


def samples(text: str, name: str, *labels: str) -> Counter:
    """Values of a metric by some of its labels, over all processes that report it."""
    found: Counter = Counter()
    for line in text.splitlines():
        match = LINE.match(line)
        if match and match["name"] == name:
            given = dict(re.findall(r'(\w+)="([^"]*)"', match["labels"]))
            found[tuple(given[label] for label in labels)] += float(match["value"])
    return found


@pytest.mark.timeout(400)
def test_prometheus_sees_what_is_committed(tmp_path):
    manifest = write_manifest(tmp_path, 60, VERBS)
    write(manifest, clips(15, ("fine", "reject"), corpus="other"))
    out = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "workflows.cli", "extract", "--manifest", manifest),
        *("--out", str(out), "--perception", "tests.pipelines:Scripted", "--clips-per-shard", "8"),
        *("--max-unexpected", "1", "--option", "seconds=0.01"),
    ]
    (port,) = free_ports(1)
    with Cluster() as cluster:
        cluster.add(2, f"--metrics-export-port={port}")
        cluster.wait()
        address = f"--address={cluster.address}"
        job = subprocess.run(
            [*command, address],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert job.returncode == 0, job.stdout + job.stderr
        assert " INFO " not in job.stdout + job.stderr, "words of Ray's own"
        expected = truth(out)
        assert expected.total() == 75
        text = scrape(port, expected)
    labels = ("corpus", "status", "reason", "error_class")
    assert samples(text, "ray_egoscaler_clips_total", *labels) == expected
    written = sum(path.stat().st_size for path in out.glob("bucket=*/*.parquet"))
    assert samples(text, "ray_egoscaler_bytes_total")[()] == written
    units = samples(text, "ray_egoscaler_stage_seconds_count", "stage")
    records = sum(1 for _ in out.glob("commits/*/*.json"))
    assert units == {("perceive",): records, ("solve",): records, ("commit",): records}
    spent = samples(text, "ray_egoscaler_stage_seconds_sum", "stage")
    assert 0.009 < spent[("perceive",)] / records < 1.0


def truth(out: Path) -> Counter:
    counts: Counter = Counter()
    for _, view in shards.committed(str(out)):
        for entry in view.values():
            reason = entry.label if entry.status == "rejected" else ""
            error = entry.label if entry.status == "failed" else ""
            counts[(entry.corpus, entry.status, reason, error)] += 1
    return counts


def scrape(port: int, expected: Counter) -> str:
    """The page, once it has all that is expected (Ray reports with a delay), or as it stays."""
    end = time.monotonic() + 60
    while True:
        text = get(f"http://127.0.0.1:{port}/metrics")
        found = samples(text, "ray_egoscaler_clips_total")[()]
        if found >= expected.total() or time.monotonic() > end:
            return text
        time.sleep(0.5)


@pytest.mark.usefixtures("ray_cluster")
def test_a_unit_is_counted_in_no_time():
    done = Done(
        Counter({("toy", "ok", ""): 14, ("toy", "rejected", "no_object"): 2}),
        {"perceive": 3.0, "solve": 2.0, "commit": 0.1},
        10_000,
    )
    metrics.committed(done)
    begun = time.process_time()
    for _ in range(1000):
        metrics.committed(done)
    assert (time.process_time() - begun) / 1000 < 1e-3
