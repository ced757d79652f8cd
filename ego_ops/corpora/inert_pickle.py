"""A pickled pandas table, taken apart without calling anything that the pickle names.

A pickle is a list of functions to call, so opening a downloaded one with pandas means running
whatever it says. Here every class and function that a table needs is replaced by a stand-in that
only keeps what it was given, and anything else is refused; the arrays are then read from the bytes
that the stand-ins kept. So layouts of older pandas are read as well, and no pandas is needed.
"""

from __future__ import annotations

import pickle
import re
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

PANDAS = (
    ("DataFrame", "BlockManager", "_unpickle_block", "_new_Index", "Index", "RangeIndex")
    + ("Int64Index", "StringDtype", "StringArray", "ArrowStringArray", "NumpyExtensionArray")
    + ("PandasArray", "__pyx_unpickle_NDArrayBacked")
)
NUMPY = ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer")
ARROW = ("_restore_array", "chunked_array", "type_for_alias", "py_buffer")
KNOWN = {"pandas": PANDAS, "numpy": NUMPY, "pyarrow": ARROW}
"""Names with a stand-in, by package; they move between modules from version to version."""
BUILTINS = {"slice": slice, "bytearray": bytearray}


class Refused(Exception):
    """The pickle names something that no table needs: `module.name`."""


class Inert:
    """Stands in for a class or function: keeps what it is given."""

    origin = ""
    args: tuple[Any, ...]
    state: Any = None

    def __new__(cls, *args: Any, **_: Any) -> Inert:
        new = object.__new__(cls)
        new.args = args
        return new

    def __init__(self, *args: Any, **_: Any):
        """Takes what the class it stands for would."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


def load(file: BinaryIO) -> Any:
    """What is pickled in `file`, with instances of `Inert` for all that is no plain value.

    Raises:
        Refused: it names a class or function that no table needs.
        Exception: nearly any, if the pickle is damaged; see `BROKEN`.
    """
    return _Reader(file).load()


BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
"""What reading a damaged pickle raises."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in KNOWN.get(module.split(".")[0], ()):
            return type(name, (Inert,), {"origin": name})
        if module in ("builtins", "__builtin__") and name in BUILTINS:
            return BUILTINS[name]
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return _latin1
        raise Refused(ascii(f"{module}.{name}")[1:-1])


def _latin1(text: str, _: str) -> bytes:
    return text.encode("latin1")


def columns(frame: Any) -> dict[str, NDArray]:
    """Columns by name of a loaded DataFrame, each (N,); a named index counts as a column.

    Raises:
        ValueError: it is no DataFrame. Others of `BROKEN` if it is damaged.
    """
    if not isinstance(frame, Inert) or frame.origin != "DataFrame":
        raise ValueError(f"holds a {type(frame).__name__}, not a DataFrame")
    manager = frame.state.get("_mgr", frame.state.get("_data"))
    if not isinstance(manager, Inert) or manager.origin != "BlockManager":
        raise ValueError("its DataFrame has no data")
    if manager.args:
        blocks, (header, index) = manager.args[0], manager.args[1]
        pieces = [(block.args[0], block.args[1]) for block in blocks]
    else:  # pandas before 1.3
        state = manager.state[3]["0.14.1"]
        header, index = state["axes"]
        pieces = [(block["values"], block["mgr_locs"]) for block in state["blocks"]]
    names = [str(name) for name in values(header)]
    found: dict[str, NDArray] = {}
    for held, places in pieces:
        block = values(held)
        at = np.arange(len(names))[places if isinstance(places, slice) else values(places)]
        rows = block if block.ndim == 2 else block[None]
        found |= {names[i]: row for i, row in zip(at, rows, strict=True)}
    made = [part for part in getattr(index, "args", ()) if isinstance(part, dict)]
    label = made[0].get("name") if made else None
    return found | ({label: values(index)} if isinstance(label, str) else {})


def values(held: Any) -> NDArray:
    """The array that a stand-in for an array, a column or an index holds.

    Raises:
        LookupError: it holds none. Others of `BROKEN` if it is damaged.
    """
    origin = getattr(held, "origin", "")
    if origin == "_reconstruct":
        _, shape, kind, fortran, raw = held.state
        return _array(raw, kind, shape, "F" if fortran else "C")
    if origin == "_frombuffer":
        raw, kind, shape, order, *axes = held.args
        if order == "K" and axes and axes[0] is not None:
            return _array(raw, kind, shape, "C").transpose(axes[0])
        return _array(raw, kind, shape, "F" if order == "F" else "C")
    if origin == "_restore_array":
        return _strings(*held.args[0][:5])
    if origin == "chunked_array":
        return np.concatenate([values(chunk) for chunk in held.args[0]])
    for part in _inside(held):
        if isinstance(part, Inert | dict | tuple):
            try:
                return values(part)
            except LookupError:
                continue
    raise LookupError("a column without values")


def _inside(held: Any) -> list[Any]:
    if isinstance(held, Inert):
        return [*held.args, held.state]
    return list(held.values()) if isinstance(held, dict) else list(held)


def plain(cell: Any) -> Any:
    """A cell without stand-ins in it: numbers, strings, None, and lists of them at any depth."""
    if getattr(cell, "origin", "") == "scalar":
        kind, raw = cell.args
        return _array(raw, kind, (1,), "C")[0].item()
    if isinstance(cell, Inert):
        cell = values(cell).tolist()
    if isinstance(cell, list | tuple):
        return [plain(part) for part in cell]
    return cell


def _array(raw: Any, kind: Any, shape: Any, order: Any) -> NDArray:
    """An array of its bytes, or of its list of objects."""
    if isinstance(raw, list):
        flat = np.empty(len(raw), object)
        for i, cell in enumerate(raw):
            flat[i] = cell
        return flat.reshape(shape, order=order)
    code = re.fullmatch(r"[<>|=]?([fiubU]\d+)", kind.args[0])
    if code is None:
        raise ValueError(f"an array of {kind.args[0]!r:.20}")
    sign = kind.state[1] if kind.state and kind.state[1] in ("<", ">") else "<"
    return np.frombuffer(bytes(raw), sign + code[1]).reshape(shape, order=order)


def _strings(kind: Any, length: int, _: Any, offset: int, buffers: Any) -> NDArray:
    """Arrow's strings: bits that say which are valid, where each begins, and all their bytes."""
    sizes = {"large_string": "<i8", "string": "<i4"}
    valid, starts, text = (buffer and bytes(buffer.args[0]) for buffer in buffers)
    ends = np.frombuffer(starts or b"", sizes[kind.args[0]])[offset : offset + length + 1].tolist()
    if length and len(ends) != length + 1:
        raise ValueError("a column of strings is truncated")
    cells: list[str | None] = [str((text or b"")[a:b], "utf-8") for a, b in pairwise(ends)]
    if valid is not None:
        bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
        known = bits[offset : offset + length]
        cells = [cell if bit else None for cell, bit in zip(cells, known, strict=True)]
    return np.array(cells, object)
