"""The index job: what goes in, what is left out and said so, and what a second download adds."""

from __future__ import annotations

import csv
import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ego_ops import corpora
from ego_ops.corpora import Skipped
from ego_ops.manifest import Manifest, Written
from tests.pipelines import clips
from workflows.index import IndexConfig, run


@pytest.fixture
def corpus(monkeypatch):
    """A corpus whose annotations are all there, and of whose videos those that lie in its root."""

    def index(root: str):
        for clip in clips(60):
            path = Path(root) / clip.video_path
            if path.exists():
                yield replace(clip, root=root)
            else:
                yield Skipped("no_video", clip.video_uid, '[bold]not, "here"\n', 2)

    monkeypatch.setitem(corpora.CORPORA, "partly", corpora.Corpus(index, None))


def left_out(folder: Path) -> list[list[str]]:
    with gzip.open(folder / "left-out-partly.csv.gz", "rt", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.usefixtures("corpus")
def test_what_is_missing_is_named_and_added_when_it_is_there(tmp_path, capsys):
    root, out = tmp_path / "corpus", tmp_path / "manifest"
    root.mkdir()
    (root / "video-00001.mp4").touch()
    assert run(IndexConfig("partly", str(root), str(out))) == Written(20, 0, 0)
    said = " ".join(capsys.readouterr().out.split())
    assert "no_video │ 80 │ video-00000: [bold]not" in said
    assert str(out / "left-out-partly.csv.gz").replace(" ", "") in said.replace(" ", "")
    listed = left_out(out)
    assert listed[0] == ["reason", "where", "detail", "count"]
    assert listed[1:21] == [["no_video", "video-00000", '[bold]not, "here"\n', "2"]] * 20
    assert len(listed) == 41

    before = {clip.clip_id: clip for clip in Manifest(str(out))}
    (root / "video-00000.mp4").touch()
    assert run(IndexConfig("partly", str(root), str(out))) == Written(20, 20, 0)
    assert {c.clip_id: c for c in Manifest(str(out)) if c.clip_id in before} == before
    assert len(left_out(out)) == 21

    (root / "video-00002.mp4").touch()
    moved = shutil.move(root, tmp_path / "moved")
    assert run(IndexConfig("partly", str(moved), str(out))) == Written(20, 40, 0, 40)
    assert {clip.root for clip in Manifest(str(out))} == {str(moved)}
    assert {clip.clip_id for clip in Manifest(str(out))} == {clip.clip_id for clip in clips(60)}
    assert left_out(out) == [["reason", "where", "detail", "count"]]
