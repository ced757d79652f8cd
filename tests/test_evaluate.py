"""`egoscaler evaluate` and `sweep`: real policies in the real suite, and servers that fail."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ego_ops.errors import UserError
from sim_eval import results, suites
from sim_eval.episode import ENVIRONMENT_ERROR, FAILURE, INVALID_ACTION, POLICY_ERROR, SUCCESS
from tests import eval_policy_files, minute_training
from tests.evaluation_runs import same, told
from workflows import evaluate, evaluation, sweep
from workflows.evaluate import EvaluateConfig
from workflows.evaluate_plan import parse_seeds
from workflows.sweep import SweepConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")
POINTS = "tests.points:Points"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A π0 of some thousand random weights for the tabletop."""
    suite = suites.get("tabletop")
    robot = eval_policy_files.Robot(
        "tabletop", suite.state_size, suite.action_size, tuple(suite.cameras)
    )
    folder = tmp_path_factory.mktemp("policies") / "minute"
    return eval_policy_files.save(folder, minute_training.MODEL, [robot])


def test_a_checkpoint_on_the_tabletop_is_the_same_for_any_number_of_anything(checkpoint, tmp_path):
    config = EvaluateConfig(
        suite="tabletop", policy=checkpoint, tasks=("stack_cube",), seeds="0..2", batch=4, videos=0
    )
    one = replace(config, out=str(tmp_path / "one"), workers=1, envs_per_worker=1)
    many = replace(config, out=str(tmp_path / "many"), workers=2, envs_per_worker=2)
    for each in (one, many):
        evaluate.run(each)
    found = told(tmp_path / "one")
    same(found, told(tmp_path / "many"))
    horizon = suites.get("tabletop").tasks["stack_cube"].horizon
    for row in found.values():
        assert (row.outcome, row.steps) == (FAILURE, horizon)
        assert row.calls == horizon / minute_training.MODEL.horizon  # which is less than replan
    assert len({row.states for row in found.values()}) == 3


def test_what_is_added_is_all_that_is_done(tmp_path, capsys):
    config = EvaluateConfig(
        suite=POINTS, policy="expert", episodes=3, out=str(tmp_path), workers=2, videos=1
    )
    evaluate.run(config)
    first = told(tmp_path)
    assert Counter(row.outcome for row in first.values()) == {SUCCESS: 6}
    films = [row.video for row in first.values() if row.video]
    assert len(films) == 2  # one a task
    assert all((tmp_path / film).stat().st_size for film in films)
    capsys.readouterr()
    evaluate.run(config)
    assert "nothing left to do: all 6 episodes are in" in capsys.readouterr().out

    evaluate.run(replace(config, episodes=5))
    assert "6 episodes done, 4 left" in capsys.readouterr().out
    sweep.run(
        SweepConfig(
            suites=POINTS, policies="expert,random", seeds="0..4", out=str(tmp_path), workers=2
        )
    )
    assert "10 episodes done, 10 left" in capsys.readouterr().out
    found = told(tmp_path)
    assert Counter(policy for policy, _, _ in found) == {"expert": 10, "random": 10}
    assert all(found[key] == row for key, row in first.items())
    assert sum(bool(row.video) for row in found.values() if row.policy == "expert") == 2


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        ("error", POLICY_ERROR, "the server failed: KeyError: 'x'"),
        ("wide", INVALID_ACTION, "actions of 99 numbers: a point takes 2"),
    ],
)
def test_a_server_that_fails_is_reported_for_what_it_does(fault, outcome, words, tmp_path, capsys):
    with server(fault) as address:
        config = SweepConfig(
            suites=POINTS,
            policies=f"{address},expert",
            episodes=20,
            out=str(tmp_path),
            workers=2,
            envs_per_worker=2,
        )
        if outcome == POLICY_ERROR:
            with pytest.raises(UserError, match=r"40 of 80 episodes ended in errors .*40 policy_e"):
                sweep.run(config)
            assert f"warning: {address}: 3" in capsys.readouterr().out  # of 40: it is given up
        else:
            sweep.run(config)
    found = told(tmp_path)
    outcomes = Counter((row.policy, row.outcome) for row in found.values())
    assert outcomes == {(address, outcome): 40, ("expert", SUCCESS): 40}
    for row in found.values():
        assert row.policy == "expert" or words in row.error


