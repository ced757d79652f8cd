"""The tasks: what is said to the robot, and which thing is to go where.

They are after the four of SIMPLER's WidowX (arXiv 2405.05941).
"""

from __future__ import annotations

from typing import NamedTuple

from sim_eval.suite import Task

FPS = 10.0
HORIZON = 120
"""Steps; the script needs about a third."""


class Chore(NamedTuple):
    """One task: `thing` is to lie on or in `goal`. Both are names for `things.make`."""

    task: Task
    thing: str
    goal: str


def _chore(name: str, instruction: str, thing: str, goal: str) -> Chore:
    return Chore(Task(name, instruction, HORIZON), thing, goal)


CHORES = {
    chore.task.name: chore
    for chore in (
        _chore("spoon_on_towel", "put the spoon on the towel", "spoon", "towel"),
        _chore("carrot_on_plate", "put the carrot on the plate", "carrot", "plate"),
        _chore(
            "stack_cube", "stack the green cube on the yellow cube", "green_cube", "yellow_cube"
        ),
        _chore("eggplant_in_basket", "put the eggplant in the basket", "eggplant", "basket"),
    )
}
