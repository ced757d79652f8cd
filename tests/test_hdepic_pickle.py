"""HD-EPIC's table of narrations: a pickle read without running it, kept as Parquet."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ego_ops.corpora import hdepic_pickle, hdepic_table
from ego_ops.errors import UserError
from tests import hdepic_pickles
from tests.hdepic_pickles import VIDEO


def rows_of(table: Any) -> list[dict[str, Any]]:
    return table.select(hdepic_pickle.SCHEMA.names).to_pylist()


EXPECTED = {
    "unique_narration_id": f"{VIDEO}-1",
    "video_id": VIDEO,
    "narration": "Open the upper cupboard by holding the handle of the cupboard with the left "
    "hand.",
    "start_timestamp": 7.44,
    "end_timestamp": 8.75,
    "narration_timestamp": 8.0,
    "nouns": ["upper cupboard", "handle of cupboard"],
    "verbs": ["open", "hold"],
    "pairs": [["open", "upper cupboard"], ["hold", "handle of cupboard"]],
    "main_actions": [["open", "upper cupboard"]],
    "hands": ["left hand"],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["2", "4", "5", "objects", "indexed", "1.1", "1.5", "2.2"])
def test_pickles_of_all_ages(form: str, tmp_path: Path) -> None:
    path, frame = tmp_path / "HD_EPIC_Narrations.pkl", hdepic_pickles.table()
    if form == "1.1":
        path.write_bytes(hdepic_pickles.of_pandas_1_1(frame))
    elif form in ("1.5", "2.2"):
        name = f"PANDAS_{form.replace('.', '_')}"
        hdepic_pickles.stored(getattr(hdepic_pickles, name), path)
    elif form == "objects":
        frame.astype(object).to_pickle(path)
    elif form == "indexed":
        frame.set_index("unique_narration_id").to_pickle(path)
    else:
        frame.to_pickle(path, protocol=int(form))
    rows = rows_of(hdepic_pickle.read(path))
    assert rows[0] == EXPECTED
    assert (rows[1]["narration"], rows[1]["hands"]) == ("Pick up the plate.", [])


def test_missing_cells_are_null(tmp_path: Path) -> None:
    path, frame = tmp_path / "n.pkl", hdepic_pickles.table()
    frame.loc[1, "narration_timestamp"] = np.nan
    frame["nouns"] = pd.Series([np.nan, [np.str_("plate")]], dtype=object)
    frame.loc[1, "narration"] = None
    frame.to_pickle(path)
    rows = rows_of(hdepic_pickle.read(path))
    assert rows[0]["nouns"] is None
    assert rows[1]["nouns"] == ["plate"]
    assert rows[1]["narration"] is None


class Runs:
    """Leaves a mark if it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "HD_EPIC_Narrations.pkl", tmp_path / "mark"
    frame = hdepic_pickles.table()
    frame["hands"] = pd.Series([Runs(mark), []], dtype=object)
    frame.to_pickle(path)
    with pytest.raises(UserError, match=r"asks for posix\.mkdir, which no table"):
        hdepic_pickle.read(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # the attack is real
    assert mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("os", "system"),
        ("pandas", "read_pickle"),
        ("pandas.io.common", "os"),
        ("pandas", "DataFrame.to_csv"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("pyarrow.lib", "memory_map"),
        ("functools", "partial"),
    ],
)
def test_only_what_a_table_needs_is_known(module: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "n.pkl"
    path.write_bytes(
        b"\x80\x04"
        + b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name))
        + b"\x93."
    )
    with pytest.raises(UserError, match=f"asks for {module}.{name}, which no table"):
        hdepic_pickle.read(path)


def test_pickles_that_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "n.pkl"
    hdepic_pickles.table().to_pickle(path)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"n\.pkl: not a pickled table of narrations"):
            hdepic_pickle.read(path)
    rng = np.random.default_rng(3)
    for _ in range(150):
        spoilt = bytearray(whole)
        for at in rng.integers(0, len(spoilt), 4):
            spoilt[at] = rng.integers(0, 256)
        path.write_bytes(spoilt)
        try:
            hdepic_pickle.read(path)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
    for data in ({"a": 1}, [1, 2]):
        path.write_bytes(pickle.dumps(data))
        with pytest.raises(UserError, match="not a DataFrame"):
            hdepic_pickle.read(path)
    hdepic_pickles.table().drop(columns="video_id").to_pickle(path)
    with pytest.raises(UserError, match="has no column video_id"):
        hdepic_pickle.read(path)


def test_the_pickle_is_converted_once(tmp_path: Path) -> None:
    path, made = tmp_path / "HD_EPIC_Narrations.pkl", tmp_path / "HD_EPIC_Narrations.parquet"
    hdepic_pickles.table().to_pickle(path)
    assert next(hdepic_table.narrations(tmp_path)) == EXPECTED
    first = made.stat().st_mtime_ns
    assert next(hdepic_table.narrations(tmp_path)) == EXPECTED
    assert made.stat().st_mtime_ns == first
    changed = hdepic_pickles.table()
    changed["narration"] = "Another release."
    changed.to_pickle(path)
    os.utime(path, ns=(first, first + 10**9))
    assert next(hdepic_table.narrations(tmp_path))["narration"] == "Another release."
    path.unlink()
    assert next(hdepic_table.narrations(tmp_path))["narration"] == "Another release."


def test_where_the_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, home = tmp_path / "read only", tmp_path / "cache"
    folder.mkdir()
    hdepic_pickles.table().to_pickle(folder / "HD_EPIC_Narrations.pkl")
    (folder / "HD_EPIC_Narrations.parquet").mkdir()  # so that no file can take its place
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    assert next(hdepic_table.narrations(folder)) == EXPECTED
    assert [path.parent.name for path in home.rglob("*.parquet")] == ["egoscaler-ray"]
    assert not list(folder.glob("*.part"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "HD_EPIC_Narrations.pkl"))
    with pytest.raises(UserError, match="neither can be written"):
        next(hdepic_table.narrations(folder))


def test_a_parquet_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "HD_EPIC_Narrations.parquet"
    hdepic_pickles.table().to_parquet(path)
    assert next(hdepic_table.narrations(tmp_path)) == EXPECTED
    (tmp_path / "HD_EPIC_Narrations.pkl").write_bytes(b"not even looked at")
    assert next(hdepic_table.narrations(tmp_path)) == EXPECTED
    pq.write_table(pq.read_table(path).drop_columns(["end_timestamp"]), path)
    with pytest.raises(UserError, match="has no column end_timestamp"):
        next(hdepic_table.narrations(tmp_path))
    (tmp_path / "HD_EPIC_Narrations.pkl").unlink()
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        next(hdepic_table.narrations(tmp_path))
