"""Under which terms each corpus may be used: what a card must say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Terms:
    """Of one corpus."""

    title: str
    licence: str
    """Its name; trajectories derived from it are bound by what it says of derived data."""
    url: str
    """Where to get the videos, and read the terms."""
    redistributable: bool = False
    """Whether its videos and annotations may be passed on by anyone, for any use."""


TERMS = {
    "ego4d": Terms("Ego4D", "Ego4D licence agreement", "https://ego4d-data.org"),
    "egoexo4d": Terms("Ego-Exo4D", "Ego-Exo4D licence agreement", "https://ego-exo4d-data.org"),
    "hdepic": Terms("HD-EPIC", "CC BY-NC 4.0", "https://hd-epic.github.io"),
    "nymeria": Terms("Nymeria", "CC BY-NC 4.0", "https://www.projectaria.com/datasets/nymeria"),
    "egodex": Terms("EgoDex", "CC BY-NC-ND 4.0", "https://github.com/apple/ml-egodex"),
}
"""By the name of the corpus. They may change: read them where they are."""


def terms(corpus: str) -> Terms:
    """Of a corpus; of one that is not known, that its owner must be asked."""
    return TERMS.get(corpus, Terms(corpus, "its owner's", ""))
