"""Whole files in one folder of an object store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

import fsspec

from ego_ops.errors import UserError
from ego_ops.storage_errors import failures, unreadable, unwritable

_THREADS = 32
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "use_listings_cache": False,  # others write there too
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 60,
            "retries": {"mode": "standard", "max_attempts": 4},
        },
    },
}
"""By scheme, where fsspec's defaults do not fit."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class RemoteStore:
    """A folder of any file system that fsspec knows, whose PUT of one object is atomic.

    A PUT that was killed leaves no object. On S3 one above 100 MB goes up in pieces; those of a
    killed one stay, invisible, until a lifecycle rule of the bucket removes them.
    """

    local = False

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        try:
            options = _OPTIONS.get(urlsplit(url).scheme, {})
            self._fs, self._root = fsspec.core.url_to_fs(self.url, **options)
        except (ImportError, ValueError) as error:
            raise UserError(f"cannot open {url}: {error}") from error

    def read(self, path: str) -> bytes:
        try:
            return cast(bytes, self._fs.cat_file(self._join(path)))
        except FileNotFoundError as error:
            if _no_bucket(error):
                raise unreadable(f"{self.url}/{path}", error) from error
            raise
        except failures() as error:
            raise unreadable(f"{self.url}/{path}", error) from error

    def open(self, path: str) -> BinaryIO:
        return cast(BinaryIO, self._fs.open(self._join(path), "rb"))

    def files(self, folder: str) -> dict[str, int]:
        return {
            _name(entry["name"]): entry["size"]
            for entry in self._list(folder)
            if entry["type"] == "file"
        }

    def names(self, folder: str) -> list[str]:
        return [_name(entry["name"]) for entry in self._list(folder)]

    def write(self, path: str, data: bytes) -> None:
        """Raises UserError where the store refuses."""
        try:
            self._fs.pipe_file(self._join(path), data)
        except failures() as error:
            raise unwritable(f"{self.url}/{path}", error) from error

    def mark(self, path: str, data: bytes) -> None:
        self.write(path, data)

    def delete(self, path: str) -> None:
        try:
            self._fs.rm_file(self._join(path))
        except FileNotFoundError:
            return
        except failures() as error:
            raise unwritable(f"{self.url}/{path}", error) from error

    @contextmanager
    def lock(self, path: str, otherwise: str) -> Iterator[None]:
        """Nothing: an object store has no lock that a dead holder lets go of."""
        yield

    def clean(self) -> None:
        """Nothing to do: a PUT that did not finish leaves no object."""

    def each(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """`map`, but many at a time: a request takes far longer than what is done with it."""
        waiting: deque[Future[_Result]] = deque()
        with ThreadPoolExecutor(_THREADS) as pool:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * _THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _list(self, folder: str) -> list[dict]:
        path = self._join(folder)
        try:
            return cast(list[dict], self._fs.ls(path, detail=True, refresh=True))
        except FileNotFoundError:
            return []
        except failures() as error:
            raise unreadable(f"{self.url}/{folder}", error) from error

    def _join(self, path: str) -> str:
        return f"{self._root}/{path}"


def _no_bucket(error: FileNotFoundError) -> bool:
    """Whether it is not the file that is missing but all of S3's bucket."""
    response = getattr(error.__cause__, "response", {})
    return response.get("Error", {}).get("Code") == "NoSuchBucket"


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
