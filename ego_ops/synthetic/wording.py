"""What an annotator says of a scene."""

from __future__ import annotations

from typing import NamedTuple

from ego_ops.synthetic.recipes import Recipe

_VERBS = {
    "pick": ("pick up", "picks up", "put it down"),
    "pour": ("tilt", "tilts", "set it upright"),
    "put away": ("move", "moves", "put it down"),
    "add": ("remove", "removes", "put it down"),
}


class Wording(NamedTuple):
    """One manipulation in words."""

    verb: str
    """Base form."""
    noun: str
    hand: str
    """`left` or `right`."""
    told: str
    """Third person, without a subject: `picks up the box with the right hand`."""
    order: str
    """Imperative."""


def wording(recipe: Recipe) -> Wording:
    """The manipulation that a recipe shows."""
    base, third, then = _VERBS[recipe.verbs[0]]
    rest = f"the {recipe.noun} with the {recipe.hand} hand"
    order = f"{base[0].upper()}{base[1:]} {rest} and {then} on the table."
    return Wording(base, recipe.noun, recipe.hand, f"{third} {rest}", order)
