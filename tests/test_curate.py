"""Selections from real shards: which clips, why not the others, and what is written about it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ego_ops import rows, shards
from ego_ops.clip import Clip, clip_id
from ego_ops.curation import KEY, selected
from ego_ops.errors import UserError
from ego_ops.quality import SCORES
from ego_ops.quality_policy import FENCED, Policy
from ego_ops.quality_select import SCHEMA, Sample, select
from ego_ops.report import histogram, units
from ego_ops.storage import store
from ego_ops.verdict import Verdict
from tests.pipelines import trajectory
from workflows.cli import main
from workflows.curate import CurateConfig, run

Ending = dict[str, float] | Verdict
GOOD = {"travel_m": 0.5, "background_similarity": 0.1, "in_frame_share": 1.0, "side_m": 0.3,
        "near_m": 0.4, "far_m": 0.8}  # fmt: skip
LIKE_GROUND = {"background_similarity": 0.71}
NO_OBJECT = Verdict("rejected", "no_object", "0 of 9 frames")
CORRUPT = Verdict("failed", "decode_corrupt", "no frame")


def make_clip(number: int, corpus: str = "toy", verb: str = "put", thing: str = "cup") -> Clip:
    return Clip(
        clip_id=clip_id(corpus, "1", "video", number, number + 1, str(number)),
        corpus=corpus, corpus_version="1", video_uid="video", root="/nowhere",
        video_path="video.mp4", annotation_path="", t_start=number, t_end=number + 1.0,
        narration="does it", verb=verb, object=thing,
    )  # fmt: skip


def table(endings: Sequence[tuple[Clip, Ending]]) -> pa.Table:
    made = []
    for clip, ending in sorted(endings, key=lambda one: one[0].clip_id):
        if isinstance(ending, dict):
            ending = replace(trajectory(clip), quality=ending)
        made.append(rows.Row(clip, 1, ending, "", 0, 0))
    return rows.table(made, "", "")


def commit(url: str, endings: Sequence[tuple[Clip, Ending]], bucket: int = 0) -> None:
    """One part with these clips."""
    put(url, table(endings), bucket)


def put(url: str, made: pa.Table, bucket: int = 0) -> None:
    outcomes: dict[str, list[shards.Outcome]] = {}
    for row in made.select(["clip_id", "corpus", "status"]).to_pylist():
        label = "" if row["status"] == "ok" else "why"
        outcome = shards.Outcome(row["clip_id"], row["status"], label, 1, False)
        outcomes.setdefault(row["corpus"], []).append(outcome)
    shards.commit(store(url), bucket, rows.parquet(made), outcomes, "run")


def example(url: str) -> dict[str, str]:
    """Six clips of two corpora. Returns reasons by clip id, "" for those selected by `paper`."""
    given = {
        "": [(make_clip(0), GOOD), (make_clip(1, "other", "cut", "<b>leek</b>"), GOOD)],
        "min_travel_m": [(make_clip(2, thing="[/pan]"), GOOD | LIKE_GROUND | {"travel_m": 0.01})],
        "max_background_similarity": [(make_clip(3), GOOD | LIKE_GROUND)],
        "rejected:no_object": [(make_clip(4), NO_OBJECT)],
        "failed:decode_corrupt": [(make_clip(5, "other"), CORRUPT)],
    }  # fmt: skip
    flat = [(reason, clip, ending) for reason, many in given.items() for clip, ending in many]
    commit(url, [(clip, ending) for _, clip, ending in flat[:3]], bucket=0)
    commit(url, [(clip, ending) for _, clip, ending in flat[3:]], bucket=1)
    return {clip.clip_id: reason for reason, clip, _ in flat}


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workflows.cli", "curate", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def reasons(path: str | Path) -> dict[str, str]:
    return {row["clip_id"]: row["reason"] or "" for row in pq.read_table(path).to_pylist()}


def test_the_command_selects_and_says_why_not(tmp_path):
    url, out, page = (str(tmp_path / name) for name in ("shards", "sub/chosen.parquet", "p.html"))
    expected = example(url)
    done = command("--shards", url, "--out", out, "--policy", "paper", "--html", page)
    assert done.returncode == 0, done.stderr
    found = pq.read_table(out)
    assert found.schema.equals(SCHEMA)
    assert reasons(out) == expected
    for row in found.to_pylist():
        assert row["selected"] == (row["reason"] is None)
        alone = row["part"] is None
        assert alone == (":" in (row["reason"] or ""))
        assert row["travel_m"] is None if alone else row["travel_m"] > 0
    for text in ("selected 2 of 4 trajectories (6 clips)", "min_travel_m", "≥ 0.1",
                 "rejected:no_object", "verb (2 of 2 kinds kept)",
                 "object (2 of 3 kinds kept)", "[/pan]"):  # fmt: skip
        assert text in done.stdout
    head = json.loads(pq.read_metadata(out).metadata[KEY])
    assert head["policy"]["max_background_similarity"] == 0.7
    assert head["shards"] == url
    assert Path(page).stat().st_size < 100_000
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["chosen.parquet"]


def test_the_same_again_is_the_same_file(tmp_path):
    url, out = str(tmp_path / "shards"), tmp_path / "selection.parquet"
    example(url)
    contents = []
    for _ in range(2):
        run(CurateConfig(shards=url, out=str(out), policy="strict"))
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
    run(CurateConfig(shards=url, out=str(out), policy="paper"))
    assert out.read_bytes() != contents[0]


def test_flags_replace_and_lift_the_limits_of_a_policy(tmp_path, capsys):
    url, out = str(tmp_path / "shards"), str(tmp_path / "selection.parquet")
    expected = example(url)
    words = ["curate", "--shards", url, "--out", out, "--policy", "paper"]
    assert main([*words, "--min-travel-m", "-inf", "--max-background-similarity", "0.95"]) == 0
    assert {r for r in reasons(out).values() if r} == {r for r in expected.values() if ":" in r}
    assert "not tested" not in capsys.readouterr().out
    assert main([*words, "--min-confidence", "0.5"]) == 0
    assert reasons(out) == expected
    said = capsys.readouterr().out
    assert "not tested, since no clip has the score: --min-confidence" in said
    with pytest.raises(SystemExit):
        main([*words, "--min-travel-m", "much"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shards", "empty"), "nothing is committed there; run `extract` first"),
        (("--out", "folder/"), "folder/: name a file, not a folder"),
        (("--out", "folder"), "cannot write folder: "),
        (("--out", "file/selection.parquet"), "cannot write file/selection.parquet: "),
        (("--html", "folder"), "--html folder: cannot be written"),
        (("--max-far-m", "nan"), "--max-far-m nan: must be a number"),
        (("--fence", "-1"), "--fence -1: must be above 0"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    example("shards")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    assert main(["curate", *words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("egoscaler: ")
    assert message in said
    assert said.count("\n") == 1
    left = {path.name for path in tmp_path.rglob("*selection.parquet*")}
    assert left == ({"selection.parquet"} if "--html" in words else set())


def test_a_damaged_shard_leaves_the_old_selection_alone(tmp_path):
    url, out = tmp_path / "shards", tmp_path / "selection.parquet"
    example(str(url))
    run(CurateConfig(shards=str(url), out=str(out)))
    before = out.read_bytes()
    part = sorted(url.glob("bucket=00001/*.parquet"))[0]
    data = bytearray(part.read_bytes())
    data[-12:-8] = b"\xff\xff\xff\x7f"
    part.write_bytes(data)
    with pytest.raises(UserError, match=f"{part.name}: "):
        run(CurateConfig(shards=str(url), out=str(out), policy="strict"))
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["selection.parquet", "shards"]


def test_shards_and_selection_may_lie_in_an_object_store(tmp_path):
    url, out = "memory://curate/shards", "memory://curate/out/selection.parquet"
    expected = example(url)
    run(CurateConfig(shards=url, out=out, policy="paper"))
    chosen = selected(out)
    assert len(chosen) == 2
    found = pa.concat_tables(chosen.read(["clip_id", "frames"]))
    assert set(found["clip_id"].to_pylist()) == {i for i, r in expected.items() if not r}
    assert all(frames for frames in found["frames"].to_pylist())


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2**32 - 1))
def test_every_clip_is_judged_as_one_would_by_hand(tmp_path, seed):
    rng = np.random.default_rng(seed)
    names = ["travel_m", "confidence", "position_sd_m", "is_static"]
    policy = Policy(min_travel_m=0.4, max_is_static=0.0, max_position_sd_m=0.6, min_confidence=0.3)
    checks = [  # in the order of the policy's fields
        ("min_travel_m", "travel_m", lambda v: v < np.float32(0.4)),
        ("max_is_static", "is_static", lambda v: v > 0),
        ("max_position_sd_m", "position_sd_m", lambda v: v > np.float32(0.6)),
        ("min_confidence", "confidence", lambda v: v < np.float32(0.3)),
    ]
    made, expected = [], {}
    for number in range(30):
        clip = make_clip(number, f"corpus {number % 3}", f"verb {number % 4}")
        scores = {n: float(np.float32(rng.random())) for n in names if rng.random() < 0.8}
        if "is_static" in scores:
            scores["is_static"] = float(rng.random() < 0.2)
        made.append((clip, scores))
        failed = [why for why, name, bad in checks if name in scores and bad(scores[name])]
        expected[clip.clip_id] = failed
    url, out = str(tmp_path / f"shards-{seed}"), str(tmp_path / "selection.parquet")
    commit(url, made[:20], 0)
    commit(url, made[20:], 1)
    tally = select(url, out, policy)
    assert reasons(out) == {i: (failed or [""])[0] for i, failed in expected.items()}
    assert +tally.failing == Counter(why for failed in expected.values() for why in failed)
    assert tally.total("selected") == sum(not failed for failed in expected.values())
    assert tally.total("ok") == tally.total("clips") == 30
    assert tally.missing["confidence"] == sum("confidence" not in s for _, s in made)
    kept = Counter(clip.verb for clip, _ in made if not expected[clip.clip_id])
    assert tally.after["verb"] == kept
    assert tally.before["verb"] == Counter(clip.verb for clip, _ in made)
    # Where the parts are cut makes no difference.
    other = str(tmp_path / f"whole-{seed}")
    commit(other, made, 0)
    select(other, out, policy)
    assert reasons(out) == {i: (failed or [""])[0] for i, failed in expected.items()}


def test_a_fence_is_put_around_the_clips_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    made = [(make_clip(n), {"depth_m": float(rng.normal(0.6, 0.05))}) for n in range(60)]
    outlier = make_clip(60)
    url, out = str(tmp_path / "shards"), str(tmp_path / "selection.parquet")
    commit(url, [*made, (outlier, {"depth_m": 2.0})])
    tally = select(url, out, Policy(fence=2.5))
    assert {i: r for i, r in reasons(out).items() if r} == {outlier.clip_id: "fence_depth_m"}
    assert [limit.reason for limit in tally.limits] == ["fence_depth_m"]
    assert set(FENCED) <= set(SCORES)


# Readers


def test_a_selection_reads_its_rows_and_filters_those_of_others(tmp_path):
    url, out = str(tmp_path / "shards"), str(tmp_path / "selection.parquet")
    expected = example(url)
    select(url, out, Policy(min_travel_m=0.1, max_background_similarity=0.7))
    chosen = selected(out)
    wanted = {i for i, reason in expected.items() if not reason}
    assert len(chosen) == 2
    assert chosen.policy == {"min_travel_m": 0.1, "max_background_similarity": 0.7}
    assert {i for _, ids in chosen.parts() for i in ids} == wanted
    direct = pa.concat_tables(shards.read(url))
    own = pa.concat_tables(chosen.read())
    assert own.equals(pa.concat_tables(chosen.filter(t) for t in shards.read(url)))
    assert set(own["clip_id"].to_pylist()) == wanted
    assert own.schema.equals(direct.schema)
    assert chosen.filter(direct.select(["verb", "clip_id"])).num_columns == 2
    none = select(url, out, Policy(min_travel_m=9.0))
    assert none.total("selected") == len(selected(out)) == 0
    assert list(selected(out).read()) == []
    assert selected(out).filter(direct).num_rows == 0


def test_a_selection_finds_shards_that_have_moved(tmp_path):
    out = str(tmp_path / "selection.parquet")
    example(str(tmp_path / "shards"))
    select(str(tmp_path / "shards"), out, Policy())
    (tmp_path / "shards").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="damaged"):
        list(selected(out).read(["clip_id"]))
    moved = selected(out, str(tmp_path / "elsewhere"))
    assert sum(len(t) for t in moved.read(["clip_id"])) == len(moved) == 4


def test_what_is_no_selection_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no selection there; run `curate` first"):
        selected(str(tmp_path / "selection.parquet"))
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UserError, match="cannot be read"):
        selected(str(tmp_path / "text.parquet"))
    pq.write_table(pa.table({"clip_id": ["0" * 16]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="not a selection of version 1"):
        selected(str(tmp_path / "other.parquet"))


# Shards from before a score was known


def test_scores_that_old_shards_lack_are_null_and_pass(tmp_path):
    url, out = str(tmp_path / "shards"), str(tmp_path / "selection.parquet")
    clips = [make_clip(n) for n in range(4)]
    old = table([(clip, GOOD) for clip in clips[:2]]).drop_columns(
        ["background_similarity", "confidence", "camera_rotation"]
    )
    put(url, old, 0)
    commit(url, [(clip, GOOD | {"background_similarity": 0.9}) for clip in clips[2:]], 1)
    every = pa.concat_tables(shards.read(url))
    assert every.schema.equals(rows.SCHEMA)
    values = dict(
        zip(*(every[n].to_pylist() for n in ("clip_id", "background_similarity")), strict=True)
    )
    assert [values[clip.clip_id] for clip in clips] == [None, None, *[pytest.approx(0.9)] * 2]
    (part, ids), *_ = shards.parts(url)
    only = shards.read_part(store(url), part, ids, ["camera_rotation", "confidence"])
    assert only.schema.names == ["camera_rotation", "confidence"]
    assert only["camera_rotation"].type == rows.SCHEMA.field("camera_rotation").type
    tally = select(url, out, Policy(min_travel_m=0.1, max_background_similarity=0.7))
    assert tally.total("selected") == 2
    assert tally.missing["background_similarity"] == 2
    found = {row["clip_id"]: row for row in pq.read_table(out).to_pylist()}
    assert found[clips[0].clip_id]["selected"]
    assert found[clips[0].clip_id]["background_similarity"] is None
    assert found[clips[3].clip_id]["reason"] == "max_background_similarity"


# The sample and the page


def test_a_sample_is_the_same_whatever_the_order_and_size_of_what_comes():
    rng = np.random.default_rng(0)
    ids = np.array([f"{n:016x}".encode() for n in rng.permutation(1000)])
    values = rng.random(1000).astype(np.float32)
    whole, parts = Sample(["depth_m"], 50), Sample(["depth_m"], 50)
    whole.add(ids, {"depth_m": values}, values > 0.5)
    for some in np.array_split(rng.permutation(1000), 13):
        parts.add(ids[some], {"depth_m": values[some]}, values[some] > 0.5)
    (one, flags), (two, again) = whole.scores(), parts.scores()
    np.testing.assert_array_equal(one["depth_m"], values[np.argsort(ids)[:50]])
    np.testing.assert_array_equal(one["depth_m"], two["depth_m"])
    np.testing.assert_array_equal(flags, one["depth_m"] > 0.5)
    np.testing.assert_array_equal(flags, again)
    assert len(Sample(["depth_m"]).scores()[1]) == 0


class Page(HTMLParser):
    """Texts, tags and whatever the page would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.texts: list[str] = []
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href", "data")]

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_the_page_has_every_score_that_is_there_and_needs_no_other_file(tmp_path):
    url, page = str(tmp_path / "shards"), tmp_path / "page.html"
    example(url)
    config = CurateConfig(shards=url, out=str(tmp_path / "s.parquet"), policy="paper", html=page)
    run(config)
    text = page.read_text("utf-8")
    found = Page(text)
    assert found.tags["svg"] == len(GOOD)
    assert found.links == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert "<b>leek</b>" in found.texts  # as text, not as a tag
    for wanted in ("≥ 0.1: 25.0% out", "≤ 0.7: 50.0% out", "min_travel_m", "failed:decode_corrupt",
                   "rejected:no_object", "toy", "other", "cut", "[/pan]"):  # fmt: skip
        assert wanted in found.texts, wanted


