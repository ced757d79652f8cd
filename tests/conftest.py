"""What tests share: a Ray cluster for those that need one, and the way to their modules."""

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

LONG = (
    *("test_reproduce", "test_pretrain_kill", "test_kill", "test_cluster_nodes"),
    *("test_extract_run", "test_cli", "test_job_submit", "test_pipeline", "test_s3"),
    *("test_broken_corpora", "test_learned_cli", "test_perception_no_hands"),
    *("test_libero_scene", "test_evaluate_kill", "test_pretrain"),
)
"""Files of half a minute and more. They begin first: at the end, one would run alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several processes run the tests, each of them one file after the other."""
    turn = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: turn.get(item.path.stem, len(turn)))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray of 4 logical CPUs, which `workflows.cluster.connect` finds and uses. Each of the
    processes that run the tests has its own."""
    cluster.hush()
    import ray

    cluster.start(None, 4)
    yield
    ray.shutdown()
