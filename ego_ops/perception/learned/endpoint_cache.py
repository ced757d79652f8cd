"""Answers of a paid endpoint, kept by clip: what was asked once is never paid for again."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from ego_ops.storage import Store, store


@dataclass(frozen=True)
class Asked:
    """What an answer depends on."""

    clip_id: str
    model: str
    prompt: str
    """Digest of the question's wording, and of how frames are shown."""
    narration: str
    """Digest of the narration: corpora correct theirs, and a clip keeps its id."""

    @property
    def path(self) -> str:
        """Where its answer lies in a cache: 256 folders, so that none grows too large to list."""
        key = digest("|".join((self.model, self.prompt, self.narration)))
        return f"{self.clip_id[:2]}/{self.clip_id}-{key}.json"


def digest(text: str) -> str:
    """16 hexadecimal digits (blake2b)."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class AnswerCache:
    """A folder or fsspec URL with one small JSON object an answer.

    Any number of workers may read and write at once: a file is put in place in one step, and two
    workers that ask the same thing only pay twice.
    """

    url: str

    def read(self, asked: Asked) -> dict[str, Any] | None:
        """What was written for `asked`; None where nothing was, or where the file is damaged.

        Raises:
            UserError: the storage refuses.
        """
        try:
            found = json.loads(_store(self.url).read(asked.path))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(found, dict) or found.pop("asked", None) != asdict(asked):
            return None
        return found

    def write(self, asked: Asked, answer: dict[str, Any]) -> None:
        """Keep `answer`, a JSON object, in place of any before it.

        Raises:
            UserError: the storage refuses.
        """
        record = {"asked": asdict(asked), **answer}
        _store(self.url).write(asked.path, json.dumps(record, indent=1).encode())


@functools.lru_cache(maxsize=8)
def _store(url: str) -> Store:
    where = store(url)
    where.clean()
    return where
