"""Small text tables of numbers, with a header or without."""

from __future__ import annotations

import io
from typing import cast

import fsspec
import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import AnnotationError, MissingFileError


def numbers(path: str, names: dict[str, tuple[str, ...]]) -> NDArray[np.float64]:
    """(N, len(names)) columns of a table of numbers, in the order of `names`.

    Args:
        names: column -> what it may be called in a header. Without a header the columns come in
            that order.

    Raises:
        MissingFileError: there is no such file.
        AnnotationError: it does not hold such columns.
    """
    try:
        with fsspec.open(path, "rb") as file:
            text = cast(bytes, file.read()).decode("utf-8-sig", "replace")
    except OSError as error:
        raise MissingFileError(f"{path}: {error.strerror or 'no such file'}") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise AnnotationError(f"{path}: is empty")
    comma = "," if "," in lines[0] else None
    first = [cell.strip().lower() for cell in lines[0].split(comma)]
    header = not _is_number(first[0])
    places = list(range(len(names)))
    if header:
        places = []
        for column, known in names.items():
            found = [first.index(name) for name in known if name in first]
            if not found:
                raise AnnotationError(f"{path}: no column {column!r} (has {', '.join(first)})")
            places.append(found[0])
    try:
        body = io.StringIO("\n".join(lines[header:]))
        return np.loadtxt(body, delimiter=comma, usecols=places, ndmin=2)
    except (ValueError, IndexError) as error:
        raise AnnotationError(
            f"{path}: not a table of {len(names)} numbers a line ({error})"
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
