"""What tests share: one Ray cluster for those that need one, and the way to their modules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflows import cluster

# For the processes that tests start, which import the tests' pipelines.
os.environ["PYTHONPATH"] = os.pathsep.join(
    path
    for path in (str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH"))
    if path
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes run the tests: a file stays in one, and all that share the Ray cluster do."""
    for item in items:
        shares = "ray_cluster" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if shares else item.path.stem))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray of 4 logical CPUs, which `workflows.cluster.connect` finds and uses."""
    cluster.hush()
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()
