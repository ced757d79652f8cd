"""`index` and `status`, as a person meets them. No Ray."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ego_ops import shards, work
from ego_ops.errors import UserError
from ego_ops.job import begin
from ego_ops.manifest import Manifest, Written
from tests.egodex_files import recording
from tests.pipelines import write_manifest
from workflows import index, status
from workflows.status import StatusConfig


def extract(folder: Path, verbs: tuple[str, ...], buckets: int = 16) -> str:
    """Work on a clip of each verb, in the first `buckets` of 16, once."""
    manifest = Manifest(write_manifest(folder, len(verbs), verbs))
    out = str(folder / "shards")
    begun = begin(out, manifest, "tests.pipelines:Scripted", {})
    for bucket in range(buckets):
        for clip_id in manifest.ids(bucket):
            unit = work.Unit(bucket, clip_id, clip_id)
            work.solve(begun, unit, work.perceive(begun, unit))
    return out


def test_status_counts_the_committed_view(tmp_path, capsys):
    out = extract(tmp_path, ("fine", "reject", "missing", "flaky", "bug", "fine"))
    status.run(StatusConfig(out, json=True))
    state = json.loads(capsys.readouterr().out)
    assert state.pop("clips_per_s") > 0
    assert state == {
        "clips": 6,
        "remaining": 2,
        "due_again": 2,
        "corpora": {"toy": {"clips": 6, "ok": 2, "rejected": 1, "failed": 3, "missing": 0}},
        "rejected": {"no_object": 1},
        "failed": {"missing_file": 1, "io_timeout": 1, "unexpected": 1},
    }
    status.run(StatusConfig(out, failures=True, verify=True))
    text = capsys.readouterr().out
    assert "video-00000.mp4 missing_file (attempt 1): video.mp4: not there" in text
    assert "2 left (2 to be tried again)" in text


def test_status_needs_no_manifest_and_no_ray(tmp_path):
    out = extract(tmp_path, ("fine",) * 40, buckets=8)
    shutil.rmtree(tmp_path / "manifest")
    code = (
        "import sys\n"
        "from workflows import status\n"
        f"status.run(status.StatusConfig({out!r}, json=True))\n"
        "assert 'ray' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    toy = json.loads(done.stdout)["corpora"]["toy"]
    assert toy["clips"] == 40
    assert 0 < toy["ok"] == 40 - toy["missing"] < 40


def test_status_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="run `extract` first"):
        status.run(StatusConfig(str(tmp_path)))
    out = extract(tmp_path, ("fine", "fine"))
    part, _ = next(shards.parts(out))
    data = (tmp_path / "shards" / part).read_bytes()
    (tmp_path / "shards" / part).write_bytes(data[:-1] + b"?")
    with pytest.raises(UserError, match=f"1 damaged shards; delete them .*{part}"):
        status.run(StatusConfig(out, verify=True))


def test_index_lists_a_corpus_and_what_was_left_out(tmp_path, capsys):
    corpus, out = tmp_path / "egodex", str(tmp_path / "manifest")
    for i in range(3):
        recording(corpus, f"pick_cup/{i}")
    recording(corpus, "pick_cup/3", video=False)
    config = index.IndexConfig("egodex", str(corpus), out)
    assert index.run(config) == Written(3, 0, 0)
    assert "left out: no_video" in capsys.readouterr().out
    recording(corpus, "pick_cup/4")
    assert index.run(config) == Written(1, 3, 0)
    assert sorted(c.video_path for c in Manifest(out)) == [
        f"pick_cup/{i}.mp4" for i in (0, 1, 2, 4)
    ]


def test_index_of_nothing_is_an_error(tmp_path):
    recording(tmp_path / "egodex", video=False)
    config = index.IndexConfig("egodex", str(tmp_path / "egodex"), str(tmp_path / "manifest"))
    with pytest.raises(UserError, match="not one usable clip of egodex"):
        index.run(config)
