"""`egoscaler evaluate` on a cluster that loses a node."""

from __future__ import annotations

import pytest

from sim_eval.episode import SUCCESS
from tests.evaluation_runs import Run, told
from tests.ray_nodes import Cluster


@pytest.mark.slow
def test_a_lost_node_loses_no_episode_and_is_no_fault_of_any(tmp_path):
    with Cluster() as cluster:
        node = cluster.add(2)
        cluster.add(2)
        cluster.wait()
        run = Run(
            *("evaluate", "--suite", "tests.evaluation_runs:SlowPoints", "--policy", "expert"),
            *("--address", cluster.address, "--episodes", "60", "--workers", "3", "--videos", "0"),
            out=tmp_path / "eval",
        )
        run.wait_for(10)
        cluster.remove(node)
        run.text()
    found = told(run.out)
    assert len(found) == 120
    assert {(row.outcome, row.attempts) for row in found.values()} == {(SUCCESS, 1)}
