"""Normalisation: openpi's formulas, floors under what hardly varies, statistics against NumPy."""

from __future__ import annotations

import functools
import json
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops.errors import UserError
from training.data import norm
from training.data.moments import BINS, Histogram, Moments
from training.data.norm import NormStats, Statistics, checked, normalise, unnormalise


def measured(values: np.ndarray, parts: int = 1) -> Statistics:
    pieces = np.array_split(values, parts)
    moments = functools.reduce(operator.add, map(Moments.of, pieces))
    return functools.reduce(operator.add, (Histogram.of(p, moments) for p in pieces)).statistics()


def skewed(count: int = 200_000) -> np.ndarray:
    """Even, heavy-tailed, one-sided, in two lumps, and far from zero."""
    chance = np.random.default_rng(0)
    return np.stack(
        [
            chance.uniform(-1, 1, count),
            chance.standard_t(2, count),
            chance.lognormal(0, 1.5, count),
            np.where(chance.random(count) < 0.5, 3, -2) + chance.normal(0, 1e-3, count),
            1e4 + chance.normal(0, 0.1, count),
        ],
        axis=1,
    )


def test_statistics_are_those_of_numpy_on_skewed_data():
    values = skewed()
    found = measured(values, parts=7)
    assert found.count == len(values)
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.std, values.std(0), rtol=1e-9)
    assert found.min is not None
    assert (found.min == values.min(0)).all()
    assert (found.max == values.max(0)).all()
    for share, quantile in ((0.01, found.q01), (0.99, found.q99)):
        apart = np.abs(quantile - np.quantile(values, share, axis=0))
        assert (apart < 0.01 * values.std(0)).all()


def test_a_bin_is_as_narrow_as_promised():
    moments = Moments.of(skewed())
    edges = np.linspace(*np.arcsinh((np.stack([moments.min, moments.max]) - moments.mean)
                                    / moments.std), BINS + 1)  # fmt: skip
    widths, places = np.diff(np.sinh(edges), axis=0), np.abs(np.sinh(edges[:-1]))
    assert widths[places < 3].max() < 0.01


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_parts_merge_to_the_whole_in_any_order(count, parts, seed):
    chance = np.random.default_rng(seed)
    values = chance.normal(5, 3, (count, 2)) ** 3
    pieces = [piece for piece in np.array_split(values, parts) if len(piece)]
    chance.shuffle(pieces)
    merged, whole = functools.reduce(operator.add, map(Moments.of, pieces)), Moments.of(values)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.squares, whole.squares, rtol=1e-9, atol=1e-9)
    bins = functools.reduce(operator.add, (Histogram.of(p, whole) for p in pieces)).bins
    assert (bins == Histogram.of(values, whole).bins).all()


STATS = Statistics(
    mean=np.array([1.0, -2.0]), std=np.array([2.0, 0.5]),
    q01=np.array([-3.0, -3.0]), q99=np.array([5.0, -1.0]),
)  # fmt: skip


def test_both_kinds_are_openpis_formulas():
    values = np.array([[0.0, 0.0], [7.0, -2.5]])
    z = normalise(values, STATS, "mean_std")
    np.testing.assert_allclose(z, (values - STATS.mean) / (STATS.std + 1e-6), rtol=1e-6)
    scaled = normalise(values, STATS, "quantile")
    width = STATS.q99 - STATS.q01 + 1e-6
    np.testing.assert_allclose(scaled, (values - STATS.q01) / width * 2 - 1, rtol=1e-6, atol=1e-6)
    assert z.dtype == scaled.dtype == np.float32


@pytest.mark.parametrize("kind", norm.KINDS)
def test_there_and_back(kind):
    values = skewed(5000)
    stats = measured(values)
    back = unnormalise(normalise(values, stats, kind), stats, kind)
    np.testing.assert_allclose(back, values, rtol=1e-6, atol=1e-5 * np.ptp(values, axis=0).max())


@pytest.mark.parametrize("kind", norm.KINDS)
@pytest.mark.parametrize("constant", [0.0, 1.0, -350.0])
def test_a_constant_becomes_zero_and_comes_back(kind, constant):
    values = np.stack([np.full(1000, constant), np.linspace(0, 1, 1000)], axis=1)
    stats = measured(values)
    assert (normalise(values, stats, kind)[:, 0] == 0).all()
    noise = np.random.default_rng(1).normal(0, 1, (10, 2))
    assert (unnormalise(noise, stats, kind)[:, 0] == np.float32(constant)).all()


@pytest.mark.parametrize("kind", norm.KINDS)
def test_a_heavy_tail_on_next_to_nothing_does_not_blow_up(kind):
    values = np.ones((100_000, 1))
    values[::50_000] = 0.2  # one rotation in fifty thousand turns far
    stats = measured(values + np.random.default_rng(0).normal(0, 1e-6, values.shape))
    assert stats.std[0] < 0.01
    assert np.abs((values - stats.mean) / (stats.std + 1e-6)).max() > 200
    assert np.abs(normalise(values, stats, kind)).max() <= 20
    back = unnormalise(normalise(values, stats, kind), stats, kind)
    np.testing.assert_allclose(back, values, atol=1e-6)


def test_an_unknown_kind_is_an_error():
    with pytest.raises(UserError, match="normalise minmax: no such normalisation; there are mean"):
        normalise(np.zeros(2), STATS, "minmax")


def test_openpis_file_is_read_and_written(tmp_path):
    group = {name: getattr(STATS, name).tolist() for name in ("mean", "std", "q01", "q99")}
    path = tmp_path / "openpi.json"
    path.write_text(json.dumps({"norm_stats": {"state": group, "actions": group}}))
    read = norm.read(path)
    assert read.state.min is None
    assert (read.actions.q99 == STATS.q99).all()
    ours = NormStats(measured(skewed(100)), read.actions)
    norm.write(tmp_path / "assets" / "norm_stats.json", ours)
    again = norm.read(tmp_path / "assets" / "norm_stats.json")
    for name, value in vars(ours.state).items():
        assert np.array_equal(getattr(again.state, name), value), name
    written = json.loads((tmp_path / "assets" / "norm_stats.json").read_text())["norm_stats"]
    assert set(written["actions"]) == {"mean", "std", "q01", "q99"}
    assert set(written["state"]) == {"mean", "std", "q01", "q99", "min", "max", "count"}


GOOD = {"mean": [0], "std": [1], "q01": [-1], "q99": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("[]", "list indices"),
        ("{}", "'norm_stats' is missing"),
        (json.dumps({"norm_stats": {"state": GOOD}}), "'actions' is missing"),
        (json.dumps({"norm_stats": {"state": GOOD, "actions": {**GOOD, "q99": [1, 2]}}}),
         "not of one length"),
        (json.dumps({"norm_stats": {"state": {**GOOD, "std": [float("nan")]}, "actions": GOOD}}),
         "std is not finite"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_said_in_one_line(tmp_path, content, message):
    path = tmp_path / "norm_stats.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as found:
        norm.read(path)
    assert str(found.value).startswith(f"{path}: no normalisation statistics (")
    assert "\n" not in str(found.value)


def test_no_file_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot read normalisation statistics"):
        norm.read(tmp_path / "absent.json")


def test_statistics_for_the_wrong_dimension_are_an_error():
    stats = NormStats(STATS, STATS)
    assert checked(stats, 2, 2, "robot") is stats
    with pytest.raises(UserError, match=r"robot: its state has 9 numbers, .* for 2: compute"):
        checked(stats, 9, 2, "robot")
    with pytest.raises(UserError, match="source robot: its actions has 7 numbers"):
        checked(stats, 2, 7, "robot")