def test_a_page_where_no_clip_has_a_trajectory(tmp_path, capsys):
    url, page = str(tmp_path / "shards"), tmp_path / "page.html"
    commit(url, [(make_clip(0), NO_OBJECT), (make_clip(1), CORRUPT)])
    out = str(tmp_path / "s.parquet")
    run(CurateConfig(shards=url, out=out, policy="strict", html=page))
    found = Page(page.read_text("utf-8"))
    assert found.tags["svg"] == 0
    assert {"rejected:no_object", "failed:decode_corrupt"} <= set(found.texts)
    said = capsys.readouterr().out
    assert "selected 0 of 0 trajectories (2 clips)" in said
    assert "not tested" not in said
    assert len(selected(out)) == 0


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("travel_m", 0.0123, "12.3\u202fmm"),
        ("travel_m", 1.234, "1.23\u202fm"),
        ("turn_rad", math.pi, "180°"),
        ("top_turn_rad_s", math.pi / 2, "90.0°/s"),
        ("top_speed_m_s", 0.5, "0.500\u202fm/s"),
        ("jerk_rms_m_s3", 12.34, "12.3\u202fm/s³"),
        ("inlier_share", 0.985, "98.5\u202f%"),
        ("background_similarity", -0.25, "-0.250"),
        ("object_points", 31.0, "31"),
        ("depth_m", None, "-"),
    ],
)
def test_numbers_are_told_in_units_that_people_use(name, value, text):
    assert units.pretty(name, value) == text


