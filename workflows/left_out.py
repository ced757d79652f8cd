"""What `index` left out, entry by entry, beside the manifest."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from ego_ops.clip import Clip
from ego_ops.corpora import Skipped
from ego_ops.storage import store


class LeftOut(AbstractContextManager):
    """Counts by reason, and a compressed list on the local disk until it is put in place."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Annotations by reason."""
        self.examples: dict[str, Skipped] = {}
        """The first of each reason."""
        self._stack = ExitStack()

    def __enter__(self) -> LeftOut:
        self._file = self._stack.enter_context(tempfile.TemporaryFile())
        packed = gzip.GzipFile(fileobj=self._file, mode="wb", mtime=0, filename="")
        self._text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._rows.writerow(("reason", "where", "detail", "count"))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def clips(self, found: Iterable[Clip | Skipped]) -> Iterator[Clip]:
        """The clips of what a corpus gave; of the rest note is taken."""
        for one in found:
            if isinstance(one, Skipped):
                self.counts[one.reason] += one.count
                self.examples.setdefault(one.reason, one)
                self._rows.writerow((one.reason, one.where, one.detail, one.count))
            else:
                yield one

    def save(self, folder: str, corpus: str) -> str:
        """Put the list into `folder`, in place of an older one. Returns its path there.

        Raises:
            UserError: the storage refuses.
        """
        self._text.close()
        self._file.seek(0)
        name = f"left-out-{corpus}.csv.gz"
        where = store(folder)
        where.write(name, self._file.read())
        return f"{where.url}/{name}"
