"""The tabletop's script, served: it is sent a simulation's state, and goes on from there."""

from __future__ import annotations

import numpy as np
import pytest

from robot.policy import Answer, PolicyError, Request
from sim_eval.suites.tabletop import Tabletop
from workflows.served_expert import ExpertPolicy


def actions(answer: Answer | PolicyError) -> np.ndarray:
    assert isinstance(answer, Answer), answer
    return answer.actions


@pytest.mark.parametrize("task", ["stack_cube", "spoon_on_towel"])
def test_the_script_solves_tasks_from_what_it_is_sent(task: str) -> None:
    """Its chunks, done without looking, are what the script would do at every step, to the bit."""
    served, ours, free = ExpertPolicy(), *(Tabletop().environment() for _ in range(2))
    ours.reset(task, 5)
    free.reset(task, 5)
    for _ in range(5):
        chunk = actions(*served.infer([_asked(task, 5, ours.state())]))
        assert chunk.shape == (16, 10)
        for action in chunk:
            np.testing.assert_array_equal(action, free.expert())
            free.step(action)
            if ours.step(action):
                break
        else:
            assert ours.state() == free.state()
            continue
        break
    else:
        pytest.fail("not solved in 80 steps")
    # Another seed and another task in between change nothing.
    ours.reset(task, 6)
    served.infer([_asked(task, 6, ours.state())])
    moment = free.state()
    again = actions(*served.infer([_asked(task, 5, moment)]))
    np.testing.assert_array_equal(again[0], free.expert())


def test_the_script_goes_on_after_what_is_done_meanwhile() -> None:
    served, ours = ExpertPolicy(), Tabletop().environment()
    ours.reset("stack_cube", 2)
    done = [ours.expert() * 0.5 + np.array([0, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0])] * 3
    asked = _asked("stack_cube", 2, ours.state())._replace(prefix=np.array(done * 2), delay=3)
    chunk = actions(*served.infer([asked]))
    np.testing.assert_array_equal(chunk[:3], done)
    for action in done:
        ours.step(action)
    np.testing.assert_array_equal(chunk[3], ours.expert())


def test_states_that_are_none_are_refused() -> None:
    served, ours = ExpertPolicy(), Tabletop().environment()
    ours.reset("stack_cube", 2)
    good = ours.state()
    numbers = np.frombuffer(good[:-1], np.float64)
    wild, not_finite = numbers.copy(), numbers.copy()
    wild[1:30] = 1e15
    not_finite[4] = np.nan
    for asked, said in (
        (_asked("stack_cube", 2, good[:-9]), "has 1097 bytes, this 1088"),
        (_asked("spoon_on_towel", 2, good), "has 897 bytes, this 1097"),
        (_asked("stack_cube", 2, wild.tobytes()), "diverges"),
        (_asked("stack_cube", 2, not_finite.tobytes()), "not finite"),
        (_asked("stack_cub", 2, good), "did you mean stack_cube"),
        (_asked("stack_cube", -1, good), "simulation/seed"),
        (_asked("stack_cube", 2, good)._replace(observation={}), "needs simulation/task"),
        (_asked("stack_cube", 2, good)._replace(prefix=np.zeros((3, 2)), delay=1), "prefix"),
    ):
        (answer,) = served.infer([asked])
        assert isinstance(answer, PolicyError)
        assert answer.code == "bad_request"
        assert said in str(answer)
    chunk = actions(*served.infer([_asked("stack_cube", 2, good)]))  # none of it is left
    np.testing.assert_array_equal(chunk[0], ours.expert())


def _asked(task: str, seed: int, now: bytes) -> Request:
    message = {
        "simulation/task": task,
        "simulation/seed": seed,
        "simulation/state": np.frombuffer(now, np.uint8),
    }
    return Request(message, "a", False)
