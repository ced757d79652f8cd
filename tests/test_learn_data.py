"""Shards made from the truth of synthetic scenes are what training takes, and true."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from bench import learn_data
from ego_ops.synthetic.scene import sample_scene
from training.action_error import motions, path
from training.config import SourceConfig
from training.data.shard_source import ShardSource

if importlib.util.find_spec("mujoco") is None:  # importing it would settle how it renders
    pytest.skip("the extra `demo` is not installed", allow_module_level=True)


def test_windows_of_made_up_clips_lead_where_the_thing_goes(tmp_path):
    learn_data.make(str(tmp_path), clips=1, seed=4, workers=1)
    scene = sample_scene(4, 0)
    times = learn_data.cut(scene, np.random.default_rng([4, 0, 3]))
    source = ShardSource(SourceConfig(str(tmp_path)), horizon=len(times) - 1)
    unit = source.load(0)
    assert source.windows().tolist() == [len(times) - 1]
    assert unit.window(0).images["base_0_rgb"].shape == (224, 224, 3)
    assert "box" in unit.window(0).instruction

    thing, camera = scene.object(times), scene.camera(times)
    first = unit.window(0)
    places = path(motions(first.actions)).translation
    # The object's frame is turned as the first camera is.
    truth = camera[0].rotation.inv().apply(thing[1:].translation - thing[0].translation)
    np.testing.assert_allclose(places, truth, atol=1e-5)
    assert np.linalg.norm(truth, axis=1).max() > 0.1
    for number in (0, 30):
        state = unit.window(number).state
        seen = camera[number].inv() * thing[number]
        np.testing.assert_allclose(state[:3], seen.translation, atol=1e-5)
        turned = seen.rotation * _upright(thing, camera)
        np.testing.assert_allclose(state[3:], turned.as_matrix().T[:2].ravel(), atol=1e-5)


def _upright(thing: RigidTransform, camera: RigidTransform) -> Rotation:
    """From the object's frame in shards to that of the scene's mesh."""
    return (camera[0].inv() * thing[0]).rotation.inv()
