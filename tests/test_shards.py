"""The commit protocol: what counts, whatever happened to those who wrote it."""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import os
import resource
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops import rows, shards
from ego_ops.bucket import read_bucket, view
from ego_ops.clip import Clip
from ego_ops.errors import UserError
from ego_ops.storage import LocalStore, store
from ego_ops.verdict import Verdict
from tests.pipelines import clips, trajectory

POOL = list(clips(12))
RANK = {"failed": 0, "rejected": 1, "ok": 2}


def commit(
    url: str, results: list[tuple[Clip, int, str]], bucket: int = 0, worker: str = ""
) -> None:
    """Commit clips with the given attempts and endings, `ok`, `rejected` or `failed`."""
    made, outcomes = [], []
    for clip, attempt, status in sorted(results, key=lambda one: one[0].clip_id):
        ending = trajectory(clip) if status == "ok" else Verdict(status, "why", "because")
        made.append(rows.Row(clip, attempt, ending, worker, 0, 0))
        label = "" if status == "ok" else "why"
        outcomes.append(shards.Outcome(clip.clip_id, status, label, attempt, False))
    data = rows.parquet(rows.table(made, "", ""))
    shards.commit(store(url), bucket, data, {"toy": outcomes}, "run")


def everything(url: str, **options) -> list[dict]:
    return [
        row
        for table in shards.read(url, ["clip_id", "status", "attempt", "worker"], None, **options)
        for row in table.to_pylist()
    ]


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("bucket=*/*.parquet"))


def test_what_is_committed_can_be_read(tmp_path):
    url = str(tmp_path)
    assert list(shards.committed(url)) == []
    commit(url, [(clip, 1, "ok") for clip in POOL[:5]], bucket=3)
    commit(url, [(POOL[5], 1, "failed"), (POOL[6], 1, "ok")], bucket=4)
    ids = {clip.clip_id for clip in POOL[:5]} | {POOL[6].clip_id}
    assert {row["clip_id"] for t in shards.read(url) for row in t.to_pylist()} == ids
    assert [row["clip_id"] for t in shards.read(url, status="failed") for row in t.to_pylist()] == [
        POOL[5].clip_id
    ]
    assert sum(len(t) for t in shards.read(url, status=None, verify=True)) == 7
    (only,) = shards.read(url, ["narration", "fps"], "failed")
    assert only.to_pylist() == [{"narration": "does thing 5", "fps": None}]
    assert shards.damaged(url) == []


def test_columns_that_are_left_out_are_not_read(tmp_path, monkeypatch):
    big = rows.Row(POOL[0], 1, trajectory(POOL[0]), "", 0, 0)
    big.outcome.frames[:] = [b"\xff\xd8" + os.urandom(1_000_000) for _ in big.outcome.frames]
    data = rows.parquet(rows.table([big], "", ""))
    outcome = shards.Outcome(POOL[0].clip_id, "ok", "", 1, False)
    shards.commit(store(str(tmp_path)), 0, data, {"toy": [outcome]}, "run")
    taken = []

    class Counting:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def read(self, size=-1):
            found = self._file.read(size)
            taken.append(len(found))
            return found

    plain = LocalStore.open
    monkeypatch.setattr(LocalStore, "open", lambda self, path: Counting(plain(self, path)))
    (table,) = shards.read(str(tmp_path), ["position", "action"])
    assert len(table) == 1
    assert 0 < sum(taken) < 100_000 < len(data)


