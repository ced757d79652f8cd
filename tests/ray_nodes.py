"""A Ray cluster of one machine for tests: each node a process tree of its own, with own ports.

Nothing here touches a Ray that it did not start: nodes are ended by their process ids.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType

import psutil

QUIET = {
    "RAY_AUTH_MODE": "disabled",  # a token that another Ray left on this machine is not ours
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_num_prestart_python_workers": "0",
    "RAY_metrics_report_interval_ms": "1000",
}


class Node:
    """What one `ray start` started."""

    def __init__(self, arguments: list[str], log: Path):
        self._command = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments]
        self._command += ["--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1"]
        self._command += ["--object-store-memory=200000000", "--include-log-monitor=false"]
        # By default every node's agent wants one and the same port, and jobs are started by agents.
        self._command += [f"--dashboard-agent-listen-port={free_ports(1)[0]}"]
        self.log = log
        self.start()

    def start(self) -> None:
        with open(self.log, "wb") as file:
            self.process = subprocess.Popen(
                self._command, stdout=file, stderr=file, env=environment(), start_new_session=True
            )

    def family(self) -> list[psutil.Process]:
        """Its processes, the workers among them."""
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Everything at one stroke, as when a machine is gone."""
        family = self.family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)
        self.process.wait(30)


class Cluster:
    """A head without CPUs, and nodes that come and go; a context manager."""

    def __init__(self, dashboard: bool = False):
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets lie in it
        self.port, self.dashboard_port = free_ports(2)
        self.address = f"127.0.0.1:{self.port}"
        self.nodes: list[Node] = []
        arguments = ["--head", f"--port={self.port}", "--num-cpus=0", "--num-gpus=0"]
        arguments += ["--no-monitor"]  # the autoscaler's
        arguments += [f"--temp-dir={self._folder}"]
        arguments += [f"--include-dashboard={dashboard}"]
        arguments += [f"--dashboard-port={self.dashboard_port}"]
        self.head = Node(arguments, self._folder / "head.log")
        self._started = 0

    def __enter__(self) -> Cluster:
        end = time.monotonic() + 60
        while not _listens(self.port):
            assert self.head.process.poll() is None, self.head.log.read_text()
            assert time.monotonic() < end, self.head.log.read_text()
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in [*self.nodes, self.head]:
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, cpus: int, *arguments: str) -> Node:
        """Start a node; `wait` says when Ray has it."""
        self._started += 1
        node = Node(
            [f"--address={self.address}", f"--num-cpus={cpus}", "--num-gpus=0", *arguments],
            self._folder / f"node-{self._started}.log",
        )
        self.nodes.append(node)
        return node

    def remove(self, node: Node) -> None:
        node.kill()
        self.nodes.remove(node)

    def wait(self, seconds: float = 180) -> None:
        """Wait until Ray's own count of living nodes is that of the processes."""
        end = time.monotonic() + seconds
        while True:
            for node in self.nodes:
                if node.process.poll() is not None:  # `ray start` allows 30 s, too few if busy
                    node.start()
            alive = self._alive()
            if alive == len(self.nodes) + 1:
                return
            assert time.monotonic() < end, f"{alive} nodes live, not {len(self.nodes) + 1}"
            time.sleep(0.2)

    def _alive(self) -> int:
        """Nodes, the head among them; 0 if the head is too busy to say."""
        from ray._raylet import GcsClient
        from ray.exceptions import RpcError

        try:
            found = GcsClient(address=self.address).get_all_node_info(timeout=30).values()
        except RpcError:
            return 0
        return sum(one.state == 0 for one in found)  # GcsNodeInfo.ALIVE


def environment() -> dict[str, str]:
    """The environment of every process that has to do with a `Cluster`: nodes have the command."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return {**kept, **QUIET, "PATH": path}


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def get(url: str) -> str:
    """The body of a page, or an empty text where nobody answers (yet)."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
        return reply.read().decode()
    return ""


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
