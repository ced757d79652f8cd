"""A cluster whose nodes are lost and come at random while `extract` runs on it."""

from __future__ import annotations

import dataclasses
import json
import logging
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from ego_ops.clip import Clip
from ego_ops.errors import UserError
from ego_ops.manifest import Manifest
from tests import without_ray
from tests.pipelines import Scripted, write_manifest
from tests.ray_nodes import Cluster, environment, free_ports
from tests.test_kill import DRIVER, config, rows_of
from workflows import cluster
from workflows.extract import ExtractConfig

CLIPS = 400


class Paced(Scripted):
    """`Scripted`, but each half takes as many seconds as the file `<state>/pace` says."""

    def _act(self, half: str, clip: Clip, verb: str) -> None:
        pace = Path(self._state) / "pace"
        self._seconds = float(pace.read_text()) if pace.exists() else 0.0
        super()._act(half, clip, verb)


class Run:
    """A driver on the head, which has no CPUs of its own."""

    def __init__(self, flags: ExtractConfig, log: Path):
        self._out = Path(flags.out)
        self._log = log
        command = [sys.executable, "-c", DRIVER, json.dumps(dataclasses.asdict(flags))]
        with open(log, "wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment())

    def text(self) -> str:
        return self._log.read_text()

    def parts(self) -> int:
        return sum(1 for _ in self._out.glob("commits/*/*.json"))

    def progress(self, more: int, seconds: float = 150) -> float:
        """Wait for so many more commits. Returns the seconds that it took."""
        begun, before = time.monotonic(), self.parts()
        while self.parts() < before + more:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < begun + seconds, f"no progress: {self.text()}"
            time.sleep(0.1)
        return time.monotonic() - begun


@pytest.mark.timeout(900)
@pytest.mark.parametrize("changes", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_nodes_lost_and_added_at_random_change_nothing(changes, tmp_path, caplog):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    manifest = write_manifest(tmp_path, CLIPS, (*("fine",) * 8, "reject", "missing"))
    undisturbed = dataclasses.replace(
        config(tmp_path / "undisturbed", manifest), perception="tests.test_cluster_nodes:Paced"
    )
    without_ray.run(undisturbed)
    flags = dataclasses.replace(
        config(tmp_path / "disturbed", manifest),
        perception="tests.test_cluster_nodes:Paced",
        workers=3,
        clips_per_shard=2,
    )
    pace = tmp_path / "disturbed/state/pace"
    pace.write_text("1.0")
    with Cluster() as nodes:
        nodes.add(2)
        nodes.wait()
        driver = Run(dataclasses.replace(flags, address=nodes.address), tmp_path / "log")
        driver.progress(1)
        done = change_at_random(nodes, driver, dice, changes)
        pace.write_text("0")
        assert driver.process.wait(300) == 0, driver.text()
    print(done)
    assert "room for 1 of 3 workers now" in driver.text()
    assert f"{CLIPS} done, 0 left" in driver.text()
    with caplog.at_level(logging.WARNING):
        found, expected = rows_of(flags.out), rows_of(undisturbed.out)
    assert found["clip_id"].to_pylist() == sorted(clip.clip_id for clip in Manifest(manifest))
    different = [name for name in found.schema.names if not found[name].equals(expected[name])]
    assert not different
    assert caplog.text == ""  # no part was torn
    begun = Counter(p.read_text().count("perceive ") for p in pace.parent.iterdir() if p != pace)
    print(begun)
    again = sum(count for times, count in begun.items() if times > 1)
    assert again <= done["lost"] * 2 * 8  # a handful of units for each node


def change_at_random(nodes: Cluster, driver: Run, dice: random.Random, changes: int) -> Counter:
    """Take nodes away and add others; once there is none at all. Work goes on after each change."""
    done: Counter = Counter()
    for change in range(changes):
        living = len(nodes.nodes)
        lose = living > 0 and (change == 3 or living == 3 or (living > 1 and dice.random() < 0.5))
        if lose:
            for node in dice.sample(nodes.nodes, living if change == 3 else 1):
                nodes.remove(node)
                done["lost"] += 1
        else:
            nodes.add(2)
            done["added"] += 1
        assert driver.parts() < CLIPS // 2 - 20, "it ended before all changes were made"
        nodes.wait()
        if nodes.nodes:
            took = driver.progress(dice.randint(1, 3))
            print(f"change {change}: {len(nodes.nodes)} nodes, progress after {took:.1f} s")
        else:
            time.sleep(dice.random() * 5)
    return done


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:{free}", "no Ray cluster there"),
        ("127.0.0.1:six", "no Ray cluster there"),
        ("no-such-host.invalid:6379", "no Ray cluster there"),
        ("ray://127.0.0.1:10001", "use `ray job submit`"),
        ("nonsense", "cannot join Ray"),
        ("127.0.0.1:{other}", "no Ray cluster there"),
        ("127.0.0.1:{deaf}", "no Ray cluster there"),
    ],
)
@pytest.mark.timeout(120)
def test_an_address_without_a_cluster_is_one_line_soon(tmp_path, address, says):
    """In a process of its own: this one may be connected to a Ray."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections and says nothing
        ports = {"free": free_ports(1)[0], "deaf": deaf.getsockname()[1], "other": web.server_port}
        flags = config(tmp_path, write_manifest(tmp_path, 1))
        there = dataclasses.replace(flags, address=address.format(**ports))
        begun = time.monotonic()
        driver = Run(there, tmp_path / "log")
        assert driver.process.wait(110) == 1
        took = time.monotonic() - begun
    web.shutdown()
    lines = [line for line in driver.text().splitlines() if line.startswith("egoscaler: ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert "Traceback" not in driver.text()
    assert took < 40  # 10 of them in the probe, the rest is Python's start on a busy machine


def test_workers_that_fit_are_counted_by_node():
    nodes = [{"CPU": 0.0}, {"CPU": 3.0}, {"CPU": 3.0, "GPU": 1.0}, {"memory": 1e9}]
    flags = ExtractConfig(address="127.0.0.1:6379")
    assert cluster._workers(flags, nodes) == 2  # not three: 1.5 do not fit a node
    gpu = dataclasses.replace(flags, gpus_per_worker=0.5, cpus_per_worker=0.5)
    assert cluster._workers(gpu, nodes) == 2
    assert cluster._workers(dataclasses.replace(gpu, workers=50), nodes) == 50  # they wait
    with pytest.raises(UserError, match="give --workers to wait for nodes"):
        cluster._workers(flags, nodes[:1])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("starts", [1, 2])
def test_a_ray_that_does_not_start_is_started_once_more(tmp_path, starts):
    """Its raylet is stopped as soon as it is there, as if it never had its turn."""
    flags = config(tmp_path, write_manifest(tmp_path, 1))
    driver, raylets = Run(flags, tmp_path / "log"), []
    while len(raylets) < starts:
        assert driver.process.poll() is None, driver.text()
        for one in psutil.Process(driver.process.pid).children(recursive=True):
            if one.name() == "raylet" and one not in raylets:
                one.suspend()
                raylets.append(one)
    assert driver.process.wait(200) == starts - 1
    assert ("egoscaler: Ray did not start on this machine" in driver.text()) == (starts == 2)
    assert "Traceback" not in driver.text()
    for one in raylets:
        one.wait(30)
