"""HD-EPIC's table of narrations, which is published as a pandas pickle, read without running it.

A pickle names functions to call, so opening a downloaded one with pandas means running whatever it
says. Here every pandas class is replaced by an inert stand-in that only keeps what it was given,
and the table is put together from those pieces; besides them the functions of numpy and Arrow that
restore an array are allowed, and nothing else. It also reads layouts that the installed pandas no
longer does, and needs no pandas.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

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
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    pa.ArrowException,
)


def read(path: Path) -> pa.Table:
    """The table of a pickled DataFrame, with the columns of `SCHEMA` that it has.

    Raises:
        UserError: the pickle is damaged, needs a class that no plain table needs, or holds no
            table of narrations.
    """
    try:
        with open(path, "rb") as file:
            columns = _columns(_Reader(file, str(path)).load())
        missing = [name for name in REQUIRED if name not in columns]
        if missing:
            raise UserError(f"{path}: its table has no column {missing[0]}")
        wanted = {name: columns[name] for name in SCHEMA.names if name in columns}
        return pa.table({name: _cast(values, name) for name, values in wanted.items()})
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except _BROKEN as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a pickled table of narrations ({line[:200]})") from error


class _Inert:
    """Stands in for a class or function of pandas: keeps what it is given."""

    args: tuple[Any, ...]
    state: Any = None

    def __new__(cls, *args: Any, **_: Any) -> _Inert:
        new = object.__new__(cls)
        new.args = args
        return new

    def __init__(self, *args: Any, **_: Any):
        """Takes what the class it stands for would."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Inert):
    pass


class _Block(_Inert):
    pass


class _Manager(_Inert):
    pass


def _arrow(data: Any) -> pa.Array:
    """An Arrow array of pickled buffers, checked before anything looks into them."""
    array = pa.lib._restore_array(data)
    array.validate(full=True)
    return array


def _latin1(text: str, _: str) -> bytes:
    return text.encode("latin1")


PANDAS = {
    "DataFrame": _Frame,
    "BlockManager": _Manager,
    "_unpickle_block": _Block,
    "__pyx_unpickle_NDArrayBacked": _Inert,
} | dict.fromkeys(
    ("Index", "RangeIndex", "Int64Index", "_new_Index", "StringDtype", "StringArray")
    + ("ArrowStringArray", "NumpyExtensionArray", "PandasArray"),
    _Inert,
)
"""Stand-ins by name; pandas moves its classes between modules from version to version."""
OTHERS: dict[tuple[str, str], Any] = {
    ("builtins", "slice"): slice,
    ("builtins", "bytearray"): bytearray,
    ("_codecs", "encode"): _latin1,  # how protocol 2 writes bytes
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("numpy.core.numeric", "_frombuffer"): np.empty(1).__reduce_ex__(5)[0],
    ("pyarrow.lib", "_restore_array"): _arrow,
    ("pyarrow.lib", "chunked_array"): pa.chunked_array,
    ("pyarrow.lib", "type_for_alias"): pa.type_for_alias,
    ("pyarrow.lib", "py_buffer"): pa.py_buffer,
}


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, path: str):
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        home = module.replace("__builtin__", "builtins").replace("numpy._core", "numpy.core")
        if home.split(".")[0] == "pandas" and name in PANDAS:
            return PANDAS[name]
        if (home, name) in OTHERS:
            return OTHERS[home, name]
        raise UserError(
            f"{self.path}: asks for {module}.{name}, which no table of narrations needs; "
            "it was not opened. Download it again, or convert it to Parquet where you trust it"
        )


def _columns(frame: Any) -> dict[str, Any]:
    """Columns by name of an unpickled frame; a named index counts as a column."""
    if not isinstance(frame, _Frame) or not isinstance(frame.state, dict):
        raise ValueError(f"holds a {type(frame).__name__.strip('_')}, not a DataFrame")
    manager = frame.state.get("_mgr", frame.state.get("_data"))
    if not isinstance(manager, _Manager):
        raise ValueError("its DataFrame has no data")
    if manager.args:
        blocks, (header, index) = manager.args[0], manager.args[1]
        pieces = [(block.args[0], block.args[1]) for block in blocks]
    else:  # pandas before 1.3
        state = manager.state[3]["0.14.1"]
        header, index = state["axes"]
        pieces = [(block["values"], block["mgr_locs"]) for block in state["blocks"]]
    names = list(_values(header))
    columns: dict[str, Any] = {}
    for values, places in pieces:
        values = _values(values)
        at = np.arange(len(names))[places]
        rows = values if values.ndim == 2 else values[None]
        columns |= {names[i]: row for i, row in zip(at, rows, strict=True)}
    label = _named(index).get("name")
    return columns | ({label: _values(index)} if isinstance(label, str) else {})


def _named(index: Any) -> dict[str, Any]:
    """What an index was made with, by name."""
    given = [part for part in getattr(index, "args", ()) if isinstance(part, dict)]
    return given[0] if given else {}


def _values(held: Any) -> np.ndarray:
    """The array inside of a column, an index or an extension array."""
    if isinstance(held, np.ndarray):
        return held
    if isinstance(held, pa.Array | pa.ChunkedArray):
        return np.array(held.to_pylist(), dtype=object)
    inside: list[Any] = []
    if isinstance(held, _Inert):
        inside = [*held.args, held.state]
    elif isinstance(held, dict):
        inside = list(held.values())
    elif isinstance(held, tuple):
        inside = list(held)
    for part in inside:
        if isinstance(part, np.ndarray | pa.Array | pa.ChunkedArray | _Inert | dict | tuple):
            try:
                return _values(part)
            except LookupError:
                continue
    raise LookupError("a column without values")


def _cast(values: np.ndarray, name: str) -> pa.Array:
    """A column in the type of `SCHEMA`; missing cells are null."""
    kind = SCHEMA.field(name).type
    clean = float if pa.types.is_floating(kind) else _text
    return pa.array([clean(cell) for cell in values.tolist()], kind)


def _text(cell: Any) -> Any:
    """A cell with text in it, at any depth of lists."""
    if isinstance(cell, list | tuple | np.ndarray):
        return [_text(part) for part in cell]
    return None if cell is None or cell != cell else str(cell)
