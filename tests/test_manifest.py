from __future__ import annotations

import contextlib
import json
import multiprocessing
import time
import uuid
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ego_ops import manifest
from ego_ops.clip import Box, Clip, clip_id
from ego_ops.errors import UserError
from ego_ops.manifest import Manifest
from tests.pipelines import clips

texts = st.text(st.characters(codec="utf-8"), max_size=12)
times = st.floats(0, 1e5)


def test_clips_come_back_as_they_went_in(tmp_path):
    given_ = [
        replace(clip, boxes=(Box(1.5, 2, 3, 4, 5), Box(2.5, 6, 7, 8, 9))[: i % 3])
        for i, clip in enumerate(clips(300))
    ]
    assert manifest.write(str(tmp_path), given_) == manifest.Written(300, 0, 0)
    found = Manifest(str(tmp_path))
    assert sorted(found, key=lambda c: c.clip_id) == sorted(given_, key=lambda c: c.clip_id)
    assert found.totals == {"toy": 300}
    for bucket in range(found.buckets):
        ids = found.ids(bucket)
        assert ids == sorted(ids)
        assert all(int(i[:8], 16) % found.buckets == bucket for i in ids)
        assert [c.clip_id for c in found.clips(bucket, ids[1], ids[3])] == ids[1:4]


def test_number_of_buckets(tmp_path):
    assert manifest.write(str(tmp_path / "a"), clips(50_000)).new == 50_000
    assert Manifest(str(tmp_path / "a")).buckets == 25
    manifest.write(str(tmp_path / "b"), clips(3), buckets=40)
    assert Manifest(str(tmp_path / "b")).buckets == 40
    with pytest.raises(UserError, match="has 40 buckets, not 41"):
        manifest.write(str(tmp_path / "b"), clips(3), buckets=41)


def test_indexing_again_leaves_old_rows_and_files_alone(tmp_path):
    url = str(tmp_path)
    manifest.write(url, clips(100))
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.glob("*.parquet")}
    changed = [replace(clip, narration="something else") for clip in clips(100)]
    assert manifest.write(url, changed) == manifest.Written(0, 100, 0)
    assert before == {
        p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.glob("*.parquet")
    }
    old = Manifest(url)
    assert manifest.write(url, [*changed, *clips(7, corpus="other")]) == (
        manifest.Written(7, 100, 0)
    )
    new = Manifest(url)
    assert new.totals == {"other": 7, "toy": 100}
    assert (new.id, new.buckets) == (old.id, old.buckets)
    assert {c for c in new if c.corpus == "toy"} == set(clips(100))


def test_a_corpus_that_moved_is_found_at_its_new_place(tmp_path):
    url, before = str(tmp_path), list(clips(100))
    manifest.write(url, before)
    old = Manifest(url)
    box = Box(1.0, 2.0, 3.0, 4.0, 5.0)
    moved = [
        replace(clip, root="/elsewhere", video_path="v.mp4", boxes=(box,), narration="changed")
        for clip in before[:40]
    ]
    moved[0] = replace(before[0], annotation_path="poses.csv", verb="changed")
    new = list(clips(5, corpus="other"))
    assert manifest.write(url, [*moved, *before[40:60], *new]) == manifest.Written(5, 60, 0, 40)
    expected = [
        replace(a, root=b.root, video_path=b.video_path, boxes=b.boxes)
        for a, b in zip(before, [*moved, *before[40:]], strict=True)
    ]
    expected[0] = replace(before[0], annotation_path="poses.csv")
    assert set(Manifest(url)) == {*expected, *new}
    assert Manifest(url).id == old.id
    assert manifest.write(url, moved) == manifest.Written(0, 40, 0, 0)


def _index_for_ever(url: str, count: int) -> None:
    while True:
        with contextlib.suppress(UserError):  # the other one is at it
            manifest.write(url, clips(count))


def _refused(url: str) -> bool:
    try:
        manifest.write(url, clips(500))
    except UserError as error:
        return "another `index` is writing to it" in str(error)
    return False


