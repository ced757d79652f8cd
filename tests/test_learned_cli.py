"""`extract --perception learned` as a user meets it: five corpora in their published formats, tiny
networks from files, the command on Ray; and what it says where weights are missing or broken.

The networks are random, so no trajectory is right: every clip must end in a row that says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="perception with weights is not installed")
if importlib.util.find_spec("mujoco") is None:  # importing it would settle how it renders
    pytest.skip("the extra `demo` is not installed", allow_module_level=True)

from ego_ops import manifest, shards
from ego_ops.corpora import egodex
from ego_ops.curation import selected
from ego_ops.errors import UserError
from ego_ops.perception.learned.depth import DepthNetwork
from ego_ops.perception.learned.detect import Detector
from ego_ops.perception.learned.device import Device
from ego_ops.perception.learned.segment import Prompts
from ego_ops.perception.learned.segment_video import SamVideo
from tests import egodex_files, rendered_corpora, tiny_models
from workflows import cli

ENDS = {
    "no_object", "too_few_tracks", "nothing_moves", "lost_track", "uncertain_pose", "poor_fit",
    "implausible_motion", "implausible_depth",
}  # fmt: skip
"""Reasons that come of what the networks drew: behind decoding, poses and location."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write(tmp_path_factory.mktemp("weights"), *tiny_models.MAKERS)


