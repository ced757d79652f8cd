"""Results of episodes: nothing is lost, nothing is double, whoever writes and dies at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops.errors import UserError
from ego_ops.storage import store
from sim_eval import results
from sim_eval.episode import ENVIRONMENT_ERROR, ERRORS, FAILURE, JUDGED, POLICY_ERROR, SUCCESS
from tests.eval_rows import read, result

PROCESSES = multiprocessing.get_context("fork")
OUTCOMES = (*JUDGED, *ERRORS)


def parts(folder: str | Path) -> list[Path]:
    return sorted(Path(folder).glob("episodes/*.parquet"))


one = st.builds(
    lambda seed, outcome, when: result(seed, outcome, time=1.8e9 + when),
    st.integers(0, 7), st.sampled_from(OUTCOMES), st.integers(0, 3),
)  # fmt: skip
lots = st.lists(st.lists(one, min_size=1, max_size=4), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(lots, st.sets(st.integers(0, 5)), st.randoms(use_true_random=False))
def test_view_is_the_same_in_any_order_and_however_merged(lots, merges, shuffle):
    """Against a dict: a judged one first, the first of them; else the last error."""
    urls = [f"memory://{uuid.uuid4().hex}" for _ in range(2)]
    for i, lot in enumerate(lots):
        results.commit(urls[0], lot)
        if i in merges:
            results.compact(urls[0])
    for lot in shuffle.sample(lots, len(lots)):
        results.commit(urls[1], lot)
    everything = [row for lot in lots for row in lot]
    found = {row.episode: row for row in read(urls[0])}
    for episode in {row.episode for row in everything}:
        same = [row for row in everything if row.episode == episode]
        judged = [row.time for row in same if row.outcome in JUDGED]
        when = min(judged) if judged else max(row.time for row in same)
        assert (found[episode].outcome in JUDGED) == bool(judged)
        assert found[episode] in same
        assert found[episode].time == when
    assert found.keys() == {row.episode for row in everything}
    assert results.table(urls[0]).equals(results.table(urls[1]))
    assert results.finished(urls[0]) == {e for e, row in found.items() if row.outcome in JUDGED}


def test_nothing_there_is_no_result(tmp_path):
    assert read(str(tmp_path / "none")) == []
    assert results.finished(str(tmp_path / "none")) == set()
    results.compact(str(tmp_path / "none"))
    results.commit(str(tmp_path / "none"), [])
    assert not (tmp_path / "none").exists()


def test_what_is_committed_comes_back(tmp_path):
    rows = [result(1), result(2, POLICY_ERROR, ensemble=0.01, error="naïve „quotes“\tand <tags>")]
    results.commit(str(tmp_path), rows)
    assert sorted(read(str(tmp_path)), key=lambda row: row.seed) == rows


def test_an_error_is_tried_again_and_the_judgement_stays(tmp_path):
    url = str(tmp_path)
    results.commit(url, [result(1, ENVIRONMENT_ERROR, time=1.0)])
    assert results.finished(url) == set()
    results.commit(url, [result(1, FAILURE, time=2.0)])
    results.commit(url, [result(1, ENVIRONMENT_ERROR, time=3.0)])
    assert [row.outcome for row in read(url)] == [FAILURE]
    assert results.finished(url) == {result(1).episode}


def test_files_stay_few():
    """One row a commit, 300 times, with merging as it comes."""
    url = f"memory://{uuid.uuid4().hex}"
    for seed in range(300):
        results.commit(url, [result(seed)])
    assert sorted(row.seed for row in read(url)) == list(range(300))
    assert len(store(url).names("episodes")) < results.MANY + 5
    results.compact(url)
    results.compact(url)
    assert sorted(row.seed for row in read(url)) == list(range(300))


def test_a_merged_file_is_not_removed_for_one_that_says_no_more(tmp_path):
    """Else two that merge at a time could each remove what the other kept."""
    results.commit(str(tmp_path), [result(seed) for seed in range(3)])
    results.commit(str(tmp_path), [result(seed) for seed in range(2, 4)])
    results.compact(str(tmp_path))
    merged = parts(tmp_path)
    results.commit(str(tmp_path), [result(0, time=1.0)])
    results.compact(str(tmp_path))
    assert set(merged) < set(parts(tmp_path))
    results.commit(str(tmp_path), [result(4)])
    results.compact(str(tmp_path))
    assert len(parts(tmp_path)) == 1
    assert [row.time for row in read(str(tmp_path)) if row.seed == 0] == [1.0]


def _write(url: str, name: int, said: str, start: float) -> None:
    """Commit without end; each seed is said before, and again once it is committed."""
    results.MANY = 4
    while time.time() < start:
        time.sleep(0.001)
    with open(said, "a", buffering=1) as file:
        for number in range(5000):
            seed = 100_000 * name + number
            file.write(f"try {seed}\n")
            results.commit(url, [result(seed), result(seed % 5, FAILURE)])
            file.write(f"done {seed}\n")


def _said(folder: Path, word: str) -> set[int]:
    lines = [
        line.split() for path in folder.glob("*.said") for line in path.read_text().split("\n")
    ]
    return {int(line[1]) for line in lines if len(line) == 2 and line[0] == word}


def test_writers_killed_again_and_again(tmp_path):
    """Three at a time write and merge, and are killed; a reader looks on meanwhile."""
    url, said = str(tmp_path / "results"), tmp_path / "said"
    said.mkdir()
    dice, name = random.Random(6), 0
    for _ in range(6):
        writers = []
        start = time.time() + 0.1
        for _ in range(3):
            name += 1
            writers.append(
                PROCESSES.Process(
                    target=_write, args=(url, name, f"{said}/{name}.said", start), daemon=True
                )
            )
            writers[-1].start()
        time.sleep(0.1 + dice.uniform(0.1, 0.5))
        before = _said(said, "done")
        found = {row.seed for row in read(url)}
        assert before <= found  # a reader sees all that was committed when it began
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            assert writer.exitcode == -signal.SIGKILL
    done = _said(said, "done")
    rows = read(url)
    seeds = [row.seed for row in rows]
    assert len(done) > 20
    assert len(seeds) == len(set(seeds))
    assert done <= set(seeds) <= _said(said, "try") | set(range(5))
    assert any(path.name.startswith("merged") for path in parts(url))
    results.compact(url)
    assert read(url) == rows


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty"])
def test_damaged_file_is_named(tmp_path, harm):
    results.commit(str(tmp_path), [result(seed) for seed in range(20)])
    (path,) = parts(tmp_path)
    data = path.read_bytes()
    flipped = data[:99] + bytes([data[99] ^ 1]) + data[100:]
    path.write_bytes({"cut": data[:-100], "flipped": flipped, "empty": b""}[harm])
    for reads in (read, results.finished, results.table):
        with pytest.raises(UserError, match=f"{path.name}: damaged .*delete it"):
            reads(str(tmp_path))
    path.unlink()
    assert read(str(tmp_path)) == []


def test_foreign_and_newer_files_are_named(tmp_path):
    results.commit(str(tmp_path), [result()])
    stray = tmp_path / "episodes" / "mine.csv"
    stray.write_text("a,b\n")
    with pytest.raises(UserError, match=r"mine\.csv: no file of results; take it away"):
        read(str(tmp_path))
    stray.rename(stray.with_name(".mine.csv"))
    assert len(read(str(tmp_path))) == 1

    (path,) = parts(tmp_path)
    newer = pq.read_table(path).replace_schema_metadata({"egoscaler_results": "2"})
    pq.write_table(newer, tmp_path / "newer")
    data = (tmp_path / "newer").read_bytes()
    digest = results._digest(data)
    path.with_name(f"part-{digest}.parquet").write_bytes(data)
    with pytest.raises(UserError, match="results of version 2, this program reads 1"):
        read(str(tmp_path))


def test_folder_of_another_version_is_left_alone(tmp_path):
    (tmp_path / "results.json").write_text('{"version": 7}')
    for act in (
        lambda: read(str(tmp_path)),
        lambda: results.commit(str(tmp_path), [result()]),
    ):
        with pytest.raises(UserError, match="results of version 7, this program reads 1"):
            act()
    assert parts(tmp_path) == []


def test_export_is_a_line_an_episode(tmp_path):
    rows = [result(seed, policy=policy) for policy in ("b", "a") for seed in (10, 9)]
    results.commit(str(tmp_path), [*rows, result(9, POLICY_ERROR, policy="a")])
    results.write_jsonl(str(tmp_path), results.table(str(tmp_path)))
    lines = [json.loads(line) for line in (tmp_path / "episodes.jsonl").open()]
    assert [(line["policy"], line["seed"]) for line in lines] == [
        ("a", 9), ("a", 10), ("b", 9), ("b", 10)
    ]  # fmt: skip
    assert lines[0] == vars(result(9, policy="a"))


def test_films_are_counted_once_an_episode(tmp_path):
    seen = [result(1, video="a.mp4"), result(2), result(3, video="c.mp4"), result(4, FAILURE)]
    results.commit(str(tmp_path), seen)
    results.commit(str(tmp_path), seen[:1])
    kind = tuple(getattr(seen[0], name) for name in results.KIND)
    assert results.filmed(str(tmp_path)) == {kind: 2}
    assert results.filmed(str(tmp_path / "none")) == {}


def test_video_paths_are_plain_and_each_its_own(tmp_path):
    names = ["runs/a/policy", "ws://10.0.0.1:8000", "replay:/data/my set", "../../x", "é\n"]
    rows = [result(1, policy=name, task="task 1/2", suite="libero:goal") for name in names]
    paths = [results.video_path(row) for row in rows]
    assert paths[0] == f"videos/libero_goal/task_1_2/a-1-{SUCCESS}-{rows[0].episode}.mp4"
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert ".." not in path
        assert len(path.split("/")) == 4
        store(str(tmp_path)).write(path, b"video")
