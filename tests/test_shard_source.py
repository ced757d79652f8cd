"""Windows of real shards against the trajectories that were committed."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.curation import smoothed
from ego_ops.errors import UserError
from ego_ops.geometry.actions import IDENTITY, actions
from tests import shard_files
from training.config import SourceConfig
from training.data.sample import Source, Window
from training.data.shard_source import Part, ShardSource
from training.data.sources import open_source, open_sources, order

HORIZON = 5


def windows(source: Source) -> list[Window]:
    found = []
    for unit, count in enumerate(source.windows().tolist()):
        held = source.load(unit)
        found += [held.window(number) for number in range(count)]
    return found


def number(window: Window) -> int:
    return int(window.instruction.split()[-1])


def by_clip(source: Source) -> dict[int, list[Window]]:
    found: dict[int, list[Window]] = {}
    for window in windows(source):
        found.setdefault(number(window), []).append(window)
    return found


def test_windows_are_the_trajectories_that_were_committed(tmp_path):
    shard_files.simple(str(tmp_path), parts=3, clips=4, steps=8, side=224)
    source = ShardSource(SourceConfig(str(tmp_path)), HORIZON)
    found = by_clip(source)
    assert sorted(found) == list(range(12))
    for clip, each in found.items():
        steps = 8 + clip % 3
        truth = shard_files.trajectory(clip, steps)
        assert len(each) == steps - 1
        camera = RigidTransform.from_components(
            truth.camera_position, Rotation.from_quat(truth.camera_rotation)
        )
        thing = RigidTransform.from_components(truth.position, Rotation.from_quat(truth.rotation))
        seen = (camera.inv() * thing).as_matrix()
        moves = actions(truth.position, truth.rotation)
        for t, window in enumerate(each):
            assert window.instruction == f"pick up thing {clip}"
            (image,) = window.images.values()
            assert image.shape == (224, 224, 3)
            assert np.abs(image.astype(int) - shard_files.grey(clip, t)).max() <= 2
            state = np.concatenate([seen[t, :3, 3], seen[t, :3, 0], seen[t, :3, 1]])
            np.testing.assert_allclose(window.state, state, atol=1e-6)
            real = min(HORIZON, steps - 1 - t)
            assert window.valid.tolist() == [True] * real + [False] * (HORIZON - real)
            np.testing.assert_allclose(window.actions[:real], moves[t : t + real], atol=1e-6)
            assert (window.actions[real:] == IDENTITY).all()
            assert window.state.dtype == window.actions.dtype == np.float32


def test_actions_lead_from_state_to_state(tmp_path):
    """In a still camera the next state is this state moved on by this action."""
    clip, truth = shard_files.clip(0), shard_files.trajectory(0, 12)
    truth.camera_position[:] = truth.camera_position[0]
    truth.camera_rotation[:] = truth.camera_rotation[0]
    shard_files.write(str(tmp_path), [[(clip, truth)]])
    each = windows(ShardSource(SourceConfig(str(tmp_path)), HORIZON))

    def pose(numbers: np.ndarray) -> RigidTransform:
        x, y = numbers[3:6], numbers[6:9]
        turn = Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=1))
        return RigidTransform.from_components(numbers[:3], turn)

    for now, after in itertools.pairwise(each):
        reached = pose(now.state) * pose(now.actions[0])
        np.testing.assert_allclose(reached.as_matrix(), pose(after.state).as_matrix(), atol=1e-5)


def test_colours_come_as_red_green_blue(tmp_path):
    import cv2

    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 2] = 255  # red, as OpenCV orders colours
    truth = shard_files.trajectory(0, 2)
    truth.frames[:] = [cv2.imencode(".jpg", image)[1].tobytes()] * 2
    shard_files.write(str(tmp_path), [[(shard_files.clip(0), truth)]])
    (window,) = windows(ShardSource(SourceConfig(str(tmp_path)), HORIZON))
    red = window.images["base_0_rgb"].reshape(-1, 3).mean(0)
    assert red[0] > 250
    assert max(red[1:]) < 5


def test_smoothed_paths_are_those_of_curation(tmp_path):
    shard_files.simple(str(tmp_path), parts=1, clips=3, steps=9)
    found = by_clip(ShardSource(SourceConfig(str(tmp_path), smooth=5), 3))
    for clip, each in found.items():
        truth = shard_files.trajectory(clip, 9 + clip % 3)
        path = (np.float32(truth.position), np.float32(truth.rotation))
        moves = actions(*smoothed(*path, window=5))
        for t, window in enumerate(each):
            np.testing.assert_allclose(window.actions[0], moves[t], atol=1e-6)
    rough = by_clip(ShardSource(SourceConfig(str(tmp_path)), 3))
    assert np.abs(rough[0][2].actions[0] - found[0][2].actions[0]).max() > 1e-3


def test_statistics_see_each_window_once_and_no_picture(tmp_path):
    shard_files.simple(str(tmp_path), parts=2, clips=3, steps=6)
    source = ShardSource(SourceConfig(str(tmp_path)), HORIZON)
    for unit, count in enumerate(source.windows().tolist()):
        light, full = source.load(unit, pictures=False), source.load(unit)
        each = [full.window(n) for n in range(count)]
        np.testing.assert_array_equal(light.states(), [w.state for w in each])
        np.testing.assert_array_equal(light.steps(), [w.actions[0] for w in each])
        assert not light.window(0).images


def test_the_narration_falls_back_to_verb_and_object(tmp_path):
    from dataclasses import replace

    given = [shard_files.clip(n) for n in range(3)]
    given = [
        replace(given[0], narration="  #C C lifts a cup "),
        replace(given[1], narration="  "),
        replace(given[2], narration="", verb="lift", object=""),
    ]
    each = [(clip, shard_files.trajectory(n, 2)) for n, clip in enumerate(given)]
    shard_files.write(str(tmp_path), [each])
    found = windows(ShardSource(SourceConfig(str(tmp_path)), HORIZON))
    assert {w.instruction for w in found} == {"#C C lifts a cup", "pick up thing 1", "lift"}


def test_what_is_held_out_is_trained_on_nowhere(tmp_path):
    shard_files.simple(str(tmp_path), parts=4, clips=5, steps=4)
    config = SourceConfig(str(tmp_path))

    def clips(part: Part, share: float) -> set[int]:
        return set(by_clip(ShardSource(config, HORIZON, part, share)))

    for share in (0.01, 0.3, 0.99):
        train, kept = clips("train", share), clips("held_out", share)
        assert train
        assert kept
        assert not train & kept
        assert train | kept == set(range(20))
    assert clips("held_out", 0.3) == kept_of(clips, 0.3)
    assert clips("held_out", 0.1) <= clips("held_out", 0.3) <= clips("held_out", 0.8)
    with pytest.raises(UserError, match=r"no clip is left for held out \(held_out 0\)"):
        ShardSource(config, HORIZON, "held_out", 0.0)


def kept_of(clips: Callable[[Part, float], set[int]], share: float) -> set[int]:
    return set(range(20)) - clips("train", share)


def test_the_digest_changes_with_the_windows_alone(tmp_path):
    shard_files.simple(str(tmp_path / "a"), parts=2, clips=3, steps=5)
    (tmp_path / "b").mkdir()
    config = SourceConfig(str(tmp_path / "a"))
    digests = [
        ShardSource(config, HORIZON).digest,
        ShardSource(config, HORIZON + 1).digest,
        ShardSource(SourceConfig(config.path, smooth=3), HORIZON).digest,
        ShardSource(config, HORIZON, "train", 0.3).digest,
        ShardSource(config, HORIZON, "held_out", 0.3).digest,
    ]
    assert len(set(digests)) == 5
    moved = tmp_path / "b" / "c"
    (tmp_path / "a").rename(moved)
    named = SourceConfig(str(moved), name="x", weight=3.0, normalise="quantile")
    assert ShardSource(named, HORIZON).digest == digests[0]


def test_a_source_travels_to_workers_also_one_on_an_object_store(tmp_path):
    for url in (str(tmp_path / "shards"), "memory://shard-source/shards"):
        shard_files.simple(url, parts=2, clips=2, steps=4)
        source = ShardSource(SourceConfig(url), HORIZON)
        source.load(0)
        again = pickle.loads(pickle.dumps(source))
        assert (again.load(1).states() == source.load(1).states()).all()


def test_sources_of_a_mixture_need_names_of_their_own(tmp_path):
    shard_files.simple(str(tmp_path), parts=1, clips=2, steps=4)
    one = SourceConfig(str(tmp_path))
    other = SourceConfig(str(tmp_path), name="other", weight=3.0)
    found = open_sources([one, other], HORIZON)
    assert [source.name for source in found] == ["shards", "other"]
    drawn = [d.source for d in order(found, [one, other], 0).draws(range(4000))]
    assert drawn.count(1) == pytest.approx(3000, abs=16)
    with pytest.raises(UserError, match="two are called shards"):
        open_sources([one, one], HORIZON)
    with pytest.raises(UserError, match="the mixture has no sources"):
        open_sources([], HORIZON)
    with pytest.raises(UserError, match="kind tfds: there are shards and lerobot"):
        open_source(SourceConfig("x", kind="tfds"), HORIZON)


def test_the_index_holds_a_few_bytes_a_clip_and_reads_no_picture(tmp_path):
    clips, steps = 500, 4
    each = [(shard_files.clip(n), shard_files.trajectory(n, steps, 16)) for n in range(clips)]
    shard_files.write(str(tmp_path), [each])
    source = ShardSource(SourceConfig(str(tmp_path)), HORIZON)
    held = len(pickle.dumps(source)) / clips
    assert held < 16
    (part,) = tmp_path.glob("bucket=*/*.parquet")
    data = bytearray(part.read_bytes())
    columns = pq.read_metadata(part).row_group(0)
    used = "clip_id", "visible", "corpus", "video_uid"
    for at in range(columns.num_columns):
        column = columns.column(at)
        if column.path_in_schema.split(".")[0] not in used:
            first = min(o for o in (column.data_page_offset, column.dictionary_page_offset) if o)
            data[first : first + column.total_compressed_size] = bytes(column.total_compressed_size)
    part.write_bytes(data)
    assert ShardSource(SourceConfig(str(tmp_path)), HORIZON).digest == source.digest
    record = json.loads(next(tmp_path.glob("commits/*/*.json")).read_text())
    assert record["bytes"] == len(data)
