"""Raw messages of openpi's clients as what a policy sees: a layout for each kind of robot.

    tabletop   observation/image, observation/wrist_image if there is one, observation/state (10)
    ours       observation/images/CAMERA by π0's names of cameras, as many as there are;
               observation/state
    libero     observation/image, observation/wrist_image, observation/state (8)
    droid      observation/exterior_image_1_left, observation/wrist_image_left,
               observation/joint_position (7), observation/gripper_position (1)
    aloha      images/cam_high, images/cam_left_wrist, images/cam_right_wrist, state (14)

All have the instruction as `prompt`. A key may be one with slashes in it, or maps within maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from robot.policy import PolicyError
from training.data.sample import CAMERAS
from training.policy import Sight

_LONGEST_PROMPT = 2000
"""Characters. Instructions are cached as tokens: they must not fill the memory."""
_POSE = 9
"""Numbers of a state of things that move, see `sim_eval.policies.checkpoint_files`."""


class Layout(NamedTuple):
    """Where a robot's message has what a policy needs."""

    images: Mapping[str, str]
    """Key by π0's name of the camera."""
    state: tuple[str, ...]
    """Keys whose numbers, one after another, are the state."""
    sparse: bool = False
    """Whether a message may lack pictures, as long as it has one."""
    pose: bool = False
    """Whether the first nine numbers of the state are a gripper's pose, which is all that a policy
    trained on things that move is told."""


_BASE, _LEFT, _RIGHT = CAMERAS
_ARM = {_BASE: "observation/image", _LEFT: "observation/wrist_image"}
LAYOUTS: Mapping[str, Layout] = {
    "tabletop": Layout(_ARM, ("observation/state",), sparse=True, pose=True),
    "ours": Layout(
        {camera: f"observation/images/{camera}" for camera in CAMERAS},
        ("observation/state",),
        sparse=True,
    ),
    "libero": Layout(_ARM, ("observation/state",)),
    "droid": Layout(
        {_BASE: "observation/exterior_image_1_left", _LEFT: "observation/wrist_image_left"},
        ("observation/joint_position", "observation/gripper_position"),
    ),
    "aloha": Layout(
        {
            _BASE: "images/cam_high",
            _LEFT: "images/cam_left_wrist",
            _RIGHT: "images/cam_right_wrist",
        },
        ("state",),
    ),
}


class Reader:
    """Reads messages for one policy.

    Args:
        name: of `LAYOUTS`.
        cameras: the policy's.
        state_size: what it is told.

    Raises:
        UserError: it sees by no camera of these messages.
    """

    def __init__(self, name: str, cameras: Sequence[str], state_size: int):
        self._name, self._layout, self._size = name, LAYOUTS[name], state_size
        self._images = {c: self._layout.images[c] for c in cameras if c in self._layout.images}
        if not self._images:
            raise UserError(
                f"--observation {name}: has {', '.join(self._layout.images)}, the policy sees by "
                f"{', '.join(cameras)}: take another of the two"
            )
        self.missing = tuple(camera for camera in cameras if camera not in self._images)
        """Cameras that the policy was trained with and is never shown."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those that it is shown."""
        return tuple(self._images)

    def sight(self, message: Mapping[str, Any]) -> Sight:
        """What a message shows. Pictures are (H, W, 3) or (3, H, W), uint8, or float from 0 to 1.

        Raises:
            PolicyError: of code `bad_request`: a key that is missing, or what is wrong with it.
        """
        images = {}
        for camera, key in self._images.items():
            found = _find(message, key)
            if found is not None:
                images[camera] = picture(key, found)
            elif not self._layout.sparse:
                raise self._lacks(key, message)
        if not images:
            raise self._lacks(" or ".join(self._images.values()), message)
        return Sight(images, self._prompt(message), self._state(message))

    def _prompt(self, message: Mapping[str, Any]) -> str:
        prompt = _find(message, "prompt")
        if prompt is None:
            raise self._lacks("prompt", message)
        if not isinstance(prompt, str) or len(prompt) > _LONGEST_PROMPT:
            found = f"{len(prompt)} characters" if isinstance(prompt, str) else _form(prompt)
            raise _bad(f"prompt: text of at most {_LONGEST_PROMPT} characters; this is {found}")
        return prompt

    def _state(self, message: Mapping[str, Any]) -> NDArray[np.float32]:
        parts = []
        for key in self._layout.state:
            found = _find(message, key)
            if found is None:
                raise self._lacks(key, message)
            numbers = _numbers(found)
            if numbers.ndim != 1 or not np.isfinite(numbers).all():
                raise _bad(f"{key}: finite numbers in one row; this is {_form(found)}")
            parts.append(numbers)
        state = np.concatenate(parts)
        if self._layout.pose and len(state) > self._size == _POSE:
            return state[:_POSE]
        if len(state) != self._size:
            keys = " and ".join(self._layout.state)
            raise _bad(f"{keys}: shape ({self._size},) is what the policy takes, not {state.shape}")
        return state

    def _lacks(self, key: str, message: Mapping[str, Any]) -> PolicyError:
        there = ", ".join(str(each)[:60] for each in list(message)[:12]) or "nothing"
        return _bad(f"no {key} in the message (--observation {self._name}); it has {there}")


def picture(key: str, value: Any) -> NDArray[np.uint8]:
    """A picture of a message as (H, W, 3) uint8 RGB.

    Raises:
        PolicyError: it is none.
    """
    image = np.asarray(value) if isinstance(value, np.ndarray) else np.empty(0)
    if image.ndim == 3 and image.shape[0] == 3 and image.shape[2] != 3:
        image = np.ascontiguousarray(np.moveaxis(image, 0, 2))
    if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype.kind not in "uf":
        raise _bad(f"{key}: a picture is (H, W, 3) or (3, H, W); this is {_form(value)}")
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    if image.dtype.kind != "f":
        raise _bad(f"{key}: a picture is of uint8, or of float from 0 to 1; this is {_form(value)}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # also of NaN
        raise _bad(f"{key}: a picture of floats goes from 0 to 1, this from {low:g} to {high:g}")
    return np.rint(image * 255).astype(np.uint8)


def _find(message: Mapping[str, Any], key: str) -> Any:
    """What is under a key, or under its parts in maps within maps; None if nothing is."""
    if key in message:
        return message[key]
    first, slash, rest = key.partition("/")
    inner = message.get(first) if slash else None
    return _find(inner, rest) if isinstance(inner, Mapping) else None


def _numbers(value: Any) -> NDArray[np.float32]:
    """A number or several as an array; (0, 0) of what is none."""
    if isinstance(value, np.ndarray | np.generic):
        numeric = value.dtype.kind in "fiu"
    else:
        many = value if isinstance(value, list | tuple) else [value]
        numeric = all(isinstance(one, int | float) for one in many)
    if not numeric:
        return np.empty((0, 0), np.float32)
    with np.errstate(over="ignore"):  # beyond float32 is infinite
        return np.atleast_1d(np.asarray(value, np.float64)).astype(np.float32)


def _form(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape} of {value.dtype}"
    return type(value).__name__


def _bad(text: str) -> PolicyError:
    return PolicyError(text, "bad_request")
