"""`egoscaler reproduce`: what it makes of results, and the whole of it at a tiny size."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import ray
from scipy import stats

from ego_ops.errors import UserError
from ego_ops.processes import in_processes
from ego_ops.storage import store
from sim_eval import results, statistics
from sim_eval.episode import ENVIRONMENT_ERROR, FAILURE, SUCCESS
from tests.eval_rows import result
from workflows import reproduce
from workflows.reproduce_findings import SCRATCH, Run, find
from workflows.reproduce_page import table


def run_of(folder: Path, arm: str, seed: int, solved: list[bool | None], error: float) -> Run:
    """A run with a last validation, and its episodes among the results beside it; None is one that
    ended in an error of the simulator."""
    run = Run(arm, seed, folder / f"{arm}-{seed}", f"{arm}{seed}")
    run.folder.mkdir()
    lines = [{"step": k, "validation/action_error": value} for k, value in ((1, 9.0), (2, error))]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {"step": 2, "loss": 1.0}])
    (run.folder / "metrics.jsonl").write_text(text)
    outcome = {True: SUCCESS, False: FAILURE, None: ENVIRONMENT_ERROR}
    rows = [
        result(seed=k, outcome=outcome[one], policy=str(run.folder), digest=run.digest)
        for k, one in enumerate(solved)
    ]
    results.commit(str(folder / "evaluation"), rows)
    return run


def test_findings_are_over_seeds(tmp_path: Path) -> None:
    runs = [
        run_of(tmp_path, SCRATCH, 0, [True, False, False, False], 0.30),
        run_of(tmp_path, "curated", 0, [True, True, False, None], 0.20),
        run_of(tmp_path, SCRATCH, 1, [False, False, False, False], 0.32),
        run_of(tmp_path, "curated", 1, [True, True, False, False], 0.25),
    ]
    found = find(runs, results.table(str(tmp_path / "evaluation")))
    scratch, curated = found.arms
    assert [(one.successes, one.episodes) for one in scratch.scores] == [(1, 4), (0, 4)]
    assert [(one.successes, one.episodes) for one in curated.scores] == [(2, 3), (2, 4)]
    assert curated.pooled == statistics.wilson(4, 7)
    low, high = stats.t.interval(0.95, 1, np.mean([2 / 3, 0.5]), stats.sem([2 / 3, 0.5]))
    assert curated.rate == pytest.approx((np.mean([2 / 3, 0.5]), low, high))

    (contrast,) = found.contrasts
    assert contrast.name == "curated"
    # Seed 0: both, only curated, neither (an episode in error is no pair); seed 1: twice curated.
    assert contrast.pairs == (1, 3, 0, 3)
    assert contrast.p == pytest.approx(0.25)
    assert contrast.difference.value == pytest.approx(((2 / 3 - 1 / 4) + 0.5) / 2)
    assert contrast.action_error.value == pytest.approx(-0.085)
    low, high = stats.t.interval(0.95, 1, -0.085, stats.sem([-0.10, -0.07]))
    assert contrast.action_error[1:] == pytest.approx((low, high))


def test_no_difference_is_claimed_that_seeds_may_explain(tmp_path: Path) -> None:
    half = [True, False] * 20
    more, less = [True] * 30 + [False] * 10, [True] * 2 + [False] * 38
    for name, seeds, words in (
        ("varies", [half, more, less], "no difference beyond what seeds differ"),
        ("better", [more, more[1:] + [True], more], "better, beyond what seeds differ"),
        ("worse", [less, less[1:] + [True], less], "worse, beyond what seeds differ"),
        ("one", [more], "one seed tells nothing"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        runs = [
            run_of(folder, arm, seed, solved if arm != SCRATCH else half, 0.3)
            for seed, solved in enumerate(seeds)
            for arm in (SCRATCH, "all clips")
        ]
        found = find(runs, results.table(str(folder / "evaluation")))
        assert words in table(found)
        assert math.isnan(found.contrasts[0].difference.low) == (name == "one")


def test_runs_without_episodes_are_no_zero(tmp_path: Path) -> None:
    run = run_of(tmp_path, SCRATCH, 0, [None, None], 0.3)
    with pytest.raises(UserError, match="none of its episodes was judged"):
        find([run], results.table(str(tmp_path / "evaluation")))


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    config = reproduce.ReproduceConfig
    with pytest.raises(UserError, match=r"tabletop_plain has .*carrot_on_plate"):
        reproduce.run(config(out=tmp_path, tasks=("fly",)))
    with pytest.raises(UserError, match="--demonstrations 0"):
        reproduce.run(config(out=tmp_path, demonstrations=0))
    assert not list(tmp_path.iterdir())
    flags = {"clips": 3, "seeds": "1"}
    (tmp_path / "reproduce.json").write_text(json.dumps(flags))
    with pytest.raises(UserError, match="was begun with --clips 3, not 5: use another --out"):
        reproduce.run(config(out=tmp_path, clips=5, seeds="1"))


def test_a_folder_takes_more_seeds_and_no_other_flags(tmp_path: Path) -> None:
    config = reproduce.ReproduceConfig(out=tmp_path, seeds="0..2")
    reproduce._bind(config)
    reproduce._bind(dataclasses.replace(config, seeds="0..5", workers=1))
    with pytest.raises(UserError, match="was begun with --episodes 50, not 40"):
        reproduce._bind(dataclasses.replace(config, episodes=40))


def test_one_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    with (
        store(str(tmp_path)).lock("lock", "held"),
        pytest.raises(UserError, match="another reproduce works there now"),
    ):
        reproduce.run(reproduce.ReproduceConfig(out=tmp_path))


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_is_one_line() -> None:
    with pytest.raises(UserError, match="processes died, as if killed"):
        list(in_processes([(die, 1), (die, 2)], 2))


@pytest.mark.usefixtures("ray_cluster")
def test_the_whole_of_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("mujoco") is None:
        pytest.skip("the extra `demo` is not installed")
    config = reproduce.ReproduceConfig(
        out=tmp_path / "out",
        clips=3,  # which of them are tracked to the end differs between machines
        tasks=("carrot_on_plate",),
        demonstrations=2,
        seeds="5",
        pretrain_steps=2,
        finetune_steps=3,
        batch=4,
        episodes=1,
        address=ray.get_runtime_context().gcs_address,
    )
    found = reproduce.run(config)
    text = capfd.readouterr().out
    names = [arm.name for arm in found.arms]
    assert names[:2] == [SCRATCH, "all clips"]
    assert names[2:] == ([] if "nothing to tell apart" in text else ["curated"])
    for arm in found.arms:
        (score,) = arm.scores
        assert score.episodes == 1
        assert math.isfinite(score.action_error)
    # Pre-training was not for nothing: other weights were fine-tuned, to other errors.
    assert len({arm.action_error.value for arm in found.arms[:2]}) == 2
    assert "one seed tells nothing" in text
    page = (config.out / "reproduction.md").read_text()
    assert "| from scratch | " in page
    assert re.search(r"^\| (selected|left out) \| [123] \| \d", page, re.MULTILINE)
    assert (config.out / "reproduction.png").stat().st_size > 1000
    # What else is in the folder, as after a sweep over more seeds, is not counted.
    evaluation = str(config.out / "evaluation")
    digests = set(results.table(evaluation)["policy_digest"].to_pylist())
    rows = [result(seed=9, outcome=SUCCESS, digest=digest) for digest in digests]
    results.commit(evaluation, rows)
    assert reproduce.run(config) == found
    assert "nothing left to do" in capfd.readouterr().out