def test_bars_hold_every_clip_once_and_limits_lie_where_they_should():
    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 0.2, 5000)
    chosen = (values > 0.8) & (rng.random(5000) < 0.5)
    picture = histogram.svg(values, chosen, 0.8, math.inf, "some score")

    def heights(name: str) -> list[tuple[float, float]]:
        path = re.search(f'class="{name}" d="([^"]*)"', picture).group(1)
        return [(float(x), float(v)) for x, v in re.findall(r"M([\d.]+) [\d.]+v-([\d.]+)", path)]

    every, kept = dict(heights("all")), dict(heights("kept"))
    (limit,) = re.findall(r'class="limit" d="M([\d.]+)', picture)
    assert kept.keys() <= every.keys()
    assert all(kept[x] <= every[x] for x in kept)
    assert min(kept) >= float(limit) - 8  # one bar's width
    share = sum(tall for x, tall in every.items() if x < float(limit)) / sum(every.values())
    assert share == pytest.approx((values < 0.8).mean(), abs=0.03)
    (out,) = re.findall(r'class="out" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', picture)
    assert float(out[0]) + float(out[1]) == pytest.approx(float(limit), abs=0.1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.lists(st.floats(-1e6, 1e6), max_size=2),
)
def test_an_axis_can_be_drawn_whatever_the_values(values, limits):
    scale = histogram.axis(np.array(values), limits)
    assert scale.low < scale.high
    shares = scale.share(np.array(values))
    assert ((shares >= 0) & (shares <= 1)).all()
    assert all(0 <= scale.share(v) <= 1 for v in scale.limits)
    assert len(histogram.ticks(scale)) <= 30
    low, high = (*sorted(limits), -math.inf, math.inf)[:2]
    assert histogram.svg(np.array(values), np.ones(len(values), bool), low, high, "x")


def test_values_that_reach_far_are_shown_by_their_logarithm():
    values = np.exp(np.random.default_rng(0).normal(0, 2, 2000))
    scale = histogram.axis(values, [3.0])
    assert scale.log
    assert scale.limits == (3.0,)
    texts = [text for _, text in histogram.ticks(scale)]
    assert {"0.1", "1", "10"} <= set(texts)
    assert not histogram.axis(-values, []).log
    either = histogram.axis(np.array([0.0, 1, 1]), [0.0], yes_no=True)
    assert [text for _, text in histogram.ticks(either)] == ["no", "yes"]
