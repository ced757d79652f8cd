"""Which clips a source of shards takes: limits and selections, the same as `curate`'s."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from ego_ops.errors import UserError
from ego_ops.quality_policy import PRESETS, Policy
from ego_ops.quality_select import select
from tests import shard_files
from training.config import SourceConfig
from training.data.shard_source import ShardSource

HORIZON = 5


def clips(config: SourceConfig) -> set[str]:
    source = ShardSource(config, HORIZON)
    units = (source.load(unit, pictures=False) for unit in range(len(source.windows())))
    return {clip for unit in units for clip in unit.ids}


def scored(url: str, count: int = 60) -> None:
    chance = np.random.default_rng(0)
    each = []
    for n in range(count):
        scores = {
            "travel_m": float(chance.lognormal(-1, 1)),
            "jerk_rms_m_s3": float(chance.lognormal(0, 2)),
            "side_m": float(chance.uniform(0, 3)),
            "near_m": 0.4,
            "far_m": 1.0,
        }
        each.append((shard_files.clip(n), shard_files.trajectory(n, 3, 16, scores)))
    shard_files.write(url, [each[at : at + 15] for at in range(0, count, 15)])


@pytest.mark.parametrize("policy", ["paper", "default", "strict"])
def test_limits_choose_what_curate_chooses(tmp_path, policy):
    url, out = str(tmp_path / "shards"), str(tmp_path / "selection.parquet")
    scored(url)
    tally = select(url, out, PRESETS[policy])
    chosen = clips(SourceConfig(url, selection=out))
    limited = clips(SourceConfig(url, limits=(f"policy={policy}",)))
    assert chosen == limited
    assert 0 < len(chosen) == tally.total("selected") < 60


def test_single_limits_add_to_a_policy_and_a_selection(tmp_path):
    url, out = str(tmp_path / "shards"), str(tmp_path / "selection.parquet")
    scored(url)
    select(url, out, PRESETS["paper"])

    def count(*limits: str, selection: str | None = None) -> int:
        return len(clips(SourceConfig(url, limits=limits, selection=selection)))

    every, paper = count(), count("policy=paper")
    closer = count("policy=paper", "min_travel_m=0.4")
    assert every == 60 > paper > closer > 0
    assert count("min_travel_m=0.4", selection=out) == closer
    assert count("min_travel_m=-inf", "policy=paper", "max_side_m=inf") == every
    for text, message in (
        ("min_travle_m=1", "no such limit; did you mean min_travel_m?"),
        ("min_travel_m=much", "could not convert"),
        ("min_travel_m", "could not convert"),
        ("policy=lax", "no such policy; there are paper, default, strict"),
    ):
        with pytest.raises(UserError, match=re.escape(f"limits {text}: {message}")):
            count(text)


def test_nothing_to_train_on_is_said(tmp_path):
    empty, short = tmp_path / "empty", tmp_path / "short"
    with pytest.raises(UserError, match="no trajectory is committed there; run `extract` first"):
        ShardSource(SourceConfig(str(empty)), HORIZON)
    shard_files.write(str(short), [[(shard_files.clip(0), shard_files.trajectory(0, 1))]])
    with pytest.raises(UserError, match="none of 1 clips has two steps: nothing to train on"):
        ShardSource(SourceConfig(str(short)), HORIZON)
    url, out = str(tmp_path / "scored"), str(tmp_path / "selection.parquet")
    scored(url, 15)
    with pytest.raises(UserError, match=r"none of 15 clips .* within limits min_travel_m=99"):
        ShardSource(SourceConfig(url, limits=("min_travel_m=99",)), HORIZON)
    select(url, out, Policy(min_travel_m=99))
    with pytest.raises(UserError, match=r"selection\.parquet: selects no clip; choose others"):
        ShardSource(SourceConfig(url, selection=out), HORIZON)
    with pytest.raises(UserError, match="smooth=4 must be odd"):
        ShardSource(SourceConfig(url, smooth=4), HORIZON)


def test_a_selection_of_other_shards_is_said(tmp_path):
    url, out = tmp_path / "scored", str(tmp_path / "selection.parquet")
    scored(str(url), 15)
    select(str(url), out, PRESETS["paper"])
    (part,) = url.glob("bucket=*/*.parquet")
    pq.write_table(pq.read_table(part).slice(0, 1), part)
    with pytest.raises(
        UserError, match=r"clips that were asked for; .* make it again with `curate`"
    ):
        ShardSource(SourceConfig(str(url), selection=out), HORIZON)
    part.unlink()
    with pytest.raises(UserError, match="damaged"):
        ShardSource(SourceConfig(str(url), selection=out), HORIZON)


def test_clips_of_one_video_are_held_out_together(tmp_path):
    made = [replace(shard_files.clip(n), video_uid=f"video{n // 3}") for n in range(30)]
    each = [(clip, shard_files.trajectory(n, 4, 16)) for n, clip in enumerate(made)]
    shard_files.write(str(tmp_path), [each[:11], each[11:]])
    config = SourceConfig(str(tmp_path))
    videos = {}
    for part in ("train", "held_out"):
        source = ShardSource(config, HORIZON, part, 0.3)
        units = (source.load(unit, pictures=False) for unit in range(len(source.windows())))
        ids = {one for unit in units for one in unit.ids}
        videos[part] = {clip.video_uid for clip in made if clip.clip_id in ids}
        assert len(ids) == 3 * len(videos[part])
    assert len(videos["train"]) + len(videos["held_out"]) == 10
    assert not videos["train"] & videos["held_out"]
