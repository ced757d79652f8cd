"""HD-EPIC's table of narrations, converted once from its pickle to Parquet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ego_ops.corpora.hdepic_pickle import REQUIRED, SCHEMA, read
from ego_ops.errors import UserError

TABLE = "HD_EPIC_Narrations"
SOURCE = b"egoscaler_source"
"""Key of a converted table's metadata: size and time of the pickle that it was made of."""


def narrations(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of `HD_EPIC_Narrations` in `folder`, the columns of `SCHEMA` that there are.

    `HD_EPIC_Narrations.parquet` is read where there is one. Otherwise the pickle is converted,
    once: the Parquet file is put beside it, or, where that folder cannot be written, into
    `$XDG_CACHE_HOME/egoscaler-ray` (by default `~/.cache/egoscaler-ray`).

    Raises:
        UserError: neither file is there, a file cannot be read, or the pickle asks for anything
            but a plain table.
    """
    path = _converted(folder)
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in SCHEMA.names if name in file.schema_arrow.names]
            missing = [name for name in REQUIRED if name not in names]
            if missing:
                raise UserError(f"{path}: has no column {missing[0]}")
            for batch in file.iter_batches(columns=names):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}); delete it"
        ) from error


def _converted(folder: Path) -> Path:
    """The Parquet file to read, made now if need be."""
    pickled, beside = folder / f"{TABLE}.pkl", folder / f"{TABLE}.parquet"
    if not pickled.exists():
        if beside.exists():
            return beside
        raise UserError(f"{folder}: no {TABLE}.pkl (or .parquet) in it")
    stat = pickled.stat()
    source = f"{stat.st_size} {stat.st_mtime_ns}".encode()
    name = hashlib.blake2b(f"{pickled.resolve()}".encode(), digest_size=8).hexdigest()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "egoscaler-ray"
    cached = home / f"{TABLE}-{name}.parquet"
    for path in (beside, cached):
        if path.exists() and _source(path) in (source, None):  # None: made by the user
            return path
    table = read(pickled).replace_schema_metadata({SOURCE: source})
    for path in (beside, cached):
        try:
            _write(table, path)
            return path
        except OSError as error:
            why = error
    raise UserError(f"{beside} and {cached}: neither can be written ({why})")


def _source(path: Path) -> bytes | None:
    try:
        return (pq.read_schema(path).metadata or {}).get(SOURCE)
    except (OSError, pa.ArrowException):
        return b"unreadable"


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        pq.write_table(table, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