@pytest.fixture
def broken(weights: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(weights, tmp_path / "weights"))


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A corpus of one clip in each format, by name."""
    made = {
        name: rendered_corpora.corpus(tmp_path_factory, name) for name in rendered_corpora.SCALE
    }
    return made | {"egodex": rendered_corpora.egodex(tmp_path_factory, (480, 270))}


@pytest.mark.usefixtures("ray_cluster")
def test_five_corpora_from_their_files_to_rows(
    corpora: dict[str, Path], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, out = str(tmp_path / "manifest"), str(tmp_path / "shards")
    for name, root in corpora.items():
        assert cli.main(["index", "--corpus", name, "--root", str(root), "--out", where]) == 0
    extract = ["extract", "--perception", "learned", "--manifest", where, "--out", out,
               "--workers", "2", "--quiet", "--option", f"weights={weights}", "tracker=lk",
               "fps=10"]  # fmt: skip
    assert cli.main(extract) == 0
    rows = [row for table in shards.read(out, None, None) for row in table.to_pylist()]
    assert sorted(row["corpus"] for row in rows) == sorted(corpora)
    for row in rows:
        assert row["status"] in ("ok", "rejected"), row["detail"]
        assert row["status"] == "ok" or row["reason"] in ENDS, row["detail"]
    capsys.readouterr()
    assert cli.main(extract) == 0  # the same command again
    assert "nothing left to do: all 5 clips are committed" in capsys.readouterr().out

    assert cli.main(["status", "--out", out, "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert {name: one["clips"] for name, one in state["corpora"].items()} == dict.fromkeys(
        corpora, 1
    )
    page, selection = tmp_path / "report.html", tmp_path / "selection.parquet"
    assert cli.main(["report", "--shards", out, "--out", str(page)]) == 0
    assert all(name in page.read_text() for name in corpora)
    assert cli.main(["curate", "--shards", out, "--out", str(selection)]) == 0
    good = {row["clip_id"] for row in rows if row["status"] == "ok"}
    chosen = [row for table in selected(str(selection)).read() for row in table.to_pylist()]
    assert {row["clip_id"] for row in chosen} <= good


def one_clip(tmp_path: Path) -> list[str]:
    """A manifest of one clip, as arguments of `extract`."""
    egodex_files.recording(tmp_path / "corpus", frames=60)
    clips = list(egodex.index(str(tmp_path / "corpus")))
    manifest.write(str(tmp_path / "manifest"), clips, 1)
    return ["extract", "--perception", "learned", "--manifest", str(tmp_path / "manifest"),
            "--out", str(tmp_path / "shards"), "--workers", "1", "--quiet"]  # fmt: skip


def test_without_weights_the_command_ends_at_once_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workflows.cli", *one_clip(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60,  # Ray is not even started
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "egoscaler: no weights of IDEA-Research/grounding-dino-tiny: looked in the hub's cache "
        f"{tmp_path}; run: egoscaler weights --fetch\n"
    )
    assert not (tmp_path / "shards").exists()


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.slow
def test_a_damaged_file_stops_the_job_in_one_line_and_costs_no_clip(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract = [*one_clip(tmp_path), "--option", f"weights={broken}", "fps=10", "tracker=lk"]
    file = broken / tiny_models.DETECTOR / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    assert cli.main(extract) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert f"{file.parent}: cannot be loaded as GroundingDinoForObjectDetection" in said
    assert not [row for table in shards.read(str(tmp_path / "shards"), None, None) for row in table]
    file.write_bytes(whole)
    assert cli.main(extract) == 0
    assert "1 done, 0 left" in capsys.readouterr().out


IMAGES = np.random.default_rng(0).integers(0, 255, (2, 60, 80, 3), np.uint8)


def detect(folder: Path) -> None:
    Detector(folder, Device("cpu")).boxes(IMAGES, ["cup"])


def draw(folder: Path) -> None:
    box = np.full((2, 4), [10.0, 10, 40, 40])
    SamVideo(folder, Device("cpu")).masks(IMAGES, Prompts(box, np.full((2, 1, 4), np.nan), 0))


def see(folder: Path) -> None:
    list(DepthNetwork(folder, Device("cpu")).maps(IMAGES))


USE = {tiny_models.DETECTOR: detect, tiny_models.VIDEO: draw, tiny_models.METRIC: see}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def text(given: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(given)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", text("")),
        ("model.safetensors", text("version https://git-lfs.github.com/spec/v1\n")),
        ("config.json", cut),
        ("config.json", text("{}")),
        ("config.json", text("[]")),
        ("config.json", text('{"model_type": "bert"}')),
    ],
)
@pytest.mark.parametrize("name", USE)
def test_broken_files_are_one_line_that_names_them(
    name: str, file: str, damage: Callable[[Path], object], broken: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    USE[name](broken / name)  # whole, it works
    shutil.move(broken / name, broken / "copy")  # a process loads a folder's network once
    damage(broken / "copy" / file)
    capfd.readouterr()
    with pytest.raises(UserError) as caught:
        USE[name](broken / "copy")
    assert str(caught.value).startswith(f"{broken / 'copy'}: cannot be loaded as ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nor a line for each tensor


@pytest.mark.parametrize("name", USE)
def test_a_checkpoint_of_another_network_is_said_to_be_one(
    name: str, broken: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for file in (broken / tiny_models.FRAMES).iterdir():
        shutil.copy(file, broken / name)
    with pytest.raises(UserError, match=r"its config\.json is of a sam, not of a "):
        USE[name](broken / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("file", "given"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "no JSON"),
        ("tokenizer_config.json", "[]"),
        ("preprocessor_config.json", "{}"),
        ("preprocessor_config.json", '{"size": "large"}'),
    ],
)
def test_broken_words_and_sizes_are_one_line(file: str, given: str, broken: Path) -> None:
    folder = broken / tiny_models.DETECTOR
    (folder / file).write_text(given)
    with pytest.raises(UserError) as caught:
        detect(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ('"timeout_s": "soon"', "timeout_s=soon: must be a number"),
        ('"timeout_s": true', "timeout_s=True: must be a number"),
        ('"timeout_s": NaN', "timeout_s=nan: must be a number"),
        ('"frames": 8.5', "frames=8.5: must be a whole number"),
        ('"model": 4', "model=4: must be text"),
        ('"price_in": "free"', "price_in=free: must be a number or null"),
    ],
)
def test_options_of_the_vision_model_are_checked_before_anything_begins(
    option: str, line: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main([*one_clip(tmp_path), "--option", f"weights={weights}", "localizer=endpoint",
                     f"endpoint={{{option}}}"])  # fmt: skip
    assert code == 1
    assert capsys.readouterr().err == f"egoscaler: vision endpoint: {line}\n"
    assert not (tmp_path / "shards").exists()
