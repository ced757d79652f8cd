"""`egoscaler evaluate`, killed and interrupted: it goes on where it stopped, and ends as if it had
not been."""

from __future__ import annotations

import signal

from sim_eval import policies
from sim_eval.episode import Episode, Result, Settings
from sim_eval.rollout import Rollout
from tests.evaluation_runs import Run, same, told
from tests.points import Points

WORDS = ("evaluate", "--suite", "tests.evaluation_runs:SlowPoints", "--policy", "expert")
SIZE = ("--episodes", "40", "--workers", "2", "--videos", "0")


def alone(row: Result) -> Result:
    """The same episode, in this process."""
    suite, expert = Points(), policies.named("expert")
    episode = Episode(expert.digest, "points", "1", row.task, row.seed, Settings(suite.replan))
    assert episode.id == row.episode
    rollout = Rollout(suite, suite.environment(), episode, "expert")
    rollout.play_local(policies.open_local(expert, suite, episode))
    return rollout.end().result


def test_killed_and_interrupted_it_ends_as_if_it_had_not_been(tmp_path):
    run = Run(*WORDS, *SIZE, out=tmp_path / "disturbed")
    run.wait_for(5)
    run.kill_all()
    killed = told(run.out)
    assert 5 <= len(killed) < 80

    run = Run(*WORDS, *SIZE, out=run.out)
    run.wait_for(len(killed) + 5)
    run.process.send_signal(signal.SIGINT)
    text = run.text(1)
    assert f"egoscaler: interrupted; what is committed in {run.out} stays" in text
    interrupted = told(run.out)
    assert len(killed) < len(interrupted) < 80

    text = Run(*WORDS, *SIZE, out=run.out).text()
    assert f"{80 - len(interrupted)} left" in text
    found = told(run.out)
    assert len(found) == 80
    same(found, {key: alone(row) for key, row in found.items()})
    # What was there before was not done again.
    for before in (killed, interrupted):
        assert {key: found[key].time for key in before} == {k: r.time for k, r in before.items()}
