"""Messages of each robot, as what a policy sees; and what is said of those that are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ego_ops.errors import UserError
from robot.policy import PolicyError
from sim_eval.suites.tabletop import Tabletop
from workflows.served_observations import Reader

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
CHANCE = np.random.default_rng(0)


def picture(side: int = 40) -> np.ndarray:
    return CHANCE.integers(0, 256, (side, side + 8, 3), np.uint8)


def state(size: int) -> np.ndarray:
    return CHANCE.normal(size=size).astype(np.float32)


BASE, LEFT, RIGHT = picture(), picture(), picture()
STATES = {size: state(size) for size in (7, 8, 9, 10, 14)}
GRIPPER = np.array([0.5])
MESSAGES: dict[str, tuple[dict[str, Any], dict[str, np.ndarray], np.ndarray]] = {
    "tabletop": (
        {"observation/image": BASE, "observation/state": STATES[10]},
        {"base_0_rgb": BASE},
        STATES[10],
    ),
    "ours": (
        {"observation/images/right_wrist_0_rgb": RIGHT, "observation/state": STATES[8]},
        {"right_wrist_0_rgb": RIGHT},
        STATES[8],
    ),
    "libero": (
        {
            "observation/image": BASE,
            "observation/wrist_image": LEFT,
            "observation/state": STATES[8],
        },
        {"base_0_rgb": BASE, "left_wrist_0_rgb": LEFT},
        STATES[8],
    ),
    "droid": (
        {
            "observation/exterior_image_1_left": BASE,
            "observation/wrist_image_left": LEFT,
            "observation/joint_position": STATES[7],
            "observation/gripper_position": GRIPPER,
        },
        {"base_0_rgb": BASE, "left_wrist_0_rgb": LEFT},
        np.concatenate([STATES[7], GRIPPER]),
    ),
    "aloha": (
        {
            "images": {
                "cam_high": np.moveaxis(BASE, 2, 0),
                "cam_low": np.moveaxis(BASE, 2, 0),
                "cam_left_wrist": np.moveaxis(LEFT, 2, 0),
                "cam_right_wrist": np.moveaxis(RIGHT, 2, 0),
            },
            "state": STATES[14],
        },
        {"base_0_rgb": BASE, "left_wrist_0_rgb": LEFT, "right_wrist_0_rgb": RIGHT},
        STATES[14],
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_of_each_robot(name: str) -> None:
    message, images, wanted = MESSAGES[name]
    reader = Reader(name, CAMERAS, len(wanted))
    for said in (message, _nested(message)):
        sight = reader.sight({**said, "prompt": "lift"})
        assert sight.instruction == "lift"
        np.testing.assert_array_equal(sight.state, wanted.astype(np.float32))
        assert list(sight.images) == list(images)
        for camera, image in images.items():
            np.testing.assert_array_equal(sight.images[camera], image)


def _nested(message: dict[str, Any]) -> dict[str, Any]:
    """The same with maps within maps in place of slashes."""
    made: dict[str, Any] = {}
    for key, value in message.items():
        *path, last = key.split("/")
        inner = made
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return made


def test_the_suites_own_message() -> None:
    """What `egoscaler evaluate` sends."""
    suite = Tabletop()
    environment = suite.environment()
    environment.reset("stack_cube", 1)
    shown = environment.observe()
    environment.close()
    for size in (10, 9):  # the second: trained on things that move
        sight = Reader("tabletop", CAMERAS[:1], size).sight(suite.message(shown))
        np.testing.assert_array_equal(sight.images["base_0_rgb"], shown.images["base_0_rgb"])
        np.testing.assert_array_equal(sight.state, shown.state[:size].astype(np.float32))
        assert sight.instruction == shown.instruction


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_pictures_of_floats(kind: type) -> None:
    message, _, wanted = MESSAGES["libero"]
    told = {**message, "prompt": "x", "observation/image": (BASE / 255).astype(kind)}
    sight = Reader("libero", CAMERAS, len(wanted)).sight(told)
    np.testing.assert_array_equal(sight.images["base_0_rgb"], BASE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observation/wrist_image": None}, "no observation/wrist_image in the message.*has obs"),
        ({"observation/image": BASE[..., :2]}, r"observation/image: .*this is \(40, 48, 2\) of u"),
        ({"observation/image": BASE.astype(np.int32)}, r"observation/image: .* of int32"),
        ({"observation/image": BASE.astype(np.uint16)}, r"observation/image: .* of uint16"),
        ({"observation/image": BASE.astype(np.float32)}, "from 0 to 1, this from 0 to 255"),
        ({"observation/image": np.full(BASE.shape, np.nan)}, "from 0 to 1, this from nan to nan"),
        ({"observation/image": np.zeros((0, 5, 3), np.uint8)}, r"this is \(0, 5, 3\)"),
        ({"observation/image": "a picture"}, "this is str"),
        ({"observation/state": STATES[7]}, r"observation/state: shape \(8,\) is .*not \(7,\)"),
        ({"observation/state": STATES[8][None]}, r"observation/state: finite numbers .*\(1, 8\)"),
        ({"observation/state": STATES[8] * np.nan}, "observation/state: finite numbers"),
        ({"observation/state": np.full(8, 1e300)}, "observation/state: finite numbers"),
        ({"observation/state": ["a"] * 8}, "observation/state: finite numbers.*list"),
        ({"observation/state": None}, "no observation/state in the message"),
        ({"prompt": None}, "no prompt in the message"),
        ({"prompt": 3}, "prompt: text.*int"),
        ({"prompt": "x" * 2001}, "prompt: text.*2001"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_message_is_said(change: dict[str, Any], said: str) -> None:
    told = {**MESSAGES["libero"][0], "prompt": "lift", **change}
    told = {key: value for key, value in told.items() if value is not None}
    with pytest.raises(PolicyError, match=said) as caught:
        Reader("libero", CAMERAS, 8).sight(told)
    assert caught.value.code == "bad_request"
    assert "\n" not in str(caught.value)


def test_no_camera_of_both() -> None:
    with pytest.raises(UserError, match=r"--observation libero: has base_0_rgb.*sees by righ"):
        Reader("libero", CAMERAS[2:], 8)
    assert Reader("libero", CAMERAS, 8).missing == CAMERAS[2:]
