"""Whole files in one folder, local or on an object store, written so that none is ever half there.

Two stores with the same methods: `LocalStore` for a path (aside, fsync, rename, fsync of the
folder), `RemoteStore` for any fsspec URL (one PUT, which object stores make atomic). Paths are
relative to the store's folder and use "/".
"""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import fsspec

from ego_ops.errors import UserError

_ASIDE = "_tmp"
_STALE_S = 3600.0


class LocalStore:
    """A folder of a local or mounted POSIX file system."""

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
            raise _unreadable(f"{self.url}/{path}", error) from error

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

    def names(self, folder: str) -> list[str]:
        """Names of what lies directly in `folder`, without sizes: the cheapest listing."""
        try:
            return os.listdir(os.path.join(self.url, folder))
        except FileNotFoundError:
            return []

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
            raise _unwritable(target, error) from error

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
            raise _unwritable(target, error) from error

    def delete(self, path: str) -> None:
        """Remove a file; one that is absent already is no error."""
        _remove(os.path.join(self.url, path))

    def clean(self) -> None:
        """Remove what killed writers left aside more than an hour ago."""
        for name in self.files(_ASIDE):
            path = os.path.join(self.url, _ASIDE, name)
            try:
                if time.time() - os.path.getmtime(path) > _STALE_S:
                    _remove(path)
            except FileNotFoundError:
                continue  # its writer put it in place meanwhile


class RemoteStore:
    """A folder of any file system that fsspec knows, whose PUT of one object is atomic."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UserError(f"cannot open {url}: {error}") from error

    def read(self, path: str) -> bytes:
        try:
            return cast(bytes, self._fs.cat_file(self._join(path)))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unreadable(f"{self.url}/{path}", error) from error

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
        except OSError as error:
            raise _unwritable(f"{self.url}/{path}", error) from error

    def mark(self, path: str, data: bytes) -> None:
        self.write(path, data)

    def delete(self, path: str) -> None:
        try:
            self._fs.rm_file(self._join(path))
        except FileNotFoundError:
            return

    def clean(self) -> None:
        """Nothing to do: a PUT that did not finish leaves no object."""

    def _list(self, folder: str) -> list[dict]:
        try:
            return cast(list[dict], self._fs.ls(self._join(folder), detail=True, refresh=True))
        except FileNotFoundError:
            return []

    def _join(self, path: str) -> str:
        return f"{self._root}/{path}"


Store = LocalStore | RemoteStore


def store(url: str) -> Store:
    """The store of a path or of an fsspec URL (`s3://…`, `gs://…`, `memory://…`)."""
    scheme = urlsplit(url).scheme
    if scheme in ("", "file"):
        return LocalStore(url.removeprefix("file://"))
    return RemoteStore(url)


def _unreadable(path: str, error: OSError) -> UserError:
    return UserError(f"cannot read {path}: {error.strerror or error}")


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
    if head.get("version") != version:
        found = head.get("version")
        raise UserError(
            f"{where.url}: {what} of version {found}, this program reads {version}{advice}"
        )
    return cast(dict, head)


def _unwritable(path: str, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(
        f"cannot write {path}: {reason}; nothing committed is lost: "
        "mend that and run the same command again"
    )


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


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
