"""What `egoscaler evaluate` says where nothing is left to do."""

from __future__ import annotations

import pytest

from ego_ops.errors import UserError
from sim_eval import results
from sim_eval.episode import FAILURE
from sim_eval.rollout import unplayed
from workflows import evaluate
from workflows.evaluate import EvaluateConfig
from workflows.evaluate_plan import plans


def test_a_folder_that_takes_no_files_keeps_back_no_table(tmp_path, capsys):
    config = EvaluateConfig(
        suite="tests.points:Points", policy="random", episodes=3, out=str(tmp_path)
    )
    (plan,), _, _ = plans(config, [config.suite], [config.policy])
    rows = [unplayed(plan.suite, one, "random", FAILURE, "") for one in plan.episodes]
    results.commit(config.out, rows)
    (tmp_path / results.TEXT).mkdir()  # so it cannot be written
    with pytest.raises(UserError, match="cannot write"):
        evaluate.run(config)
    assert "0/6" in capsys.readouterr().out
