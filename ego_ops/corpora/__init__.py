"""The corpora: annotation files in their published form to `Clip` rows.

To add a corpus, write one small module beside `egodex.py` with the two functions of `Corpus` and
name it in `CORPORA`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ego_ops.clip import Clip
from ego_ops.corpora import ego4d, egodex, egoexo4d, folder, hdepic, nymeria
from ego_ops.corpora.skipped import Skipped
from ego_ops.errors import UserError
from ego_ops.recording import Recording

__all__ = ["CORPORA", "Corpus", "Skipped", "get"]


@dataclass(frozen=True)
class Corpus:
    """One corpus, as two functions."""

    index: Callable[[str], Iterator[Clip | Skipped]]
    """Root folder -> its clips, from annotation files alone, and what had to be left out."""
    recording: Callable[[Clip], Recording]
    """What was recorded of one clip besides its picture."""


CORPORA = {
    "ego4d": Corpus(ego4d.index, ego4d.recording),
    "egodex": Corpus(egodex.index, egodex.recording),
    "egoexo4d": Corpus(egoexo4d.index, egoexo4d.recording),
    "folder": Corpus(folder.index, folder.recording),
    "hdepic": Corpus(hdepic.index, hdepic.recording),
    "nymeria": Corpus(nymeria.index, nymeria.recording),
}


def get(name: str) -> Corpus:
    """The corpus `name`.

    Raises:
        UserError: there is none of that name.
    """
    if name in CORPORA:
        return CORPORA[name]
    close = difflib.get_close_matches(name, CORPORA, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UserError(f"no corpus {name!r}{hint} (known: {', '.join(sorted(CORPORA))})")
