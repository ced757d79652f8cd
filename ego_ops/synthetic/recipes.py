"""What the demo's clips show: which thing is taken by which hand, from where to where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One kind of clip. Sides and directions are those of the right hand; a left-handed clip is
    laid out as its mirror image."""

    task: str
    """Folder of the corpus."""
    title: str
    """The `task` attribute of the clip."""
    kind: str
    """Key of `things.MAKERS`."""
    noun: str
    size: tuple[float, float, float]
    """Metres; see the maker."""
    verbs: tuple[str, ...]
    narration: str
    undone: str = ""
    """The reverse of `narration`, where the clip is of EgoDex's `reversible` type."""
    shown: str = "1"
    """Which of the two a `reversible` clip shows: "1" is `narration`, "2" is `undone`."""
    hand: str = "right"
    start: tuple[float, float] = (0.07, -0.34)
    """Metres to the right and ahead (negative) of the head."""
    goal: tuple[float, float] = (-0.09, -0.36)
    lift: float = 0.10
    grip: float = 0.0
    """Metres from the middle of the thing up to where the hand takes it."""
    yaw: float = 30.0
    """Degrees turned about the vertical on the way; positive turns the front to the right."""
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Degrees of the greatest tilt, about world axes (x right, y up, z towards the wearer)."""
    other_hand: bool = False
    """Whether the other hand rests on the table, in view."""
    lamp: bool = False
    """Whether a hanging lamp hides the thing for a moment on its way."""
    bowl: bool = False
    """Whether a bowl stands beyond the goal."""


RECIPES = (
    Recipe(
        "basic_pick_and_place", "basic_pick_place", "box", "box", (0.105, 0.15, 0.055),
        ("pick", "place"), "Pick up the printed box and place it on the left of the table.",
        yaw=35.0, tilt=(-12.0, 0.0, 0.0), other_hand=True,
    ),
    Recipe(
        "basic_pick_and_place", "basic_pick_place", "can", "can", (0.080, 0.125, 0.0),
        ("pick", "place"), "Pick up the can and place it on the right of the table.",
        hand="left", start=(0.08, -0.33), goal=(-0.07, -0.35), yaw=20.0, tilt=(0.0, 0.0, 18.0),
    ),
    Recipe(
        "pour_into_bowl", "pour_into_bowl", "bottle", "bottle", (0.072, 0.20, 0.0),
        ("pour",), "Pour from the bottle into the bowl and put the bottle down.",
        start=(0.11, -0.31), goal=(0.09, -0.35), lift=0.13, grip=-0.035, yaw=15.0,
        tilt=(0.0, 0.0, 58.0),
        bowl=True,
    ),
    Recipe(
        "put_away_take_out_book", "Put Away Take Out Book", "book", "book", (0.125, 0.175, 0.034),
        ("put away", "take out"), "Put the book away on the left side of the table.",
        "Take the book from the left side of the table.",
        start=(0.09, -0.33), goal=(-0.06, -0.37), yaw=25.0, tilt=(-15.0, 0.0, 8.0),
        other_hand=True,
    ),
    Recipe(
        "add_remove_mug", "Add Remove Mug", "mug", "mug", (0.092, 0.112, 0.0),
        ("add", "remove"), "Set the mug down next to the other things.",
        "Remove the mug from the other things.", "2",
        start=(0.08, -0.31), goal=(-0.08, -0.33), lift=0.11, yaw=45.0, tilt=(20.0, 0.0, 0.0),
        lamp=True,
    ),
    Recipe(
        "basic_pick_and_place", "basic_pick_place", "box", "carton", (0.115, 0.185, 0.06),
        ("pick", "place"), "Pick up the tall carton and place it in front of the wall.",
        hand="left", start=(0.09, -0.32), goal=(-0.09, -0.37), lift=0.08, yaw=25.0,
        tilt=(-25.0, 0.0, -10.0), other_hand=True, lamp=True,
    ),
)  # fmt: skip
