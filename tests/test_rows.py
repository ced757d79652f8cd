"""What is written of a clip, and what is not fit to be written."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from ego_ops import rows
from ego_ops.check import invalid
from ego_ops.errors import MissingFileError, Rejection, StorageError
from ego_ops.geometry.actions import actions
from ego_ops.quality import SCORES
from ego_ops.verdict import Verdict, failed, verdict
from tests.pipelines import JPEG, clips, trajectory

ARRAYS = ("position", "rotation", "camera_position", "camera_rotation", "intrinsics")


def test_rows_come_back_as_they_went_in():
    given = list(clips(6))
    outcomes = [
        trajectory(given[0]),
        Verdict("rejected", "no_object", "0 of 9 frames"),
        trajectory(given[2]),
        trajectory(given[3]),
        failed("poison", "SIGSEGV"),
        trajectory(given[5]),
    ]
    made = [
        rows.Row(clip, 1 + i, outcome, "host/1", 1.5, 0.5)
        for i, (clip, outcome) in enumerate(zip(given, outcomes, strict=True))
    ]
    data = rows.parquet(rows.table(made, "hash", "0.1"))
    table = pq.read_table(io.BytesIO(data))
    assert table.schema.equals(rows.SCHEMA)
    for i, (row, clip, outcome) in enumerate(zip(table.to_pylist(), given, outcomes, strict=True)):
        assert row["clip_id"] == clip.clip_id
        assert row["attempt"] == i + 1
        if isinstance(outcome, Verdict):
            assert row["status"] == outcome.status
            assert row["detail"] == outcome.detail
            assert outcome.label in (row["reason"], row["error_class"])
            absent = [*ARRAYS, "timestamps", "fps", "action", "visible", "frames", *SCORES]
            assert all(row[name] is None for name in absent)
            continue
        assert (row["status"], row["reason"], row["error_class"]) == ("ok", None, None)
        np.testing.assert_array_equal(row["timestamps"], outcome.timestamps)
        np.testing.assert_array_equal(row["visible"], outcome.visible)
        for name in ARRAYS:
            np.testing.assert_array_equal(row[name], getattr(outcome, name).astype(np.float32))
        np.testing.assert_allclose(
            row["action"], actions(outcome.position, outcome.rotation), atol=1e-6
        )
        assert row["frames"] == outcome.frames
        assert row["image_size"] == [640, 480]
        assert row["travel_m"] == pytest.approx(outcome.quality["travel_m"])
        assert row["depth_m"] is None


def test_a_score_that_is_not_a_number_is_null():
    clip = next(clips(1))
    odd = replace(trajectory(clip), quality={"travel_m": np.nan, "depth_m": np.float32(2)})
    assert invalid([odd]) == {}
    row = rows.table([rows.Row(clip, 1, odd, "", 0, 0)], "", "").to_pylist()[0]
    assert (row["travel_m"], row["depth_m"]) == (None, 2.0)


def _bent(name: str, index: int | tuple[int, ...], value: float) -> dict:
    array = np.array(getattr(trajectory(next(clips(1))), name))
    array[index] = value
    return {name: array}


ONE = trajectory(next(clips(1)))
T = len(ONE.timestamps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_bent("position", (0, 0), np.nan), "position is not finite"),
        (_bent("camera_rotation", (-1, 2), np.inf), "camera_rotation is not finite"),
        (_bent("rotation", (0, 3), 3.0), "rotation has a quaternion of norm 3"),
        (_bent("timestamps", -1, 0.0), "timestamps do not rise"),
        ({"position": ONE.position[:-1]}, "position has shape"),
        ({"camera_position": ONE.position[:, :2]}, "camera_position has shape"),
        ({"visible": ONE.visible[:-1]}, "visible has shape"),
        ({"intrinsics": np.ones(3)}, "intrinsics has shape"),
        ({"timestamps": np.empty(0)}, "no steps"),
        ({"frames": ONE.frames[1:]}, f"{T - 1} frames for {T} steps"),
        ({"frames": [b"PNG"] * T}, "not a JPEG"),
        ({"frames": [np.zeros(4)] * T}, "not a JPEG"),
        ({"image_size": (0, 480)}, "image_size"),
        ({"fps": 0.0}, "fps"),
        ({"quality": {"beauty": 1.0}}, "unknown scores: beauty"),
    ],
)
def test_an_unfit_trajectory_is_found_out_among_sound_ones(change, message):
    assert invalid([ONE]) == {}
    (found,) = invalid([replace(ONE, **change)]).values()
    assert message in found
    sound = [trajectory(clip) for clip in clips(5)]
    among = invalid([*sound[:3], replace(ONE, **change), *sound[3:]])
    assert among == {3: found}


def test_what_is_no_extraction_at_all_is_found_out():
    odd = replace(ONE, position=np.full((T, 3), "left"))
    found = invalid([None, ONE, "a string", odd, replace(ONE, quality={"depth_m": "deep"})])
    assert sorted(found) == [0, 2, 3, 4]
    assert invalid([]) == {}


def test_verdicts():
    def raised(error: Exception) -> tuple[str, str, int]:
        try:
            raise error
        except type(error) as caught:
            found = verdict(caught)
        return found.status, found.label, found.attempts

    assert raised(Rejection("no_object", "x")) == ("rejected", "no_object", 1)
    assert raised(MissingFileError("x")) == ("failed", "missing_file", 1)
    assert raised(StorageError("x")) == ("failed", "io_timeout", 3)
    assert raised(TimeoutError()) == ("failed", "io_timeout", 3)
    assert raised(OSError(5, "Input/output error")) == ("failed", "io_timeout", 3)
    assert raised(MemoryError()) == ("failed", "out_of_memory", 3)
    assert raised(type("OutOfMemoryError", (RuntimeError,), {})()) == ("failed", "cuda_oom", 3)
    assert raised(FileNotFoundError(2, "x")) == ("failed", "unexpected", 2)
    assert raised(ZeroDivisionError()) == ("failed", "unexpected", 2)


def test_an_unexpected_error_says_where_it_was_raised():
    try:
        [][3]
    except IndexError as error:
        found = verdict(error)
    assert found.detail.startswith("IndexError: list index out of range (test_rows.py:")


def test_frames_are_stored_untouched():
    assert all(frame.startswith(JPEG) for frame in ONE.frames)
