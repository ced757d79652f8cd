"""Ego-motion and a carried object on real EgoDex clips, against recorded poses and hands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy.spatial.transform import RigidTransform

from bench import real_egodex as real
from ego_ops.extraction import Perceived
from ego_ops.geometry import metrics
from ego_ops.geometry.view import View
from ego_ops.perception.geometric import GeometricPipeline

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "egodex"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real EgoDex clips are not beside this checkout"
)


@pytest.fixture(scope="module", params=[real.STAPLER, real.LID])
def camera(request: pytest.FixtureRequest) -> tuple[View, dict[str, RigidTransform]]:
    background = real.background_of(real.clip_of(str(DATA), request.param), fps=20.0)
    return background, real.camera_paths(background)


@pytest.fixture(scope="module")
def stapler() -> tuple[Perceived, dict[str, RigidTransform]]:
    clip = real.clip_of(str(DATA), real.STAPLER)
    perceived = GeometricPipeline(fps=30.0).perceive(clip)
    return perceived, real.object_paths(perceived, real.background_of(clip, fps=30.0))


@pytest.mark.parametrize("method", ["pictures_alone", "joint, triangulated", "joint, network_like"])
def test_the_camera_is_found_without_its_recorded_poses(
    camera: tuple[View, dict[str, RigidTransform]], method: str
) -> None:
    background, paths = camera
    error = real.path_error(paths[method], background.path)
    assert error["path_cm"] > 8
    assert error["ate_percent"] < 3
    assert error["rotation_median_deg"] < 0.5
    assert error["rotation_max_deg"] < 0.8
    # A camera that does not move, as truth would have it, fails this by far.
    still = real.path_error(metrics.static(paths[method]), background.path)
    assert still["ate_percent"] > 2 * error["ate_percent"]


def held(perceived: Perceived, path: RigidTransform) -> dict[str, Any]:
    return real.with_hand(real.clip_of(str(DATA), real.STAPLER), perceived, path)


@pytest.mark.parametrize("method", ["solve", "joint, at_rest", "joint, throughout"])
def test_a_carried_object_stays_with_the_fingertips(
    stapler: tuple[Perceived, dict[str, RigidTransform]], method: str
) -> None:
    perceived, paths = stapler
    off = held(perceived, paths[method])["recorded_clock"]
    assert off["median_cm"] < 1.5
    assert off["p90_cm"] < 3.0
    left_lying = held(perceived, metrics.static(paths[method]))["recorded_clock"]
    assert left_lying["median_cm"] > 5


def test_the_hands_clock_lags_behind_the_cameras(
    stapler: tuple[Perceived, dict[str, RigidTransform]],
) -> None:
    """Optical flow at the joints says so; the object, which knows nothing of it, says so too."""
    perceived, paths = stapler
    off = held(perceived, paths["solve"])
    assert off["flow_clock"]["median_cm"] < off["recorded_clock"]["median_cm"]
