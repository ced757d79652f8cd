"""The `weights` command, in processes of its own, on tiny checkpoints and on damaged ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("transformers", reason="perception with weights is not installed")

from ego_ops.errors import UserError
from ego_ops.perception.learned.registry import CHECKPOINTS, checkpoint, defaults
from ego_ops.perception.learned.weights import Weights
from tests import tiny_models
from workflows import cli

DEPTH = CHECKPOINTS[tiny_models.METRIC]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(made, tmp_path / "weights"))


def here(capsys: pytest.CaptureFixture[str], *words: str) -> subprocess.CompletedProcess[str]:
    """`egoscaler weights` in this process, for what does not ask the hub or its cache."""
    code = cli.main(["weights", *words])
    return subprocess.CompletedProcess(words, code, *capsys.readouterr())


def egoscaler(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in one of its own, with a hub that does not answer unless `environment` names one:
    the hub's client reads its environment when it is imported."""
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/nonexistent"}
    return subprocess.run(
        [sys.executable, "-m", "workflows.cli", "weights", *words],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **nobody, **environment},
    )  # fmt: skip


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_the_list_says_size_licence_and_place(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = here(capsys, "--list", "--weights", str(folder))
    assert done.returncode == 0, done.stderr
    lines = {one.name: line for one in CHECKPOINTS.values() for line in done.stdout.splitlines()
             if f" {one.name} " in line}  # fmt: skip
    assert len(lines) == len(CHECKPOINTS)
    assert all(one.licence in lines[one.name] for one in CHECKPOINTS.values())
    assert lines[DEPTH.name].split() == [
        "*", DEPTH.name, "99", "MB", "Apache-2.0", str(folder / DEPTH.name)
    ]  # fmt: skip
    assert lines["cotracker3"].split() == ["cotracker3", "102", "MB", "CC-BY-NC-4.0", "missing"]


def test_what_is_used_by_default_may_be_used_by_everyone() -> None:
    assert {one.licence for one in defaults()} == {"Apache-2.0"}
    assert {one.purpose for one in defaults()} == {"detect", "segment", "depth"}
    assert all("NC" in one.licence for name, one in CHECKPOINTS.items() if "Large-hf" in name)


def test_whole_checkpoints_are_found_whole(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = here(capsys, "--check", "--weights", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok: ") == 3


def test_a_check_names_everything_that_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / tiny_models.VIDEO)
    (folder / DEPTH.name / "model.safetensors").unlink()
    done = here(capsys, "--check", "--weights", str(folder))
    line = only_line(done)
    assert "no weights of facebook/sam2.1-hiera-base-plus" in line
    assert f"looked in {folder / tiny_models.VIDEO}" in line
    assert f"egoscaler weights --fetch --weights {folder}" in line
    assert f"weights of {DEPTH.repo} lack model.safetensors" in done.stdout
    assert "ok: IDEA-Research/grounding-dino-tiny" in done.stdout


@pytest.mark.parametrize("damage", ["cut", "grown", "empty", "text", "config", "kind", "pth"])
def test_a_damaged_file_is_found_without_loading_it(damage: str, folder: Path) -> None:
    tensors, config = (folder / DEPTH.name / name for name in ("model.safetensors", "config.json"))
    one, broken = DEPTH, tensors
    if damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif damage == "grown":
        tensors.write_bytes(tensors.read_bytes() + b"\0")
    elif damage == "empty":
        tensors.write_bytes(b"")
    elif damage == "text":
        tensors.write_text("version https://git-lfs.github.com/spec/v1\nsize 99200000\n")
    elif damage == "config":
        broken = config
        config.write_text(config.read_text()[:100])
    elif damage == "kind":
        broken = config
        config.write_text(json.dumps({"model_type": "abacus"}))
    else:
        one = CHECKPOINTS["cotracker3"]
        broken = folder / one.name / one.files[0]
        broken.parent.mkdir()
        broken.write_text("<html>Not found</html>")
    Weights(str(folder)).find(one)  # which opens nothing
    with pytest.raises(UserError, match="damaged") as caught:
        Weights(str(folder)).check(one)
    assert str(caught.value).startswith(f"{broken}: damaged (")
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_one_line_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean sam-vit-huge?" in only_line(
        here(capsys, "--check", "--names", "sam-vit-hug")
    )
    with pytest.raises(UserError, match="no weights 'sam-vit-base' to depth with"):
        checkpoint("sam-vit-base", "depth")


def test_the_hubs_cache_is_looked_in(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    repo = home / "hub" / f"models--{DEPTH.repo.replace('/', '--')}"
    commit = "0123456789" * 4
    shutil.copytree(folder / DEPTH.name, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    done = egoscaler("--list", HF_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert str(repo / "snapshots" / commit) in done.stdout
    assert "the hub's cache" in only_line(egoscaler("--check", HF_HOME=str(home)))


def test_without_a_hub_a_fetch_ends_in_one_line(tmp_path: Path) -> None:
    line = only_line(egoscaler("--fetch", "--weights", str(tmp_path), HF_HOME=str(tmp_path)))
    assert line.startswith("egoscaler: IDEA-Research/grounding-dino-tiny cannot be fetched (")
    assert "copy a folder of weights there and name it" in line


def test_a_hub_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as silent:  # as behind a firewall
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        begun = time.monotonic()
        with pytest.raises(UserError, match=r"cannot be fetched \(ReadTimeout: .*with --weights$"):
            Weights(str(tmp_path), patience_s=0.5).fetch(DEPTH)
    assert time.monotonic() - begun < 10


def test_what_is_there_is_not_asked_of_the_hub(folder: Path) -> None:
    done = egoscaler("--fetch", "--weights", str(folder))  # whose hub would refuse
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" -> ") == 3


def test_advice_for_a_checkpoint_that_is_no_default_names_it(folder: Path) -> None:
    with pytest.raises(UserError, match="weights --fetch --names cotracker3 --weights "):
        Weights(str(folder)).find(CHECKPOINTS["cotracker3"])
    with pytest.raises(UserError, match="weights --fetch --weights "):
        Weights(str(folder / "none")).find(DEPTH)


COMMIT = "0123456789" * 4


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download asks for: a commit's files, and each of them."""

    root: Path

    def do_GET(self) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and "tree" in parts:
            files = [self.entry(path) for path in sorted((self.root / parts[3]).iterdir())]
            self.reply(json.dumps(files).encode())
        elif parts[:2] == ["api", "models"]:
            self.reply(json.dumps({"id": "/".join(parts[2:4]), "sha": COMMIT}).encode())
        elif "resolve" in parts:
            path = self.root / parts[1] / parts[4]
            self.reply(path.read_bytes(), ETag=self.entry(path)["oid"])
        else:
            self.send_error(404)

    do_HEAD = do_GET

    @staticmethod
    def entry(path: Path) -> dict:
        digest = hashlib.sha1(path.read_bytes()).hexdigest()
        return {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": digest}

    def reply(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Not to the tests' output."""


@pytest.fixture
def hub(made: Path, tmp_path: Path) -> Iterator[str]:
    """A hub with the tiny checkpoints, one of which has a large file that nobody needs."""
    root = Path(shutil.copytree(made, tmp_path / "hub"))
    (root / DEPTH.name / "pytorch_model.bin").write_bytes(bytes(1000))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Hub,), {"root": root}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_fetch_brings_what_is_needed_and_nothing_else(hub: str, tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    environment = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home")}
    done = egoscaler("--fetch", "--check", "--weights", str(folder), **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok: ") == 3
    assert f"{DEPTH.repo} (99 MB, Apache-2.0) -> {folder / DEPTH.name}" in done.stdout
    assert {path.name for path in (folder / DEPTH.name).glob("*.*")} - {".cache"} == set(
        DEPTH.files
    )
