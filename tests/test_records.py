"""Snapshots of commit records save time, and change no answer."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops import records, shards
from ego_ops.bucket import read_bucket, view
from ego_ops.storage import store
from tests.pipelines import clips

POOL = list(clips(16))
PROCESSES = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def snapshots_for_any_number(monkeypatch):
    monkeypatch.setattr(records, "ENOUGH", 0)


def commit(url: str, lot: list[tuple[int, int, str, bool]], run: str = "run") -> None:
    """Commit clips of the pool, each with its attempt, status and whether it is due again."""
    outcomes = [
        shards.Outcome(POOL[i].clip_id, status, "" if status == "ok" else "why", attempt, again)
        for i, attempt, status, again in lot
    ]
    by_corpus = {"toy": outcomes[:2], "other": outcomes[2:]}
    shards.commit(store(url), 0, os.urandom(20), by_corpus, run)


def snapshot(url: str) -> int:
    """Take one. Returns how many records it was the first to hold."""
    found = read_bucket(store(url), 0).records
    records.save(store(url), 0, found)
    return found.loose


def without(url: str) -> shards.View:
    store(url).delete("snapshots/bucket=00000.arrow")
    return view(store(url), 0)


outcomes = st.tuples(
    st.integers(0, 15),
    st.integers(1, 3),
    st.sampled_from(["ok", "rejected", "failed"]),
    st.booleans(),
)
lots = st.lists(outcomes, min_size=1, max_size=8, unique_by=lambda one: one[0])
steps = st.lists(st.one_of(lots, st.just("snapshot"), st.integers(0, 9)), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(steps)
def test_the_view_is_the_same_with_a_snapshot_of_any_time(steps):
    url = f"memory://records-{uuid.uuid4().hex}"
    where = store(url)
    for number, step in enumerate(steps):
        if step == "snapshot":
            snapshot(url)
        elif isinstance(step, int):  # someone deletes a part, which undoes its commit
            parts = sorted(where.names("bucket=00000"))
            if step < len(parts):
                where.delete(f"bucket=00000/{parts[step]}")
        else:
            commit(url, step, f"run-{number}")
    assert view(where, 0) == without(url)


def test_a_snapshot_is_read_in_place_of_its_records(tmp_path):
    url = str(tmp_path)
    for i in range(5):
        commit(url, [(i, 1, "ok", False)])
    assert snapshot(url) == 5
    commit(url, [(5, 1, "ok", False), (0, 2, "failed", True)])
    assert read_bucket(store(url), 0).records.loose == 1
    assert len(view(store(url), 0)) == 6
    assert snapshot(url) == 1
    assert read_bucket(store(url), 0).records.loose == 0
    # What is no longer in `commits` does not count, whatever the snapshot holds.
    for path in (tmp_path / "commits").rglob("*.json"):
        path.unlink()
    assert view(store(url), 0) == {}


@pytest.mark.parametrize("damage", ["emptied", "cut", "garbled", "another"])
def test_a_damaged_snapshot_is_not_needed(tmp_path, caplog, damage):
    url, path = str(tmp_path), tmp_path / "snapshots" / "bucket=00000.arrow"
    for i in range(5):
        commit(url, [(i, 1, "ok", False)])
    expected = view(store(url), 0)
    snapshot(url)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "emptied": b"",
            "cut": data[:middle],
            "garbled": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "another": b'{"not": "arrow"}',
        }[damage]
    )
    with caplog.at_level(logging.WARNING):
        assert view(store(url), 0) == expected
    assert "not needed" in caplog.text


def _work(url: str, number: int) -> None:
    for turn in itertools.count():
        i = (number * 4 + turn) % 16
        commit(url, [(i, 1, "ok", False)])
        snapshot(url)


def test_writers_and_snapshots_that_race_and_are_killed(tmp_path, caplog):
    url, seen = str(tmp_path), set()
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            racers = [PROCESSES.Process(target=_work, args=(url, n)) for n in range(3)]
            for racer in racers:
                racer.start()
            end = time.monotonic() + 0.5
            while time.monotonic() < end:  # what was once committed stays so
                now = view(store(url), 0).keys()
                assert now >= seen
                seen = now
            for racer in racers:
                racer.kill()
            for racer in racers:
                racer.join()
    assert view(store(url), 0) == without(url)
    assert len(list(Path(url).glob("commits/*/*.json"))) > 16
    assert caplog.text == ""
