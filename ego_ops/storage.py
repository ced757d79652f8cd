"""Whole files in one folder, local or on an object store, written so that none is ever half there.

Two stores with the same methods: `LocalStore` for a path (aside, fsync, rename, fsync of the
folder), `RemoteStore` for any fsspec URL (one PUT, which object stores make atomic; see
`ego_ops.storage_remote`). Paths are relative to the store's folder and use "/".
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

from ego_ops.errors import UserError
from ego_ops.storage_errors import unreadable, unwritable
from ego_ops.storage_remote import RemoteStore

_ASIDE = "_tmp"
_STALE_S = 3600.0

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class LocalStore:
    """A folder of a local or mounted POSIX file system."""

    local = True
    """Whether to write a few bytes costs next to nothing."""

    def __init__(self, root: str):
        self.url = os.path.abspath(root)

    def read(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none.
            UserError: it cannot be read.
        """
        try:
            # Unbuffered: a resume reads tens of thousands of small files.
            with open(f"{self.url}/{path}", "rb", buffering=0) as file:
                return file.readall()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreadable(f"{self.url}/{path}", error) from error

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading with seeks, so that only some columns of it need be read."""
        return open(os.path.join(self.url, path), "rb")

    def files(self, folder: str) -> dict[str, int]:
        """Sizes in bytes of the files that lie directly in `folder`; empty where it is absent."""
        try:
            with os.scandir(os.path.join(self.url, folder)) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise unreadable(f"{self.url}/{folder}", error) from error

    def names(self, folder: str) -> list[str]:
        """Names of what lies directly in `folder`, without sizes: the cheapest listing."""
        try:
            return os.listdir(os.path.join(self.url, folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise unreadable(f"{self.url}/{folder}", error) from error

    def write(self, path: str, data: bytes) -> None:
        """Put a file in place in one step; once this returns it survives a power cut.

        Raises:
            UserError: the file system refuses (full, read-only, no permission).
        """
        target = os.path.join(self.url, path)
        aside = os.path.join(self.url, _ASIDE, uuid.uuid4().hex)
        try:
            os.makedirs(os.path.dirname(aside), exist_ok=True)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                with open(aside, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(aside, target)
            except OSError:
                _remove(aside)
                raise
            _sync_folder(os.path.dirname(target))
        except OSError as error:
            raise unwritable(target, error) from error

    def mark(self, path: str, data: bytes) -> None:
        """Write a few bytes, of one length for a path, that need not outlive the machine."""
        target = os.path.join(self.url, path)
        # Not truncated: file systems flush a file that is truncated and written anew.
        flags = os.O_WRONLY | os.O_CREAT
        try:
            try:
                file = os.open(target, flags, 0o666)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                file = os.open(target, flags, 0o666)
            try:
                os.write(file, data)
            finally:
                os.close(file)
        except OSError as error:
            raise unwritable(target, error) from error

    def delete(self, path: str) -> None:
        """Remove a file; one that is absent already is no error."""
        _remove(os.path.join(self.url, path))

    @contextmanager
    def lock(self, path: str, otherwise: str) -> Iterator[None]:
        """Hold the folder to oneself; a holder that dies lets go of it.

        Raises:
            UserError: another process holds it: says `otherwise`.
        """
        target = os.path.join(self.url, path)
        try:
            os.makedirs(self.url, exist_ok=True)
            file = os.open(target, os.O_WRONLY | os.O_CREAT, 0o666)
        except OSError as error:
            raise unwritable(target, error) from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(otherwise) from error
            yield
        finally:
            os.close(file)

    def clean(self) -> None:
        """Remove what killed writers left aside more than an hour ago."""
        for name in self.files(_ASIDE):
            path = os.path.join(self.url, _ASIDE, name)
            try:
                if time.time() - os.path.getmtime(path) > _STALE_S:
                    _remove(path)
            except FileNotFoundError:
                continue  # its writer put it in place meanwhile

    def each(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """`function` of each item, in order; as many at a time as the storage makes worthwhile."""
        return map(function, items)


Store = LocalStore | RemoteStore


def store(url: str) -> Store:
    """The store of a path or of an fsspec URL (`s3://…`, `gs://…`, `memory://…`)."""
    scheme = urlsplit(url).scheme
    if scheme in ("", "file"):
        return LocalStore(url.removeprefix("file://"))
    return RemoteStore(url)


def read_head(where: Store, path: str, version: int, what: str, advice: str = "") -> dict | None:
    """The JSON object at `path` that describes a folder, or None where there is none.

    Args:
        version: the one that its "version" must be.
        what: what the folder holds, for the error.
        advice: what to do about another version.

    Raises:
        UserError: it cannot be read, or is of another version.
    """
    try:
        head = json.loads(where.read(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{where.url}/{path}: not JSON ({error})") from error
    if not isinstance(head, dict):
        raise UserError(f"{where.url}/{path}: not a JSON object; restore it")
    if head.get("version") != version:
        found = head.get("version")
        raise UserError(
            f"{where.url}: {what} of version {found}, this program reads {version}{advice}"
        )
    return head


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _sync_folder(path: str) -> None:
    # Without this a rename can be undone by a power cut although the file itself was synced.
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
