"""Results of episodes in one folder, so that no crash loses one or counts one twice.

    results.json                         the version of all this
    runs/<sha256[:16]>.json              how they were made: see `sim_eval.provenance`
    episodes.jsonl                       all episodes, for scripts: see `write_jsonl`
    episodes/part-<sha256[:16]>.parquet  results that were committed together
    episodes/merged-<sha256[:16]>.parquet  what some of those said, in one file
    merges                               other bytes before each time that files are removed
    videos/<suite>/<task>/...mp4         see `video_path`

A folder, local or on an object store, holds results of any number of policies, suites and seeds.
Every file is written whole in one step and named by its content, so writers never touch each
other's; what counts is the union of all files. Where it holds an episode more than once, a judged
outcome wins over an error, then the first judged one, or the last error.

A merged file is there before any of those that it stands for is removed. Of merged files only
such are removed as have fewer rows than the new one, so that two commands that merge at a time
cannot each remove what the other relies on.

A listing is no picture of one moment: what is merged while it goes on may be seen neither in the
old files nor in the new one. So `merges` is changed before old files are removed: a listing between
two equal readings of it has missed nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ego_ops.errors import UserError
from ego_ops.storage import Store, read_head, store
from sim_eval.episode import ERRORS, JUDGED, Result

VERSION: Final = 1
HEAD: Final = "results.json"
TEXT: Final = "episodes.jsonl"
FOLDER: Final = "episodes"
KIND: Final = ("policy_digest", "suite", "version", "task", "outcome")
"""Of which there are to be so many videos each."""
MANY: Final = 64
"""Parts that are merged when they are there."""

_TYPES = {
    "str": pa.string(), "int": pa.int64(), "float": pa.float64(),
    "float | None": pa.float64(), "Outcome": pa.string(),
}  # fmt: skip
SCHEMA = pa.schema(
    [(field.name, _TYPES[str(field.type)]) for field in dataclasses.fields(Result)],
    metadata={"egoscaler_results": str(VERSION)},
)
"""A column for every field of `sim_eval.episode.Result`."""
_TIES = ["outcome", "error", "video", "states", "steps", "seconds", "policy", "attempts"]
"""What decides between results of one episode that ended at the same time."""
_MERGES = "merges"
_NAME = re.compile(r"(part|merged)-[0-9a-f]{16}\.parquet")


def commit(url: str, rows: Sequence[Result]) -> None:
    """Add results; once this returns they survive whatever happens to this process.

    Raises:
        UserError: the storage refuses, or the folder holds results of another version.
    """
    if not rows:
        return
    where = store(url)
    if read_head(where, HEAD, VERSION, "results", "; use another --out") is None:
        where.write(HEAD, json.dumps({"version": VERSION}).encode())
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    _write(where, "part", pa.table(columns, schema=SCHEMA))
    if sum(name.startswith("part-") for name in where.names(FOLDER)) >= MANY:
        compact(url)


def finished(url: str) -> set[str]:
    """Ids of the episodes with an outcome that says something of the policy; errors are tried
    again.

    Raises:
        UserError: see `table`.
    """
    rows = _everything(url, ["episode", "outcome"])
    judged = pc.is_in(rows["outcome"], pa.array(JUDGED))
    return set(rows.filter(judged)["episode"].to_pylist())


def table(url: str) -> pa.Table:
    """All results, a row of `SCHEMA` for each episode, sorted by its id; empty where there are
    none. A million need about a gigabyte.

    Raises:
        UserError: a file is damaged, is none of this folder's, or of another version.
    """
    return _view(_everything(url, SCHEMA.names))


def filmed(url: str) -> Counter[tuple[str, ...]]:
    """How many episodes there are videos of, by `KIND`.

    Raises:
        UserError: see `table`.
    """
    rows = _everything(url, ["episode", *KIND, "video"])
    rows = rows.filter(pc.not_equal(rows["video"], "")).drop_columns("video")
    once = rows.group_by(rows.column_names).aggregate([]).select(KIND)
    return Counter(tuple(row.values()) for row in once.to_pylist())


def write_jsonl(url: str, rows: pa.Table) -> None:
    """Write `table`'s rows beside the results, one JSON object a line, by suite, policy, task and
    seed: what is in the files of Parquet already, for scripts that would rather read text.

    Raises:
        UserError: the storage refuses.
    """
    order = ["suite", "version", "policy", "policy_digest", "task", "seed", "episode"]
    text = io.StringIO()
    for batch in rows.sort_by([(name, "ascending") for name in order]).to_batches(10_000):
        text.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())
    store(url).write(TEXT, text.getvalue().encode())


def video_path(result: Result) -> str:
    """Where an episode's video belongs, below the results' folder."""
    policy = Path(result.policy.removesuffix("/").removesuffix("/policy")).name
    words = [policy, str(result.seed), result.outcome, result.episode]
    folders = [result.suite, result.task, "-".join(words)]
    return "/".join(["videos", *(re.sub(r"[^\w.+-]+", "_", one) for one in folders)]) + ".mp4"


def compact(url: str) -> None:
    """Put many small files into one. Nothing is lost if it is killed, or runs twice at a time.

    Raises:
        UserError: see `table`; or the storage refuses.
    """
    where = store(url)
    sizes = _files(where)
    chosen = [name for name in sizes if name.startswith("part-")]
    total = sum(sizes[name] for name in chosen)
    # Each file is about twice the one before, so that a row is written few times and files are few.
    for name in sorted(sizes.keys() - set(chosen), key=lambda name: sizes[name]):
        if sizes[name] <= 2 * total:
            chosen.append(name)
            total += sizes[name]
    if len(chosen) < 2:
        return
    read_whole = [(name, _load(where, name, SCHEMA.names)) for name in chosen]
    tables = [(name, rows) for name, rows in read_whole if rows is not None]
    if not tables:
        return
    merged = _view(pa.concat_tables([rows for _, rows in tables]))
    new = _write(where, "merged", merged)
    where.write(_MERGES, uuid.uuid4().hex.encode())
    for name, rows in tables:
        if name != new and (name.startswith("part-") or len(rows) < len(merged)):
            where.delete(f"{FOLDER}/{name}")
    where.clean()


def _everything(url: str, columns: list[str]) -> pa.Table:
    """These columns of all rows of all files."""
    where = store(url)
    read_head(where, HEAD, VERSION, "results")
    seen: set[str] = set()
    tables = [SCHEMA.empty_table().select(columns)]
    # Files may be merged meanwhile: what vanished is in a file that a later listing shows.
    while True:
        merges = _merges(where)
        new = sorted(_files(where).keys() - seen)
        if not new and merges == _merges(where):
            break
        seen.update(new)
        found = where.each(lambda name: _load(where, name, columns), new)
        tables += [rows for rows in found if rows is not None]
    return pa.concat_tables(tables)


def _merges(where: Store) -> bytes:
    try:
        return where.read(_MERGES)
    except FileNotFoundError:
        return b""


def _files(where: Store) -> dict[str, int]:
    """Sizes of the results' files."""
    sizes = {n: size for n, size in where.files(FOLDER).items() if not n.startswith(".")}
    for name in sizes:
        if not _NAME.fullmatch(name):
            raise UserError(f"{where.url}/{FOLDER}/{name}: no file of results; take it away")
    return sizes


