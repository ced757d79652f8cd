"""Episodes on environment workers and policy actors: the same for any number of either, and what is
said when one of them dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ego_ops.errors import UserError
from robot.batching import Counts
from sim_eval.episode import (
    ENVIRONMENT_ERROR,
    INVALID_ACTION,
    POLICY_ERROR,
    SUCCESS,
    Episode,
    Result,
    Settings,
)
from sim_eval.rollout import Rollout
from sim_eval.suite import Image
from tests.points import Point, Points, Walker
from workflows import environment_worker, policy_actor
from workflows.rollout_jobs import Finished, Job, Player, Seat
from workflows.rollout_workers import Crew, _fit

pytestmark = pytest.mark.usefixtures("ray_cluster")


def episodes(seeds: int, suite: Points, replan: int = 5) -> list[Episode]:
    settings = Settings(replan)
    return [
        Episode("walker", suite.name, suite.version, task, seed, settings)
        for task in suite.tasks
        for seed in range(seeds)
    ]


def no_film(result: Result) -> bool:
    return False


def play(
    suite: Points,
    wanted: list[Episode],
    walker: partial,
    workers: int = 2,
    slots: int = 2,
    replicas: int = 1,
    cap: float = 0.02,
    timeout: float = 20.0,
    film: Callable[[Result], bool] = no_film,
) -> tuple[dict[tuple[str, int], Finished], Counts]:
    """What became of the episodes, by task and seed."""
    import ray

    with (
        Crew(suite, workers, slots, timeout, attempts=3) as crew,
        policy_actor.started(walker, cap, replicas, 0) as actors,
    ):
        played = crew.play(deque(map(Job, wanted)), Player("walker", actors), film)
        found = [one for some in played for one in some]
        try:
            work = ray.get(actors[0].counts.remote())
        except (ray.exceptions.RayActorError, ray.exceptions.RayTaskError):
            work = Counts(0)
    assert Counter(one.result.episode for one in found) == Counter(one.id for one in wanted)
    return {(one.result.task, one.result.seed): one for one in found}, work


def states(found: dict[tuple[str, int], Finished]) -> dict[tuple[str, int], tuple[str, int, str]]:
    return {
        key: (one.result.outcome, one.result.steps, one.result.states) for key, one in found.items()
    }


@pytest.fixture(scope="module")
def alone() -> dict[tuple[str, int], tuple[str, int, str]]:
    """Twelve episodes, one at a time."""
    suite = Points()
    found, work = play(suite, episodes(6, suite), partial(Walker, batch=1), workers=1, slots=1)
    assert work.calls == work.requests
    assert {one.result.outcome for one in found.values()} == {SUCCESS}
    return states(found)


def test_the_same_for_any_number_of_workers_and_any_batching(alone):
    suite = Points()
    slow = partial(Walker, batch=8, call_s=0.1)  # others ask meanwhile
    found, work = play(suite, episodes(6, suite), slow, 2, 4, cap=0.05)
    assert states(found) == alone
    assert work.calls < work.requests  # some were answered together
    found, _ = play(suite, episodes(6, suite), partial(Walker, batch=3), 1, 5, replicas=2)
    assert states(found) == alone


def test_environments_that_crash_and_hang_are_told_from_policies_that_fail(alone, tmp_path):
    faults = {
        0: ("segfault", 1),
        1: ("exit", 99),
        2: ("hang", 1),
        3: ("hang", 99),
    }
    suite = Points(faults=faults, folder=str(tmp_path))
    wanted = [one for one in episodes(6, suite) if one.task == "near"]
    found, _ = play(suite, wanted, partial(Walker), 2, 3, timeout=1.5)
    results = {seed: one.result for (_, seed), one in found.items()}
    for seed in (1, 3):
        assert results[seed].outcome == ENVIRONMENT_ERROR
        assert results[seed].attempts == 3
    assert results[1].error == "step at step 4: its process ended or was killed (attempt 3)"
    assert results[3].error == "step at step 4: stuck (attempt 3)"
    others = {key: one for key, one in states(found).items() if key[1] not in (1, 3)}
    assert others == {key: alone[key] for key in others}
    assert len(others) == 4
    # Those that were in flight beside one that crashed are begun again, and not charged with it.
    assert [results[seed].attempts for seed in (0, 2, 4, 5)] == [2, 2, 1, 1]
    counts = {int(path.name.split("-")[1]): path.stat().st_size for path in tmp_path.iterdir()}
    assert counts == {0: 1, 1: 3, 2: 1, 3: 3}


def test_an_environment_that_raises_an_error_is_tried_again(alone, tmp_path):
    suite = Points(faults={0: ("raise", 2), 1: ("raise", 99)}, folder=str(tmp_path))
    found, _ = play(suite, episodes(3, suite), partial(Walker), 2, 3)
    for (task, seed), one in found.items():
        result = one.result
        assert result.attempts == [3, 3, 1][seed]
        if seed == 1:
            assert result.outcome == ENVIRONMENT_ERROR
            assert result.error == "ValueError: the constraint solver diverged (attempt 3)"
        else:
            assert states(found)[task, seed] == alone[task, seed]


def test_a_policy_process_that_dies_is_asked_again(alone, tmp_path):
    suite = Points()
    walker = partial(Walker, die_after=4, deaths=str(tmp_path), most_deaths=2)
    found, _ = play(suite, episodes(6, suite), walker)
    assert states(found) == alone
    assert (tmp_path / "deaths").stat().st_size == 2


def test_a_policy_process_that_dies_again_and_again_is_a_policy_error(alone, tmp_path):
    suite = Points()
    walker = partial(Walker, die_after=6, deaths=str(tmp_path), most_deaths=99)
    found, _ = play(suite, episodes(6, suite), walker, slots=1)
    outcomes = Counter(one.result.outcome for one in found.values())
    assert set(outcomes) == {SUCCESS, POLICY_ERROR}
    assert (tmp_path / "deaths").stat().st_size == 1 + policy_actor.RESTARTS
    for key, one in found.items():
        if one.result.outcome == POLICY_ERROR:
            assert one.result.error.startswith("the policy's process is lost (")
            assert "\n" not in one.result.error
        else:
            assert states(found)[key] == alone[key]


def open_once(folder: str) -> Walker:
    """A policy whose files are gone when its process is begun anew."""
    there = Path(folder) / "weights"
    if not there.exists():
        raise FileNotFoundError("weights: no such file")
    there.unlink()
    return Walker(die_after=6, deaths=folder, most_deaths=1)


def test_a_policy_that_is_begun_anew_and_cannot_be_says_why(tmp_path):
    suite = Points()
    (tmp_path / "weights").touch()
    found, _ = play(suite, episodes(6, suite), partial(open_once, str(tmp_path)), slots=1)
    errors = {one.result.error for one in found.values() if one.result.outcome == POLICY_ERROR}
    assert errors == {"FileNotFoundError: weights: no such file"}


@pytest.mark.parametrize(
    ("wrong", "outcome", "words"),
    [
        ("nan", INVALID_ACTION, "action 2, number 1 is nan"),
        ("error", POLICY_ERROR, "the server has no answer"),
    ],
)
def test_wrong_answers_end_their_own_episodes_only(alone, wrong, outcome, words):
    suite = Points()
    found, _ = play(suite, episodes(3, suite), partial(Walker, wrong={10: wrong}))
    for key, one in found.items():
        if key[0] == "near":  # over after 8 steps or so
            assert states(found)[key] == alone[key]
        else:
            assert (one.result.outcome, one.result.error) == (outcome, words)
            assert one.result.steps == 10


def test_films_are_of_the_episodes_asked_for_and_cost_no_result(tmp_path):
    suite = Points(faults={2: ("exit", 1)}, folder=str(tmp_path))
    wanted = [one for one in episodes(3, suite) if one.task == "near"]
    found, _ = play(suite, wanted, partial(Walker), film=lambda result: result.seed != 1)
    assert [bool(found["near", seed].film) for seed in range(3)] == [True, False, True]
    for seed in (0, 2):
        assert frames(found["near", seed].film) == found["near", seed].result.steps + 1


class Unfilmed(Points):
    """Whose pictures no video can be made of."""

    def environment(self) -> Point:
        return _Unfilmed(self)


class _Unfilmed(Point):
    def picture(self) -> Image:
        return np.zeros((2, 2), np.uint8)


def test_an_episode_that_cannot_be_filmed_keeps_its_outcome(alone):
    wanted = [one for one in episodes(2, Points()) if one.task == "near"]
    found, _ = play(Unfilmed(), wanted, partial(Walker), film=lambda result: result.seed == 0)
    assert states(found) == {key: alone[key] for key in found}
    assert [one.film for one in found.values()] == [b"", b""]
    assert found["near", 0].warning == "frame 0 of a video is (2, 2), not (height, width, 3)"
    assert found["near", 0].result.attempts == 1


def frames(film: bytes) -> int:
    import io

    import av

    with av.open(io.BytesIO(film)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_suite_without_environments_ends_in_one_line():
    class Absent(Points):
        def environment(self):
            raise UserError("there is no simulator here")

    class Crashing(Points):
        def environment(self):
            os.kill(os.getpid(), signal.SIGKILL)

    suite = Absent()
    with pytest.raises(UserError, match="there is no simulator here"):
        play(suite, episodes(1, suite), partial(Walker))
    suite = Crashing()
    with pytest.raises(UserError, match="suite points: its environments end 3 times in a row"):
        play(suite, episodes(1, suite), partial(Walker), workers=1)


def test_an_episode_is_tried_again_elsewhere_where_there_is_elsewhere():
    seats = [Seat(number, node=node) for number, node in enumerate("aabb")]
    job = Job(episodes(1, Points())[0])
    assert _fit(seats, job) == seats
    job.fault("no display", 1, "a")
    assert _fit(seats, job) == seats[2:]
    assert _fit(seats[:2], job) == seats[:1]
    assert _fit(seats[1:2], job) == seats[1:2]


def test_a_policy_that_never_answers_is_a_policy_error(monkeypatch):
    class Silent:
        class act:
            remote = staticmethod(lambda request: asyncio.sleep(60))

    monkeypatch.setattr(environment_worker, "_ANSWER_S", 0.05)
    suite = Points()
    environment = suite.environment()
    rollout = Rollout(suite, environment, episodes(1, suite)[0], "silent")
    request = rollout.request()
    assert request is not None
    asyncio.run(environment_worker._ask(Silent, request, rollout))
    result = rollout.end().result
    assert (result.outcome, result.error) == (POLICY_ERROR, "the policy gave no answer in 0.05 s")
