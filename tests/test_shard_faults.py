"""Shards that cannot be trained on: each fault is said in one line, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ego_ops.errors import UserError
from tests import shard_files
from training.config import SourceConfig
from training.data.shard_source import ShardSource

HORIZON = 5


def windows(source: ShardSource) -> None:
    """Look at every window."""
    for unit, count in enumerate(source.windows().tolist()):
        held = source.load(unit)
        for number in range(count):
            held.window(number)


def rewrite(
    folder: Path, change: Callable[[list[dict]], None], metadata: dict | None = None
) -> str:
    """Change the rows of the only part. Returns the part's name."""
    (part,) = folder.glob("bucket=*/*.parquet")
    table = pq.read_table(part)
    rows = table.to_pylist()
    change(rows)
    for old in [part, *folder.glob("commits/*/*")]:
        old.unlink()
    made = pa.Table.from_pylist(rows, schema=table.schema)
    shard_files.put(str(folder), made.replace_schema_metadata(metadata or table.schema.metadata))
    (part,) = folder.glob("bucket=*/*.parquet")
    return part.name


def spoil(name: str, value: object) -> Callable[[list[dict]], None]:
    def change(rows: list[dict]) -> None:
        rows[1][name][2] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("action", [float("nan")] * 9), "action of step 2 is not finite"),
        (spoil("position", [0.0, float("inf"), 0.0]), "position of step 2 is not finite"),
        (spoil("position", None), "position of step 2 is not finite"),
        (spoil("action", [None] * 9), "action of step 2 is not finite"),
        (spoil("camera_rotation", [0.0] * 4), "camera_rotation of step 2 is no quaternion"),
        (lambda rows: rows[1].update(frames=rows[1]["frames"][:-1]), "4 of frames for 5 steps"),
        (lambda rows: rows[1].update(frames=None), "0 of frames for 5 steps"),
        (lambda rows: rows[1].update(action=rows[1]["action"][1:]), "4 of action for 5 steps"),
        (spoil("frames", b"\xff\xd8 no picture"), "the frame of step 2 is no whole JPEG"),
        (spoil("frames", b""), "the frame of step 2 is no whole JPEG"),
    ],
)
def test_a_clip_that_is_unfit_is_named_with_what_to_do(tmp_path, change, message):
    shard_files.write(
        str(tmp_path), [[(shard_files.clip(n), shard_files.trajectory(n, 5, 16)) for n in range(3)]]
    )
    ids: list[str] = []

    def both(rows: list[dict]) -> None:
        ids.append(rows[1]["clip_id"])
        change(rows)

    part = rewrite(tmp_path, both)
    with pytest.raises(UserError) as found:
        windows(ShardSource(SourceConfig(str(tmp_path)), HORIZON))
    said = str(found.value)
    assert f"{part}: clip {ids[0]}: {message}; delete the part" in said
    assert "\n" not in said


def test_another_schema_version_is_said(tmp_path):
    shard_files.simple(str(tmp_path), parts=1, clips=2, steps=4)
    part = rewrite(tmp_path, lambda rows: None, {"egoscaler_rows": "7"})
    with pytest.raises(UserError, match=f"{part}: rows of schema version 7, this program reads 1"):
        ShardSource(SourceConfig(str(tmp_path)), HORIZON)