def test_an_index_that_is_killed_at_any_moment_leaves_a_whole_manifest(tmp_path):
    url = str(tmp_path)
    manifest.write(url, clips(500))
    for turn in range(4):
        count = 5000 * (turn + 1)
        process = multiprocessing.get_context("fork").Process(
            target=_index_for_ever, args=(url, count)
        )
        process.start()
        time.sleep(0.1 + 0.1 * turn)
        if turn == 0:
            while not _refused(url):
                assert process.is_alive()
        process.kill()
        process.join()
        found = set(Manifest(url))
        assert set(clips(500)) <= found <= set(clips(count))
    assert manifest.write(url, clips(20_000)).duplicates == 0
    assert set(Manifest(url)) == set(clips(20_000))
    assert Manifest(url).totals == {"toy": 20_000}


@st.composite
def batches(draw: st.DrawFn) -> list[list[Clip]]:
    """Several lots of clips in which some ids come more than once, with differing content."""
    count = draw(st.integers(1, 30))
    one = st.builds(
        lambda i, text, boxes: replace(pool[i], narration=text, boxes=tuple(boxes)),
        st.integers(0, count - 1),
        texts,
        st.lists(st.builds(Box, times, times, times, times, times), max_size=2),
    )
    pool = list(clips(count))
    return draw(st.lists(st.lists(one, max_size=40), min_size=1, max_size=4))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches(), st.integers(1, 5))
def test_a_manifest_is_the_first_of_each_id_however_it_came(lots, buckets):
    url = f"memory://manifest-{uuid.uuid4().hex}"
    first: dict[str, Clip] = {}
    for lot in lots:
        before = len(first)
        distinct = {clip.clip_id for clip in lot}
        known = len(distinct & first.keys())
        for clip in lot:
            first.setdefault(clip.clip_id, clip)
        written = manifest.write(url, iter(lot), buckets)
        assert written == manifest.Written(len(first) - before, known, len(lot) - len(distinct))
    found = Manifest(url)
    assert {c.clip_id: c for c in found} == first
    assert sum(found.totals.values()) == len(first)


def test_a_first_index_that_was_killed_leaves_no_manifest(tmp_path):
    manifest.write(str(tmp_path), clips(500), buckets=50)
    (tmp_path / "manifest.json").unlink()  # it is written last
    with pytest.raises(UserError, match="no manifest there"):
        Manifest(str(tmp_path))
    manifest.write(str(tmp_path), clips(20), buckets=3)
    assert set(Manifest(str(tmp_path))) == set(clips(20))


def test_a_merge_that_was_killed_is_completed_by_the_next(tmp_path):
    url = str(tmp_path)
    manifest.write(url, clips(100))
    head = (tmp_path / "manifest.json").read_bytes()
    manifest.write(url, clips(150))
    (tmp_path / "manifest.json").write_bytes(head)
    assert manifest.write(url, clips(200)) == manifest.Written(50, 150, 0)
    assert Manifest(url).totals == {"toy": 200}
    assert set(Manifest(url)) == set(clips(200))


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match="run `index` first"):
        Manifest(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="'XYZ' is not 16 hexadecimal digits"):
        manifest.write(str(tmp_path), [replace(c, clip_id="XYZ") for c in clips(1)])
    manifest.write(str(tmp_path), clips(10))
    (tmp_path / "bucket-00003.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match=r"bucket-00003\.parquet: cannot be read"):
        list(Manifest(str(tmp_path)))
    head = json.loads((tmp_path / "manifest.json").read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps({**head, "version": 99}))
    with pytest.raises(UserError, match="version 99"):
        Manifest(str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"version": 1, "buck')
    with pytest.raises(UserError, match="not JSON"):
        Manifest(str(tmp_path))


@given(
    texts, texts, texts, st.integers(0, 10**8), st.integers(0, 10**8), texts, st.floats(-4e-4, 4e-4)
)
def test_an_id_survives_float_noise(corpus, version, video, start, end, uid, noise):
    one = clip_id(corpus, version, video, start / 1000, end / 1000, uid)
    assert one == clip_id(corpus, version, video, start / 1000 + noise, end / 1000 - noise, uid)
    assert one != clip_id(corpus, version, video, start / 1000, (end + 1) / 1000, uid)
    assert len(one) == 16
    assert int(one, 16) >= 0
