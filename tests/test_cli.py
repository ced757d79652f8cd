"""The command as a user has it: help, clear lines on mistakes, and the demo from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ego_ops import shards
from ego_ops.report.measure import compare, read_truth
from ego_ops.report.record import extraction
from ego_ops.storage import store
from tests.egodex_files import recording
from workflows.cli import JOBS, main


@pytest.mark.parametrize("name", [name for name, _ in JOBS.values()])
def test_every_job_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert "--" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("index --corpus egodx --root .", "did you mean egodex"),
        ("index --corpus egodex --root {tmp}/none", "no such folder"),
        ("extract --manifest {tmp}/none --out {tmp}/out", "run `index` first"),
        ("status --out {tmp}/none", "run `extract` first"),
        ("report --shards {tmp}/none", "run `extract` first"),
        ("view abc --shards {tmp}/none", "run `extract` first"),
    ],
)
def test_a_mistake_ends_in_one_line(
    line: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.format(tmp=tmp_path).split()) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("egoscaler: ")
    assert says in error
    assert "\n" not in error


@pytest.mark.parametrize("typo", ["--perception geometrc", "--option fpss=3"])
def test_a_typing_error_leaves_the_folder_as_it_was(
    typo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording(tmp_path / "corpus")
    manifest, out = str(tmp_path / "manifest"), tmp_path / "shards"
    index = ["index", "--corpus", "egodex", "--root", str(tmp_path / "corpus"), "--out", manifest]
    assert main(index) == 0
    assert main(["extract", "--manifest", manifest, "--out", str(out), *typo.split()]) == 1
    assert "cannot load it" in capsys.readouterr().err
    assert not out.exists()


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workflows.cli", *words], capture_output=True, text=True, check=False
    )


def test_status_and_help_wait_for_nothing_heavy() -> None:
    code = "import sys, workflows.cli; print({'ray', 'mujoco', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


@pytest.mark.parametrize("clips", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_demo_from_end_to_end(clips: int, tmp_path: Path) -> None:
    out = str(tmp_path / "demo")
    done = command("demo", "--corpus", "egodex", "--clips", str(clips), "--out", out)
    assert done.returncode == 0, done.stderr
    assert "against the true poses" in done.stdout
    assert (tmp_path / "demo/report.html").stat().st_size > 200_000
    state = json.loads(command("status", "--out", f"{out}/shards", "--json").stdout)
    assert (state["clips"], state["remaining"], state["corpora"]["egodex"]["ok"]) == (
        *(clips, 0, clips),
    )
    truths = store(f"{out}/egodex/truth")
    for table in shards.read(f"{out}/shards", verify=True):
        for row in table.to_pylist():
            truth = read_truth(truths, row["video_uid"])
            figures = compare(extraction(row), truth).figures
            assert figures["position_median_m"] < 0.02
            assert figures["rotation_median_rad"] < 0.0873  # 5 degrees
    clip_id = table["clip_id"][0].as_py()
    seen = command("view", clip_id, "--shards", f"{out}/shards", "--out", f"{out}/clip.rrd")
    assert seen.returncode == 0, seen.stderr
    again = command("demo", "--corpus", "egodex", "--clips", str(clips), "--out", out)
    assert again.returncode == 0, again.stderr
    assert "nothing left to do" in again.stdout
    assert "are there already" in again.stdout
    other = command("demo", "--corpus", "egodex", "--clips", "3", "--out", out)
    assert other.returncode == 1
    assert "use another --out" in other.stderr
    assert "Traceback" not in other.stderr