@pytest.mark.slow  # a server may be away for half a minute before it is given up
def test_a_server_that_goes_away_leaves_the_rest_of_the_sweep_to_others(tmp_path, capsys):
    config = SweepConfig(
        suites=POINTS,
        policies="?,expert",
        episodes=10,
        out=str(tmp_path),
        workers=2,
        envs_per_worker=2,
    )
    with server("die") as address:
        config = replace(config, policies=f"{address},expert")
        with pytest.raises(UserError, match="no policy server there"):
            sweep.run(config)
    outcomes = Counter((row.policy, row.outcome) for row in told(tmp_path).values())
    assert outcomes == {(address, POLICY_ERROR): 20, ("expert", SUCCESS): 20}
    assert f"warning: {address}: " in capsys.readouterr().out

    with pytest.raises(UserError, match="no policy server there"):
        sweep.run(replace(config, episodes=11))
    outcomes = Counter((row.policy, row.outcome) for row in told(tmp_path).values())
    assert outcomes == {(address, POLICY_ERROR): 20, ("expert", SUCCESS): 22}


@contextmanager
def server(fault: str) -> Iterator[str]:
    """The address of an openpi server in a process of its own."""
    path = Path(__file__).with_name("openpi_server.py")
    process = subprocess.Popen(
        [sys.executable, str(path), "0", fault], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def test_a_suite_that_fails_in_every_episode_is_given_up_and_others_are_not(tmp_path):
    config = SweepConfig(
        suites=f"tests.points:BrokenPoints,{POINTS}", policies="expert", tasks=("near",),
        episodes=40, out=str(tmp_path), workers=2, attempts=1, videos=0,
    )  # fmt: skip
    with pytest.raises(UserError, match="suite broken: its simulator fails in every episode"):
        sweep.run(config)
    counts = Counter(
        (row["suite"], row["outcome"]) for row in results.table(str(tmp_path)).to_pylist()
    )
    assert counts["points", SUCCESS] == 40
    assert counts["broken", ENVIRONMENT_ERROR] in range(10, 13)
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == sum(counts.values())


def test_episodes_in_flight_have_the_memory_that_they_need(tmp_path):
    said: list[str] = []
    progress = SimpleNamespace(warn=said.append)
    for gigabytes, told_to, wanted in ((16, None, 3), (64, None, 8), (1, None, 1), (1, 5, 5)):
        options = EvaluateConfig(out=str(tmp_path), envs_per_worker=told_to)
        running = evaluation._Running(options, evaluation.Room(2, gigabytes), None, progress)
        assert running._slots(SimpleNamespace(name="large", memory_gb=2.0)) == wanted
        assert running._slots(suites.get("tabletop")) == (told_to or 8)
    assert said[0] == (
        "large: 3 in place of 8 episodes at a time in each of 2 workers: one needs 2 GB, there "
        "are 16"
    )


def test_flags_that_make_no_sense_end_in_one_line(tmp_path):
    config = EvaluateConfig(suite=POINTS, out=str(tmp_path))
    for change, words in {
        ("suite", "tabel"): "there is no suite tabel: did you mean tabletop?",
        ("suite", "tests.points:None"): "suite tests.points:None: cannot load it",
        ("tasks", ("nier",)): "suite points has no task nier: did you mean near?",
        ("seeds", "4..1"): "--seeds 4..1: 4..1 are no seeds from 0 to ",
        ("seeds", "9223372036854775808"): "9223372036854775808 are no seeds from 0 to ",
        ("seeds", "a"): "--seeds a: give 0..4",
        ("seeds", ""): "--seeds : give 0..4",
        ("seeds", "0..9999999999"): "--seeds 0..9999999999: more than 1000000 seeds",
        ("episodes", 0): "--episodes 0: must be at least 1",
        ("episodes", 10**10): "--episodes 10000000000: must be at most 1000000",
        ("out", ""): "--out names no folder",
        ("latency_cap", -1.0): "--latency-cap -1.0: must be 0 or more",
        ("policy", str(tmp_path)): "neither a run nor a policy",
        ("token_file", "nowhere/token"): "cannot read nowhere/token",
        ("token_file", "README.md"): "--token-file README.md: must have one token",
        ("ca", "nowhere/ca.pem"): "cannot read nowhere/ca.pem",
        ("ca", "README.md"): "--ca README.md: there are no certificates in it",
    }.items():
        with pytest.raises(UserError) as caught:
            evaluate.run(replace(config, **dict([change])))
        assert words in str(caught.value)
    with pytest.raises(UserError, match="--ensemble asks the policy at every step: --replan 4"):
        evaluate.run(replace(config, ensemble=0.01, replan=4))
    for names in ({"suites": POINTS, "policies": ","}, {"suites": "", "policies": "random"}):
        with pytest.raises(UserError, match=r"no (policies|suites) are named"):
            sweep.run(SweepConfig(**names, out=str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_seeds():
    assert parse_seeds("0..4") == [0, 1, 2, 3, 4]
    assert parse_seeds("7..9, 3,8") == [7, 8, 9, 3]
