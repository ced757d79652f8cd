"""What a client sends, and what it makes of what it hears."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from robot.encoding import EncodingError, Limits, pack, picture, unpack
from robot.protocol import KEY, Offer


class Malformed(Exception):
    """Something that is no answer.

    Args:
        id: of the request that it is to, where it says so.
    """

    def __init__(self, why: str, id: int | None = None):
        super().__init__(why)
        self.id = id


class Heard(NamedTuple):
    """An answer."""

    id: int | None
    """None: the server speaks openpi's protocol only."""
    actions: NDArray[np.floating] | None = None
    """(H, A), finite; None to an error, or where only a reset was asked for."""
    message: Mapping[str, Any] = {}
    error: tuple[str, str] | None = None
    """Code and message."""


def offer(data: bytes | str, limits: Limits) -> tuple[dict[str, Any], Offer | None]:
    """A server's metadata, and what it can do besides openpi's protocol.

    Raises:
        Malformed: it is none.
    """
    metadata = _map(data, limits)
    found = metadata.get(KEY)
    if found is None:
        return metadata, None
    features = found.get("features") if isinstance(found, dict) else None
    if not isinstance(features, list) or type(found.get("version")) is not int:
        raise Malformed(f"the metadata's `{KEY}` is no offer of the protocol")
    return metadata, found


def heard(data: bytes, limits: Limits, extended: bool) -> Heard:
    """An answer, of a server of the extended protocol or not.

    Raises:
        Malformed: it is none.
    """
    message = _map(data, limits)
    if not extended:
        return Heard(None, _actions(message, None), message)
    told = message.pop(KEY, None)
    id = told.get("id") if isinstance(told, dict) else None
    if not isinstance(told, dict) or type(id) is not int:
        raise Malformed("an answer without an id")
    message["told"] = told
    error = told.get("error")
    if error is not None:
        if not isinstance(error, dict) or not all(isinstance(x, str) for x in error.values()):
            raise Malformed("an error that says nothing", id)
        return Heard(id, error=(error.get("code", "?"), error.get("message", "")), message=message)
    if "actions" not in message:
        return Heard(id, message=message)
    return Heard(id, _actions(message, id), message)


def packed(
    message: Mapping[str, Any],
    ask: Mapping[str, Any],
    id: int,
    within: float,
    offer: Offer | None,
    quality: int,
) -> bytes:
    """A request as bytes, with nothing that the server does not offer to know.

    Args:
        ask: `reset`, `prefix`, `delay` of `robot.protocol.Ask`.
        quality: of JPEGs; 0 for none.

    Raises:
        UserError: it cannot be sent.
    """
    if offer is None:
        return pack(message)
    features = offer["features"]
    asked: dict[str, Any] = {"id": id, "deadline_ms": 1000 * within}
    if ask.get("reset"):
        asked["reset"] = True
    if "prefix" in features and ask.get("prefix") is not None:
        asked |= {"prefix": ask["prefix"], "delay": ask.get("delay", 0)}
    if quality and "jpeg" in features:
        message = jpegs(message, quality)
    return pack({**message, KEY: asked})


def jpegs(value: Any, quality: int) -> Any:
    """A message with its (H, W, 3) uint8 RGB arrays as JPEGs.

    Raises:
        UserError: a picture cannot be encoded.
    """
    if isinstance(value, Mapping):
        return {key: jpegs(each, quality) for key, each in value.items()}
    array = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3
    if not array or value.shape[2] != 3 or not value.size:
        return value
    bgr = cv2.cvtColor(value, cv2.COLOR_RGB2BGR)
    good, found = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise UserError(f"a picture of shape {value.shape} cannot be sent as a JPEG")
    return picture(found.tobytes())


def _map(data: bytes | str, limits: Limits) -> dict[str, Any]:
    if isinstance(data, str):
        raise Malformed(f"the server says: {' '.join(data.split())[-300:]}")
    try:
        message = unpack(data, limits)
    except EncodingError as error:
        raise Malformed(str(error)) from error
    if not isinstance(message, dict):
        raise Malformed("it is no map")
    return message


def _actions(message: Mapping[str, Any], id: int | None) -> NDArray[np.floating]:
    actions = message.get("actions")
    if not isinstance(actions, np.ndarray) or actions.dtype.kind != "f":
        raise Malformed("its actions are no array of floats", id)
    if actions.ndim != 2 or not actions.size or not np.isfinite(actions).all():
        raise Malformed(f"its actions, of shape {actions.shape}, are not (H, A), finite", id)
    return actions
