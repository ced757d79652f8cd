"""One episode: what is asked, what is played, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ego_ops.errors import UserError
from sim_eval.episode import FAILURE, INVALID_ACTION, SUCCESS, Episode, Settings
from sim_eval.rollout import Played, Rollout, pictures
from sim_eval.suite import Floats
from tests.points import Point, Points, Walker

SUITE = Points()


def episode(seed: int = 0, task: str = "near", replan: int = 5, ensemble: float | None = None):
    return Episode("walker", "points", "1", task, seed, Settings(replan, ensemble))


def play(what: Episode, policy: Walker | None = None, suite: Points = SUITE) -> Played:
    policy = policy or Walker()
    rollout = Rollout(suite, suite.environment(), what, "walker")
    while (request := rollout.request()) is not None:
        rollout.play(policy.act([request])[0], 0.25)
    return rollout.end()


class Recording(Point):
    """A point that never arrives, and notes what is done to it."""

    def __init__(self) -> None:
        super().__init__(SUITE)
        self.actions: list[Floats] = []
        self.observed: list[int] = []

    def observe(self):
        self.observed.append(len(self.actions))
        return super().observe()

    def step(self, action: Floats) -> bool:
        self.actions.append(action)
        return False


def chunks(count: int, length: int) -> Floats:
    return np.random.default_rng(1).normal(size=(count, length, 2))


@pytest.mark.parametrize("replan", [1, 3, 5, 8])
def test_it_is_asked_after_so_many_actions_and_renders_only_then(replan):
    environment, given = Recording(), chunks(40, 5)
    rollout = Rollout(SUITE, environment, episode(replan=replan))
    asked = []
    while (request := rollout.request()) is not None:
        asked.append(request.step)
        rollout.play(given[request.step], 0.0)
    done = min(replan, 5)  # a chunk is all that there is
    assert asked == environment.observed == list(range(0, 40, done))
    expected = [given[at - at % done][at % done] for at in range(40)]
    np.testing.assert_array_equal(environment.actions, expected)
    result, actions = rollout.end()
    assert (result.outcome, result.steps, result.calls) == (FAILURE, 40, len(asked))
    np.testing.assert_array_equal(actions, environment.actions)


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.7])
def test_ensembling_is_as_act_has_it(decay):
    """The table of all chunks by the time that they were made and that they are for."""
    environment, given, length = Recording(), chunks(40, 6), 6
    rollout = Rollout(SUITE, environment, episode(replan=5, ensemble=decay))
    while (request := rollout.request()) is not None:
        rollout.play(given[request.step], 0.0)
    table = np.full((40, 40 + length, 2), np.nan)
    for made in range(40):
        table[made, made : made + length] = given[made]
    for at in range(40):
        column = table[:, at][~np.isnan(table[:, at, 0])]
        weights = np.exp(-decay * np.arange(len(column)))
        expected = (column * (weights / weights.sum())[:, None]).sum(0)
        np.testing.assert_allclose(environment.actions[at], expected, atol=1e-12)
    assert environment.observed == list(range(40))


def test_success_is_the_step_in_which_the_goal_is_reached():
    result, actions = play(episode())
    point = SUITE.environment()
    point.reset("near", 0)
    solved = [point.step(action) for action in actions]
    assert solved == [False] * (len(actions) - 1) + [True]
    assert (result.outcome, result.error, result.steps) == (SUCCESS, "", len(actions))
    assert result.calls == -(-len(actions) // 5)
    assert result.latency_mean_ms == result.latency_max_ms == 250
    assert (result.suite, result.task, result.instruction) == ("points", "near", "go to the goal")
    assert (result.episode, result.fps, result.attempts) == (episode().id, 10, 1)


def test_equal_episodes_have_equal_digests_and_others_have_not():
    results = [play(episode(seed)).result.states for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
    other = Points()
    other.environment()  # a suite made anew
    assert play(episode(), suite=other).result.states == results[0]


def test_the_digest_sees_a_state_that_differs_in_one_step():
    class Touched(Point):
        def state(self) -> bytes:
            return super().state() + bytes([self._step == 3])

    rollout = Rollout(SUITE, Touched(SUITE), episode())
    while (request := rollout.request()) is not None:
        rollout.play(Walker().act([request])[0], 0.0)
    assert rollout.end().result.states != play(episode()).result.states


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("nan", "action 2, number 1 is nan"),
        ("shape", "actions of shape (2,): a chunk is (steps, numbers)"),
        ("size", "actions of 1 numbers: a point takes 2"),
    ],
)
def test_an_invalid_action_ends_the_episode_and_is_not_done(wrong, words):
    result, actions = play(episode(), Walker(wrong={5: wrong}))
    assert (result.outcome, result.error) == (INVALID_ACTION, words)
    assert result.steps == len(actions) == 5
    first, _ = play(episode(), Walker(wrong={0: wrong}))
    assert (first.outcome, first.steps) == (INVALID_ACTION, 0)


def test_a_local_policy_is_asked_without_a_picture_where_it_does_not_look():
    class Expert:
        sees = False

        def act(self, environment, request) -> Floats:
            assert request is None
            return environment.expert()[None]

    class Blind(Point):
        def observe(self):
            raise AssertionError("rendered for nobody")

    rollout = Rollout(SUITE, Blind(SUITE), episode(), "expert")
    rollout.play_local(Expert())
    assert rollout.end().result.outcome == SUCCESS


def test_pictures_are_those_of_the_episode_and_of_no_other():
    result, actions = play(episode())
    frames = list(pictures(SUITE, SUITE.environment(), result, actions))
    assert len(frames) == result.steps + 1
    point = SUITE.environment()
    point.reset("near", 0)
    np.testing.assert_array_equal(frames[0], point.picture())
    for action in actions:
        point.step(action)
    np.testing.assert_array_equal(frames[-1], point.picture())
    with pytest.raises(UserError, match="points, near, seed 1: the same actions gave another"):
        list(pictures(SUITE, SUITE.environment(), replace(result, seed=1), actions))