def _load(where: Store, name: str, columns: list[str]) -> pa.Table | None:
    """Columns of one file; None if it has been merged and removed."""
    path = f"{FOLDER}/{name}"
    try:
        data = where.read(path)
    except FileNotFoundError:
        return None
    advice = "delete it, and run `evaluate` again: it plays those episodes anew"
    if _digest(data) not in name:
        raise UserError(f"{where.url}/{path}: damaged (its digest is not its name's); {advice}")
    wanted = pa.schema([SCHEMA.field(column) for column in columns])
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        version = (file.schema_arrow.metadata or {}).get(b"egoscaler_results", b"none").decode()
        if version != str(VERSION) or file.schema_arrow.names != SCHEMA.names:
            raise UserError(
                f"{where.url}/{path}: results of version {version}, this program reads {VERSION}"
            )
        return file.read(columns, use_threads=False).cast(wanted)
    except pa.ArrowException as error:
        text = " ".join(str(error).split())
        raise UserError(f"{where.url}/{path}: damaged ({text}); {advice}") from error


def _view(rows: pa.Table) -> pa.Table:
    """One row an episode, the same whatever the order of `rows`."""
    plain = rows.replace_schema_metadata(SCHEMA.metadata)
    error = pc.is_in(plain["outcome"], pa.array(ERRORS))
    when = pc.if_else(error, pc.negate(plain["time"]), plain["time"])
    keys = plain.select(["episode", *_TIES]).append_column("rank", error)
    keys = keys.append_column("when", when)
    order = pc.sort_indices(
        keys, [(name, "ascending") for name in ("episode", "rank", "when", *_TIES)]
    )
    ids = plain["episode"].take(order)
    first = np.ones(len(ids), bool)
    if len(ids) > 1:
        first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy()
    return plain.take(order.filter(pa.array(first)))


def _write(where: Store, kind: str, rows: pa.Table) -> str:
    sink = io.BytesIO()
    pq.write_table(rows.cast(SCHEMA), sink, compression="zstd")
    data = sink.getvalue()
    name = f"{kind}-{_digest(data)}.parquet"
    where.write(f"{FOLDER}/{name}", data)
    return name


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
