"""S3 as the storage of everything: a real server process, real writers, real errors."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import boto3
import psutil
import pytest
import s3fs

from ego_ops import manifest, rows, shards
from ego_ops.claims import Claims
from ego_ops.clip import Clip
from ego_ops.errors import MissingFileError
from ego_ops.manifest import Manifest
from ego_ops.storage import store
from ego_ops.video import decode_window
from tests.pipelines import clips, trajectory
from tests.test_kill import stopped
from tests.video_files import frame_number, write_video

POOL = list(clips(12))
CLI = "from workflows.cli import main; raise SystemExit(main())"
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server in a process of its own, and the environment that leads there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    s3fs.S3FileSystem.clear_instance_cache()
    process.terminate()
    process.wait()


@pytest.fixture
def bucket(server, request) -> str:
    """URL of a new bucket."""
    name = f"bucket-{abs(hash(request.node.name))}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


def commit(url: str, some: list[Clip], worker: str = "", attempt: int = 1) -> None:
    made = [rows.Row(clip, attempt, trajectory(clip), worker, 0, 0) for clip in some]
    outcomes = [shards.Outcome(clip.clip_id, "ok", "", attempt, False) for clip in some]
    shards.commit(store(url), 0, rows.parquet(rows.table(made, "", "")), {"toy": outcomes}, "run")


def everything(url: str) -> dict[str, dict]:
    found = [r for t in shards.read(url, verify=True) for r in t.to_pylist()]
    assert len({row["clip_id"] for row in found}) == len(found)
    return {row["clip_id"]: row for row in found}


def test_a_folder_on_s3_is_one_like_any_other(bucket):
    where, client = store(f"{bucket}/some/folder"), boto3.client("s3")
    assert (where.names("a"), where.files("a")) == ([], {})
    with pytest.raises(FileNotFoundError):
        where.read("a/one")
    where.write("a/one", b"1")
    assert where.files("a") == {"one": 1}
    name = bucket.removeprefix("s3://")  # nothing that others do is hidden by a cache
    client.put_object(Bucket=name, Key="some/folder/a/two", Body=b"22")
    client.put_object(Bucket=name, Key="some/folder/a/one", Body=b"one")
    client.put_object(Bucket=name, Key="some/folder/a/deep/three", Body=b"333")
    assert where.files("a") == {"one": 3, "two": 2}
    assert sorted(where.names("a")) == ["deep", "one", "two"]
    assert where.read("a/one") == b"one"
    where.delete("a/one")
    where.delete("a/one")
    assert where.files("a") == {"two": 2}
    many = {f"b/{i:04d}": str(i).encode() for i in range(1100)}  # more than one page
    assert list(where.each(lambda path: where.write(path, many[path]), many)) == [None] * 1100
    assert len(where.files("b")) == 1100
    assert list(where.each(where.read, many)) == list(many.values())


def _write_over_and_over(url: str, worker: str, own: list[Clip], until: float) -> None:
    for turn in itertools.count():
        commit(url, POOL[:6], f"{worker}.{turn % 3}")
        commit(url, own, f"{worker}.own")
        if turn >= 2 and time.time() > until:
            return


def test_racing_writers_of_the_same_clips_and_of_others(bucket):
    until = time.time() + 4
    racers = [
        SPAWN.Process(target=_write_over_and_over, args=(bucket, name, own, until))
        for name, own in (("a", POOL[6:9]), ("b", POOL[9:]))
    ]
    for racer in racers:
        racer.start()
    looks = 0
    while any(racer.is_alive() for racer in racers):
        found = everything(bucket).keys()
        looks += bool(found)
        for lot in (POOL[:6], POOL[6:9], POOL[9:]):  # all of a part, or nothing of it
            assert len(found & {clip.clip_id for clip in lot}) in (0, len(lot))
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert looks
    assert everything(bucket).keys() == {clip.clip_id for clip in POOL}
    assert len(store(bucket).files("bucket=00000")) == 8


def _upload(url: str, size: int) -> None:
    big = rows.Row(POOL[1], 1, trajectory(POOL[1]), "", 0, 0)
    big.outcome.frames[0] = b"\xff\xd8" + os.urandom(size)
    outcome = shards.Outcome(POOL[1].clip_id, "ok", "", 1, False)
    data = rows.parquet(rows.table([big], "", ""))
    shards.commit(store(url), 0, data, {"toy": [outcome]}, "run")


@pytest.mark.parametrize("megabytes", [60, 160])
def test_an_upload_that_is_killed_midway_never_counts(bucket, megabytes):
    commit(bucket, POOL[:1])
    name, client = bucket.removeprefix("s3://"), boto3.client("s3")
    writer = SPAWN.Process(target=_upload, args=(bucket, megabytes * 2**20))
    writer.start()
    process, end = psutil.Process(writer.pid), time.monotonic() + 60
    while True:
        assert writer.is_alive()
        assert time.monotonic() < end
        if megabytes < 100:  # one PUT: some of it has gone out
            with contextlib.suppress(psutil.Error):
                if process.net_connections("tcp") and process.memory_info().rss > 3 * 60 * 2**20:
                    break
        elif client.list_multipart_uploads(Bucket=name).get("Uploads"):
            break
        time.sleep(0.002)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert everything(bucket).keys() == {POOL[0].clip_id}
    assert len(store(bucket).names("commits/bucket=00000")) == 1
    assert bool(client.list_multipart_uploads(Bucket=name).get("Uploads")) == (megabytes > 100)
    commit(bucket, POOL[1:3])
    assert everything(bucket).keys() == {clip.clip_id for clip in POOL[:3]}


def test_a_claim_is_written_at_once_or_after_a_second(bucket):
    where = store(bucket)

    def content() -> list[bytes]:
        return [where.read(f"claims/bucket=00000/{n}") for n in where.names("claims/bucket=00000")]

    first, last = "0" * 16, "f" * 16
    with Claims(where, 0, first, last) as claims:
        claims.enter("perceive", "1" * 16)
        claims.enter("perceive", "2" * 16)
        assert content() == [b"perceive " + b"1" * 16]
        end = time.monotonic() + 20
        while content() != [b"perceive " + b"2" * 16]:
            assert time.monotonic() < end
    assert content() == []
    where.write(f"claims/bucket=00000/{first}-{last}-dead", b"perceive " + b"1" * 16)
    with Claims(where, 0, first, last) as claims:  # whose predecessor died: no more patience
        assert claims.deaths("perceive", "1" * 16) == 1
        for digit in b"12":
            claims.enter("perceive", chr(digit) * 16)
            assert b"perceive " + bytes([digit]) * 16 in content()
        claims.forget({"1" * 16})
    assert content() == []


def test_a_window_of_a_video_on_s3(bucket, tmp_path):
    path = write_video(tmp_path / "v.mp4", [k / 30 for k in range(90)])
    store(bucket).write("videos/v.mp4", path.read_bytes())
    found = decode_window(f"{bucket}/videos/v.mp4", 1.0, 2.0, fps=30)
    assert [frame_number(image) for image in found.images] == list(range(30, 60))
    with pytest.raises(MissingFileError):
        decode_window(f"{bucket}/videos/w.mp4", 1.0, 2.0)


def egoscaler(*words: str, **environment: str) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *words], env={**os.environ, **environment}, **pipes
    )


def test_extract_to_s3_stopped_and_resumed(bucket, tmp_path):
    verbs = ("fine",) * 28 + ("reject", "segfault")
    manifest.write(f"{bucket}/manifest", clips(30, verbs))
    (tmp_path / "state").mkdir()
    command = [
        *("extract", "--manifest", f"{bucket}/manifest", "--out", f"{bucket}/shards"),
        *("--perception", "tests.pipelines:Scripted", "--workers", "2", "--quiet"),
        *("--option", f"state={tmp_path / 'state'}", "seconds=0.05"),
        *("--clips-per-shard", "2", "--max-unexpected", "1"),
    ]
    first, where = egoscaler(*command), store(f"{bucket}/shards")
    while not where.names("commits"):
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.2)
    assert "what is committed in s3://" in stopped(first, signal.SIGTERM)
    kept = {
        row["clip_id"] for t in shards.read(where.url, ["clip_id"], None) for row in t.to_pylist()
    }
    assert 0 < len(kept) < 30
    second = egoscaler(*command)
    text, _ = second.communicate(timeout=300)
    assert second.returncode == 0, text
    assert "30 done, 0 left" in text
    status = egoscaler("status", "--out", where.url, "--json", "--verify")
    state = json.loads(status.communicate(timeout=60)[0])
    assert state["corpora"]["toy"] == {
        **{"clips": 30, "ok": 28, "rejected": 1, "failed": 1, "missing": 0}
    }
    assert state["failed"] == {"poison": 1}
    listed = {clip.clip_id: clip.verb for clip in Manifest(f"{bucket}/manifest")}
    found = {row["clip_id"] for t in shards.read(where.url, None, None) for row in t.to_pylist()}
    assert found == listed.keys()
    begun = Counter(path.name for path in (tmp_path / "state").iterdir())
    assert begun.keys() == listed.keys()
    assert not any(where.files(f"claims/{folder}") for folder in where.names("claims"))
    third = egoscaler(*command)
    assert "nothing left to do: all 30 clips" in third.communicate(timeout=60)[0]


class _Refusing(http.server.BaseHTTPRequestHandler):
    """Answers every request with 403 AccessDenied."""

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _refuse

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_address[1]}"
        http_server.shutdown()


@pytest.mark.usefixtures("server")
def test_what_s3_refuses_is_one_line(bucket, refusing, tmp_path):
    write_to = ("index", "--corpus", "egodex", "--root", str(tmp_path), "--out")
    nobody = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    nobody |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    cases = {
        "bucket does not exist": egoscaler("status", "--out", "s3://no-such-bucket/shards"),
        "no shards there": egoscaler("status", "--out", f"{bucket}/nothing"),
        "Could not connect": egoscaler(
            "status", "--out", f"{bucket}/s", AWS_ENDPOINT_URL="http://127.0.0.1:9"
        ),
        "Unable to locate credentials": egoscaler("status", "--out", f"{bucket}/s", **nobody),
        "Forbidden": egoscaler("status", "--out", f"{bucket}/s", AWS_ENDPOINT_URL=refusing),
        "cannot read s3://": egoscaler(*write_to, f"{bucket}/m", AWS_ENDPOINT_URL=refusing),
    }
    for words, process in cases.items():
        text, _ = process.communicate(timeout=120)
        assert process.returncode == 1
        lines = text.strip().splitlines()
        assert words in lines[-1]
        assert lines[-1].startswith("egoscaler: ")
        assert "Traceback" not in text
