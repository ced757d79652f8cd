"""Statistics of shards by Ray Data, against NumPy on all windows at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ego_ops.errors import UserError
from tests import shard_files
from training.config import SourceConfig
from training.data import norm
from training.data.sources import open_source
from workflows.norm_stats import statistics

pytestmark = pytest.mark.usefixtures("ray_cluster")


def every(config: SourceConfig, held_out: float) -> tuple[np.ndarray, np.ndarray]:
    source = open_source(config, 1, "train" if held_out else "all", held_out)
    units = [source.load(number, pictures=False) for number in range(len(source.windows()))]
    windows = [
        unit.window(n)
        for unit, count in zip(units, source.windows().tolist(), strict=True)
        for n in range(count)
    ]
    return np.stack([w.state for w in windows]), np.stack([w.actions[0] for w in windows])


@pytest.mark.parametrize("held_out", [0.0, 0.3])
def test_statistics_equal_those_of_all_windows(tmp_path, held_out):
    shard_files.simple(str(tmp_path), parts=5, clips=6, steps=40, side=16)
    config = SourceConfig(str(tmp_path), smooth=3)
    found = statistics(config, 50, held_out)
    for stats, values in zip((found.state, found.actions), every(config, held_out), strict=True):
        wide = values.astype(np.float64)
        assert stats.count == len(wide)
        np.testing.assert_allclose(stats.mean, wide.mean(0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(stats.std, wide.std(0), rtol=1e-9, atol=1e-12)
        assert (stats.min == wide.min(0)).all()
        assert (stats.max == wide.max(0)).all()
        # The neighbours in rank bound what a quantile of so few values can be.
        for share, quantile in ((0.01, stats.q01), (0.99, stats.q99)):
            low, high = np.quantile(wide, [share - 0.004, share + 0.004], axis=0)
            assert (quantile >= low - 0.01 * wide.std(0)).all()
            assert (quantile <= high + 0.01 * wide.std(0)).all()


def test_the_number_of_workers_changes_no_bit(tmp_path):
    shard_files.simple(str(tmp_path), parts=7, clips=2, steps=9, side=16)
    one, three = (
        norm.to_json(statistics(SourceConfig(str(tmp_path)), 50, 0.2, workers))
        for workers in (1, 3)
    )
    assert one == three


def test_a_number_that_is_not_finite_is_named(tmp_path: Path):
    clips = shard_files.simple(str(tmp_path), parts=2, clips=2, steps=5, side=16)
    part = sorted(tmp_path.glob("bucket=00001/*.parquet"))[0]
    table = pq.read_table(part)
    rows = table.to_pylist()
    rows[0]["action"][2][4] = float("nan")
    broken = pa.Table.from_pylist(rows, schema=table.schema)
    for old in (part, *tmp_path.glob("commits/bucket=00001/*")):
        old.unlink()
    shard_files.put(str(tmp_path), broken, 1)
    assert rows[0]["clip_id"] in {clip.clip_id for clip in clips}
    with pytest.raises(UserError, match=f"clip {rows[0]['clip_id']}: action of step 2 is not"):
        statistics(SourceConfig(str(tmp_path)), 50)
