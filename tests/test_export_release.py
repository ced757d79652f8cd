"""A release: what may be published of shards, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from ego_ops import shards
from ego_ops.errors import UserError
from tests.lerobot_files import commit_shards
from workflows.export_release import ReleaseConfig, run

LENGTHS = (7, 12, 2, 30, 1)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return commit_shards(tmp_path_factory.mktemp("shards"), LENGTHS)


@pytest.fixture(scope="module")
def released(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("release") / "release"
    run(ReleaseConfig(url, str(out), repo_id="me/poses"))
    return out


def test_poses_and_pointers_are_in_it_to_the_last_bit(url: str, released: Path) -> None:
    found = {row["clip_id"]: row for row in pq.read_table(released / "data").to_pylist()}
    wanted = [row for table in shards.read(url) for row in table.to_pylist()]
    assert len(found) == len(wanted) == len(LENGTHS)
    for row in wanted:
        one = found[row["clip_id"]]
        assert one["redistributable"] is False
        assert one["licence"] == "Ego4D licence agreement"
        kept = [name for name in one if name not in ("licence", "redistributable")]
        assert {"position", "rotation", "camera_position", "action", "timestamps", "fps"} <= {*kept}
        assert {"corpus", "corpus_version", "video_uid", "t_start", "t_end"} <= {*kept}
        assert [one[name] for name in kept] == [row[name] for name in kept]


def test_no_pixel_word_or_host_is_in_it(released: Path) -> None:
    table = pq.read_table(released / "data")
    assert not {"frames", "narration", "verb", "object", "worker"} & {*table.column_names}
    for path in released.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"\xff\xd8\xff" not in data  # how every JPEG begins
            assert b"moves thing" not in data
            assert b"host/1" not in data
            assert str(released.parent).encode() not in data


def test_texts_come_along_where_asked_for(url: str, tmp_path: Path) -> None:
    run(ReleaseConfig(url, str(tmp_path / "out"), texts=True))
    table = pq.read_table(tmp_path / "out/data")
    assert set(table["narration"].to_pylist()) == {f"moves thing {n}" for n in range(5)}
    assert "Narrations are in it" in (tmp_path / "out/README.md").read_text()


def test_the_card_says_what_is_in_it(released: Path) -> None:
    card = (released / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    said = yaml.safe_load(head)
    assert said["size_categories"] == ["n<1K"]
    assert said["license"] == "other"
    for config in said["configs"]:
        assert list(released.glob(config["data_files"]))
    seconds = sum(LENGTHS) / 10
    assert f"| Ego4D | v2 | 5 | 2 | {sum(LENGTHS)} | {seconds / 3600:.2f} |" in text
    assert "| `travel_m` | 0.02 | 0.2 | 0.38 |" in text  # of 0, 0.1, .. 0.4
    for heading in ("Load", "Conventions", "Licences", "Known failures"):
        assert f"\n## {heading}\n" in text
    loader = text.split("```python\n")[1].split("```")[0]
    assert len(loader.splitlines()) <= 10


def test_a_file_is_full_at_some_size(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.export.release._FULL", 1000)
    run(ReleaseConfig(url, str(tmp_path / "out")))
    files = sorted((tmp_path / "out/data/ego4d").iterdir())
    assert [path.name for path in files] == ["part-00000.parquet", "part-00001.parquet"]
    assert sum(pq.read_metadata(path).num_rows for path in files) == len(LENGTHS)


def test_again_does_nothing_and_never_overwrites(
    url: str, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in released.rglob("*")}
    run(ReleaseConfig(url, str(released), repo_id="me/poses"))
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in released.rglob("*")} == before
    with pytest.raises(UserError, match="another export is there"):
        run(ReleaseConfig(url, str(released), texts=True))


def test_nothing_to_release_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trajectory is there: nothing to release"):
        run(ReleaseConfig(str(tmp_path / "none"), str(tmp_path / "out")))


def test_a_damaged_part_is_one_line_and_no_release(tmp_path: Path) -> None:
    url = commit_shards(tmp_path / "shards", LENGTHS)
    part = Path(url, [part for part, _ in shards.parts(url)][-1])
    data = bytearray(part.read_bytes())
    data[-2000:-8] = bytes(1992)
    part.write_bytes(data)
    with pytest.raises(UserError, match="damaged") as found:
        run(ReleaseConfig(url, str(tmp_path / "out")))
    assert "\n" not in str(found.value)
    assert not (tmp_path / "out").exists()
    part.unlink()
    run(ReleaseConfig(url, str(tmp_path / "out")))
    assert len(pq.read_table(tmp_path / "out/data")) < len(LENGTHS)