results = st.tuples(
    st.sampled_from(POOL), st.integers(1, 3), st.sampled_from(["ok", "rejected", "failed"])
)
commits = st.lists(
    st.lists(results, min_size=1, max_size=8, unique_by=lambda one: one[0].clip_id),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(commits, st.randoms())
def test_the_committed_view_is_one_row_a_clip_in_whatever_order_it_came(lots, random):
    urls = [f"memory://shards-{uuid.uuid4().hex}" for _ in range(2)]
    numbered = list(enumerate(lots))
    for url in urls:
        for number, lot in numbered:
            commit(url, lot, worker=str(number))
        random.shuffle(numbered)
    best: dict[str, tuple[int, int]] = {}
    for clip, attempt, status in itertools.chain.from_iterable(lots):
        best[clip.clip_id] = max(best.get(clip.clip_id, (0, 0)), (attempt, RANK[status]))
    found = everything(urls[0])
    assert len(found) == len(best)
    assert {r["clip_id"]: (r["attempt"], RANK[r["status"]]) for r in found} == best
    assert sorted(found, key=str) == sorted(everything(urls[1]), key=str)


@settings(max_examples=60, deadline=None)
@given(commits, st.tuples(st.sampled_from(POOL), st.sampled_from(POOL)))
def test_an_interval_of_the_view_is_that_of_the_whole(lots, ends):
    where = store(f"memory://shards-{uuid.uuid4().hex}")
    for lot in lots:
        commit(where.url, lot)
    first, last = sorted(clip.clip_id for clip in ends)
    whole, some = view(where, 0), view(where, 0, first, last)
    inside = {i: entry for i, entry in whole.items() if first <= i <= last}
    assert {i: entry for i, entry in some.items() if first <= i <= last} == inside


def record(ids: str, run: str, label: str = "", again: bool = False) -> dict:
    outcomes = [[i, "failed" if label else "ok", label, 1, again] for i in ids]
    return {
        "file": f"bucket=00000/{ids}",
        "bytes": 0,
        "run": run,
        "time": 0,
        "clips": {"t": outcomes},
    }


def test_what_is_left(tmp_path):
    where = store(str(tmp_path))

    def put(name: str, content: dict) -> None:
        where.write(content["file"], b"")
        where.write(
            f"commits/bucket=00000/{name * 16}-{name * 16}-.json", json.dumps(content).encode()
        )

    def left(retry: set[str]) -> str:
        ids = pa.array(list("abcde"))
        return "".join(read_bucket(where, 0).left(ids, retry, "now").to_pylist())

    assert left({"missing_file"}) == "abcde"
    put("1", record("a", "before"))
    put("2", record("c", "before", "io_timeout", again=True))
    put("3", record("d", "before", "missing_file"))
    assert left(set()) == "bce"
    assert left({"missing_file"}) == "bcde"
    put("3", record("d", "now", "missing_file"))  # a run opens a clip again only once
    assert left({"missing_file"}) == "bce"


@pytest.mark.parametrize("cut", ["shortened", "emptied", "removed"])
def test_a_torn_part_counts_as_never_committed(tmp_path, caplog, cut):
    commit(str(tmp_path), [(POOL[0], 1, "ok"), (POOL[1], 1, "ok")])
    before = set(parts(tmp_path))
    commit(str(tmp_path), [(POOL[2], 1, "ok"), (POOL[1], 2, "failed")])
    (torn,) = set(parts(tmp_path)) - before
    if cut == "removed":
        torn.unlink()
    else:
        os.truncate(torn, torn.stat().st_size - 100 if cut == "shortened" else 0)
    with caplog.at_level(logging.WARNING):
        found = everything(str(tmp_path))
    assert {row["clip_id"]: row["attempt"] for row in found} == {
        POOL[0].clip_id: 1,
        POOL[1].clip_id: 1,
    }
    assert "its clips are redone" in caplog.text
    done = read_bucket(store(str(tmp_path)), 0)
    assert done.left(pa.array([POOL[2].clip_id]), (), "").to_pylist() == [POOL[2].clip_id]
    commit(str(tmp_path), [(POOL[2], 1, "ok"), (POOL[1], 2, "failed")], worker="again")
    assert len(everything(str(tmp_path))) == 3


def test_a_part_whose_content_changed_is_found(tmp_path):
    commit(str(tmp_path), [(POOL[0], 1, "ok")])
    (part,) = parts(tmp_path)
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert shards.damaged(str(tmp_path)) == [str(part.relative_to(tmp_path))]
    with pytest.raises(UserError, match="delete it and run `extract` again"):
        everything(str(tmp_path), verify=True)


def test_what_was_never_committed_does_not_count(tmp_path, caplog):
    commit(str(tmp_path), [(POOL[0], 1, "ok")])
    commit(str(tmp_path), [(POOL[1], 1, "ok")])
    records = sorted((tmp_path / "commits").rglob("*.json"))
    kept = records[0].name[:16]
    records[1].unlink()
    assert [row["clip_id"] for row in everything(str(tmp_path))] == [kept]
    records[1].write_bytes(records[0].read_bytes()[:40])
    assert [row["clip_id"] for row in everything(str(tmp_path))] == [kept]
    assert "not a commit record" in caplog.text


def _write_over_and_over(url: str, worker: str, until: float) -> None:
    for turn in itertools.count():
        commit(url, [(clip, 1, "ok") for clip in POOL], worker=f"{worker}.{turn % 3}")
        if turn >= 3 and time.time() > until:
            return


def test_racing_writers_of_the_same_clips(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    until = time.time() + 4
    racers = [
        spawn.Process(target=_write_over_and_over, args=(str(tmp_path), name, until))
        for name in ("a", "b")
    ]
    for racer in racers:
        racer.start()
    looks = 0
    while any(racer.is_alive() for racer in racers):
        found = everything(str(tmp_path), verify=True)
        assert len(found) in (0, len(POOL))
        looks += bool(found)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert looks
    assert len(parts(tmp_path)) == 6
    assert {row["worker"] for row in everything(str(tmp_path))} <= {
        "a.0",
        "a.1",
        "a.2",
        "b.0",
        "b.1",
        "b.2",
    }
    for part in parts(tmp_path):
        assert pq.read_table(part).num_rows == len(POOL)


def _commit_for_ever(url: str) -> None:
    for turn in itertools.count():
        commit(url, [(clip, 2, "ok") for clip in POOL[1:]], worker=str(turn))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot mount a small tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk):
    url = str(small_disk)
    commit(url, [(POOL[0], 1, "ok")])
    (small_disk / "ballast").write_bytes(bytes(170_000))
    with pytest.raises(UserError, match="No space left on device; nothing committed is lost"):
        _commit_for_ever(url)
    assert list((small_disk / "_tmp").iterdir()) == []
    before = everything(url, verify=True)
    assert POOL[0].clip_id in {row["clip_id"] for row in before}
    (small_disk / "ballast").unlink()
    commit(url, [(clip, 3, "ok") for clip in POOL[1:]])
    assert len(everything(url, verify=True)) == len(POOL)


def test_a_file_size_limit_is_a_full_disk_too(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*File too large"):
            commit(str(tmp_path), [(POOL[0], 1, "ok")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert everything(str(tmp_path)) == []
    assert list((tmp_path / "_tmp").iterdir()) == []


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*Not a directory"):
        commit(str(tmp_path / "file"), [(POOL[0], 1, "ok")])


def test_leftovers_of_killed_writers_are_removed_when_old(tmp_path):
    where = store(str(tmp_path))
    where.write("a", b"1")
    for name, age in (("old", 7200), ("new", 60)):
        path = tmp_path / "_tmp" / name
        path.write_bytes(b"half a file")
        os.utime(path, (time.time() - age, time.time() - age))
    where.clean()
    assert [path.name for path in (tmp_path / "_tmp").iterdir()] == ["new"]
