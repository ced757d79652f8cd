"""Reading a time window of a sorted CSV file."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops.corpora import csv_window
from ego_ops.corpora.csv_window import window
from ego_ops.errors import AnnotationError, MissingFileError


def write(path: Path, times: np.ndarray, header: str = "graph,t,x") -> None:
    lines = [header] + [f"a-{i},{t:.0f},{i / 8}" for i, t in enumerate(times)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, np.ndarray]:
    times = np.cumsum(np.random.default_rng(0).integers(0, 3, 100_000)) + 1000.0
    path = tmp_path_factory.mktemp("csv") / "long.csv"
    write(path, times)
    return str(path), times


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 110_000), st.floats(-10, 2000))
def test_same_rows_as_a_full_scan(long_file, lo, length):
    path, times = long_file
    rows = window(path, "t", lo, lo + length)
    expected = np.flatnonzero((times >= lo) & (times <= lo + length))
    np.testing.assert_array_equal(rows["t"], times[expected])
    np.testing.assert_array_equal(rows["x"], expected / 8)
    assert np.isnan(rows["graph"]).all()


def test_reads_little(long_file, monkeypatch):
    read = []
    cat = fsspec.implementations.local.LocalFileSystem.cat_file

    def counted(self, path, start=None, end=None, **kwargs):
        data = cat(self, path, start=start, end=end, **kwargs)
        read.append(len(data))
        return data

    monkeypatch.setattr(fsspec.implementations.local.LocalFileSystem, "cat_file", counted)
    window(long_file[0], "t", 50_000, 50_100)
    assert sum(read) < 4 * csv_window.NEAR
    assert sum(read) < Path(long_file[0]).stat().st_size / 3


def test_empty_cells_are_nan_and_torn_lines_left_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufefft, x,y\r\n1,2,\r\n2,,3\r\n3,4,five\r\n4,1\r\n5,6,7", encoding="utf-8")
    rows = window(str(path), "t", 1, 5)
    np.testing.assert_array_equal(rows["t"], [1, 2, 3, 5])
    np.testing.assert_array_equal(rows["x"], [2, np.nan, 4, 6])
    np.testing.assert_array_equal(rows["y"], [np.nan, 3, np.nan, 7])


def test_a_stretch_without_times(tmp_path):
    path = tmp_path / "a.csv"
    lines = [f"{i if i < 5000 or i > 45_000 else ''},{i}" for i in range(50_000)]
    path.write_text("t,x\n" + "\n".join(lines))
    np.testing.assert_array_equal(
        window(str(path), "t", 4998, 45_002)["x"][:3], [4998, 4999, 45_001]
    )


def test_single_impossible_times_do_not_lead_astray(tmp_path):
    times = np.arange(60_000.0)
    wild = np.random.default_rng(1).choice(60_000, 600, replace=False)
    times[wild] = np.where(wild % 2, 1e12, -1e12)
    write(tmp_path / "a.csv", times)
    for lo in (100, 20_000, 29_990, 30_010, 59_000):
        rows = window(str(tmp_path / "a.csv"), "t", lo, lo + 200)
        expected = times[(times >= lo) & (times <= lo + 200)]
        np.testing.assert_array_equal(rows["t"], expected)


def test_no_row_in_the_window(long_file, tmp_path):
    assert len(window(long_file[0], "t", 0, 10)["t"]) == 0
    (tmp_path / "head.csv").write_text("t,x\n")
    assert {k: len(v) for k, v in window(str(tmp_path / "head.csv"), "t", 0, 1).items()} == {
        "t": 0,
        "x": 0,
    }


def test_remote_file(long_file):
    data = Path(long_file[0]).read_bytes()
    fsspec.filesystem("memory").pipe("/window/long.csv", data)
    rows = window("memory://window/long.csv", "t", 2000, 2100)
    np.testing.assert_array_equal(rows["x"], window(long_file[0], "t", 2000, 2100)["x"])
    assert len(rows["x"]) > 50


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.csv: no such file"):
        window(str(tmp_path / "none.csv"), "t", 0, 1)
    for text in ("", "a,b\n1,2\n"):
        (tmp_path / "b.csv").write_text(text)
        with pytest.raises(AnnotationError, match="has no column t"):
            window(str(tmp_path / "b.csv"), "t", 0, 1)
