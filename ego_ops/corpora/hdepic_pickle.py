"""HD-EPIC's table of narrations, which is published as a pandas pickle, read without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from ego_ops.corpora import inert_pickle
from ego_ops.errors import UserError

_STRINGS = pa.list_(pa.string())
SCHEMA = pa.schema(
    {
        "unique_narration_id": pa.string(),
        "video_id": pa.string(),
        "narration": pa.string(),
        "start_timestamp": pa.float64(),
        "end_timestamp": pa.float64(),
        "narration_timestamp": pa.float64(),
        "nouns": _STRINGS,
        "verbs": _STRINGS,
        "pairs": pa.list_(_STRINGS),
        "main_actions": pa.list_(_STRINGS),
        "hands": _STRINGS,
    }
)
"""What is kept of the published columns; each of `pairs` and `main_actions` is (verb, noun)."""
REQUIRED = ("unique_narration_id", "video_id", "narration", "start_timestamp", "end_timestamp")


def read(path: Path) -> pa.Table:
    """The table of a pickled DataFrame, with the columns of `SCHEMA` that it has.

    Raises:
        UserError: the pickle is damaged, needs a class that no plain table needs, or holds no
            table of narrations.
    """
    try:
        with open(path, "rb") as file:
            columns = inert_pickle.columns(inert_pickle.load(file))
        missing = [name for name in REQUIRED if name not in columns]
        if missing:
            raise UserError(f"{path}: its table has no column {missing[0]}")
        wanted = {name: columns[name] for name in SCHEMA.names if name in columns}
        return pa.table({name: _cast(values, name) for name, values in wanted.items()})
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except inert_pickle.Refused as error:
        raise UserError(
            f"{path}: asks for {error}, which no table of narrations needs; it was not opened. "
            "Download it again, or convert it to Parquet where you trust it"
        ) from error
    except (*inert_pickle.BROKEN, pa.ArrowException) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a pickled table of narrations ({line[:200]})") from error


def _cast(values: NDArray, name: str) -> pa.Array:
    """A column in the type of `SCHEMA`; missing cells are null."""
    kind = SCHEMA.field(name).type
    clean = float if pa.types.is_floating(kind) else _text
    return pa.array([clean(inert_pickle.plain(cell)) for cell in values.tolist()], kind)


def _text(cell: Any) -> Any:
    """A cell with text in it, at any depth of lists."""
    if isinstance(cell, list):
        return [_text(part) for part in cell]
    return None if cell is None or cell != cell else str(cell)
