"""The metric scale of a camera's path from an IMU, against simulated truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import PosePath
from ego_ops.clip import Clip
from ego_ops.errors import AnnotationError, Rejection
from ego_ops.geometry.imu import Constants, Readings
from ego_ops.geometry.inertial import MetricPath, metric_path
from ego_ops.geometry.relative_path import relative_path
from ego_ops.perception.ego_path import with_path
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks
from ego_ops.recording import Recording
from ego_ops.synthetic.motion import head
from tests.simulated import CAMERA
from tests.worn import Path, Worn, swaying, worn


def found(case: Worn) -> MetricPath:
    relative = relative_path(CAMERA, case.xy, case.visible, case.times)
    return metric_path(relative, case.times, case.imu)


DEMO_UP = np.array([0.0, 9.81, 0.0])


def demo_head(seed: int) -> Path:
    """A head as the demo corpus moves it, above a table 40 cm lower and as far ahead."""
    rng = np.random.default_rng(seed)
    return head(rng, [0.0, 0.4, 0.0], [0.02, 0.1, -0.45], 1.6, rng.uniform(0.055, 0.07))


def scale_error(case: Worn, path: RigidTransform) -> float:
    """Share by which a path is too long."""
    true = case.path.translation
    return float((path.translation * true).sum() / (true**2).sum() - 1)


def turned(a: Rotation, b: Rotation) -> float:
    return float((a.inv() * b).magnitude().max())


def check(case: Worn) -> float:
    """What must hold of a clip with enough in it; returns the scale's error."""
    result = found(case)
    error = scale_error(case, result.path)
    assert abs(error) < min(0.10, 3 * result.scale_sd)
    assert turned(case.path.rotation, result.path.rotation) < np.radians(0.3)
    assert turned(case.turn, result.constants.turn) < np.radians(1.0)
    assert result.constants.offset == pytest.approx(0.02, abs=0.004)
    gravity = result.constants.gravity
    cosine = gravity @ case.gravity / 9.81 / np.linalg.norm(gravity)
    assert np.arccos(min(cosine, 1.0)) < np.radians(2.0)
    return error


def test_a_swaying_head_is_measured_to_a_few_percent():
    found = [check(worn(swaying(seed), seed)) for seed in range(3)]
    assert np.median(np.abs(found)) < 0.02


def test_heads_of_the_demo_corpus_are_measured_to_a_few_percent():
    errors = [check(worn(demo_head(k), k, up=DEMO_UP)) for k in range(3)]
    assert np.median(np.abs(errors)) < 0.05


def test_a_poor_sensor_knows_that_it_is_poor():
    """Ten times the noise: right within its own uncertainty, or turned down."""
    taken, refused = [], []
    for seed in range(3):
        case = worn(demo_head(seed), seed, up=DEMO_UP, accel_noise=0.2, gyro_noise=0.02)
        try:
            taken.append((case, found(case)))
        except Rejection as rejection:
            refused.append(rejection)
    assert refused
    for rejection in refused:
        assert rejection.reason == "no_metric_scale"
        assert "8% are needed" in rejection.detail
    for case, result in taken:
        assert abs(scale_error(case, result.path)) < 3 * result.scale_sd


def test_an_even_motion_tells_no_scale():
    def path(times: np.ndarray) -> RigidTransform:
        turn = 0.1 * np.sin(2 * np.pi * np.array([0.3, 0.4, 0.5]) * times[:, None])
        return RigidTransform.from_components(
            np.array([0.1, 0.02, 0.0]) * times[:, None], Rotation.from_rotvec(turn)
        )

    with pytest.raises(Rejection) as caught:
        found(worn(path))
    assert caught.value.reason == "no_metric_scale"
    assert "8%" in caught.value.detail


def test_a_sensor_of_another_head_is_turned_down():
    case = worn(swaying(0))
    other = worn(swaying(7), 7)
    with pytest.raises(Rejection) as caught:
        found(replace(case, imu=other.imu))
    assert caught.value.reason == "no_metric_scale"


def test_missing_readings_are_named():
    case = worn(swaying(0))
    relative = relative_path(CAMERA, case.xy, case.visible, case.times)
    imu = case.imu
    some = (imu.times < 1.0) | (imu.times > 1.4)
    short = replace(imu, times=imu.times[some], gyro=imu.gyro[some], accel=imu.accel[some])
    for wrong in (short, replace(imu, times=imu.times + 60)):
        with pytest.raises(Rejection, match="gap of") as caught:
            metric_path(relative, case.times, wrong)
        assert caught.value.reason == "no_metric_scale"


def test_a_wrong_unit_is_named():
    case = worn(swaying(0))
    imu = replace(case.imu, accel=case.imu.accel / 9.81)
    with pytest.raises(AnnotationError, match="is the unit g"):
        Readings(imu, case.times)


def test_readings_add_up_to_the_motion():
    """Without noise, to what the sensor did from frame to frame."""
    path = swaying(0, turning=0.3)
    case = worn(path, seconds=2.0, accel_noise=0.0, gyro_noise=0.0, bias=0.0)
    none = np.zeros(3)
    constants = Constants(1.0, case.gravity, none, none, case.turn, case.lever, 0.02)
    rotation, velocity, shift = Readings(case.imu, case.times).moves(constants)
    times, h = case.times, 1e-4
    axes = path(times).rotation * case.turn
    place = path(times).apply(case.lever)
    speed = (path(times + h).apply(case.lever) - path(times - h).apply(case.lever)) / (2 * h)
    fall = path(times[:1]).rotation.apply(case.gravity) / 20
    assert turned(axes[:-1].inv() * axes[1:], rotation) < 1e-5
    assert velocity == pytest.approx(axes[:-1].inv().apply(np.diff(speed, axis=0) - fall), abs=1e-4)
    assert shift == pytest.approx(
        axes[:-1].inv().apply(np.diff(place, axis=0) - speed[:-1] / 20 - fall / 40), abs=1e-5
    )


CLIP = Clip("0" * 16, "any", "1", "v", "/nowhere", "v.mp4", "v.json", 0.0, 4.0, "Takes a cup.")


def scene_of(case: Worn, recording: Recording) -> tuple[Scene, Tracks]:
    """A scene whose picture nothing looks at."""
    gray = np.zeros((len(case.times), 2, 2), np.uint8)
    tracks = Tracks(case.xy, case.visible, case.visible.argmax(0))
    return Scene(gray, case.times, CAMERA, recording), tracks


def test_the_pipeline_takes_the_imu_where_no_path_is_recorded():
    case = worn(swaying(1), 1)
    _, path = with_path(CLIP, *scene_of(case, Recording(CAMERA, imu=case.imu)))
    assert abs(scale_error(case, path)) < 0.05
    # A recorded path is believed before any IMU.
    recorded = RigidTransform.from_components(2 * case.path.translation, case.path.rotation)
    times = np.concatenate(([-1.0], case.times[1:-1], [5.0]))
    both = Recording(CAMERA, path=PosePath(times, recorded), imu=case.imu)
    _, path = with_path(CLIP, *scene_of(case, both))
    assert path.translation[5:-5] == pytest.approx(recorded.translation[5:-5], abs=0.02)


def test_without_any_scale_the_line_says_what_would_help():
    case = worn(swaying(1), 1)
    with pytest.raises(Rejection) as caught:
        with_path(CLIP, *scene_of(case, Recording(CAMERA)))
    assert caught.value.reason == "no_metric_scale"
    for word in ("path", "depth", "IMU"):
        assert word in caught.value.detail
