"""What a client asks, and what it is told: messages in and out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ego_ops.errors import UserError
from robot.encoding import pack
from robot.policy import Answer, Floats, Policy, PolicyError
from robot.protocol import KEY, VERSION

FEATURES = ["reset", "deadline", "jpeg"]
_MOST_MS = 3.6e6
_MOST_ID = 1 << 53


class Asked(NamedTuple):
    """A message of a client."""

    observation: dict[str, Any]
    """Empty where only `reset` is said."""
    id: int | None = None
    """None: the client speaks openpi's protocol only."""
    within: float | None = None
    """Seconds."""
    reset: bool = False
    prefix: Floats | None = None
    delay: int = 0


class AskError(PolicyError):
    """A message that is not one of the protocol.

    Args:
        id: of the request, where it has one.
        extended: whether the client at least knows the protocol's extension.
    """

    def __init__(self, message: str, id: int | None = None, extended: bool = True):
        super().__init__(message, "bad_request")
        self.id, self.extended = id, extended


def asked(message: object) -> Asked:
    """A decoded message.

    Raises:
        AskError: it is none of the protocol.
    """
    if not isinstance(message, dict):
        raise AskError("a message is a map with an observation", extended=False)
    if not all(isinstance(key, str) for key in message):
        raise AskError("an observation's keys are text", extended=KEY in message)
    if KEY not in message:
        return Asked(message)
    ask = message.pop(KEY)
    if not isinstance(ask, dict) or type(ask.get("id")) is not int:
        raise AskError(f"`{KEY}` is a map with an id, a whole number")
    id = ask["id"]
    if not 0 <= id < _MOST_ID:
        raise AskError("an id is from 0 to 2^53")
    reset, delay = ask.get("reset", False), ask.get("delay", 0)
    if not isinstance(reset, bool):
        raise AskError("reset is true or false", id)
    prefix = _prefix(ask.get("prefix"), id)
    if type(delay) is not int or not 0 <= delay <= (0 if prefix is None else len(prefix)):
        raise AskError("delay is a number of the prefix's actions", id)
    if not message and not reset:
        raise AskError("there is no observation", id)
    return Asked(message, id, _within(ask.get("deadline_ms"), id), reset, prefix, delay)


def size_of(value: object) -> int:
    """Bytes of the arrays and texts of a decoded message."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(size_of(key) + size_of(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return sum(map(size_of, value))
    return len(value) if isinstance(value, str | bytes) else 8


def _within(deadline_ms: object, id: int) -> float | None:
    if deadline_ms is None:
        return None
    number = isinstance(deadline_ms, int | float) and not isinstance(deadline_ms, bool)
    if not number or not 0 < deadline_ms <= _MOST_MS:  # type: ignore[operator]
        raise AskError("deadline_ms is a number of milliseconds, more than 0", id)
    return deadline_ms / 1000  # type: ignore[operator]


def _prefix(prefix: object, id: int) -> Floats | None:
    if prefix is None:
        return None
    if not isinstance(prefix, np.ndarray) or prefix.dtype.kind != "f" or prefix.ndim != 2:
        raise AskError("prefix is an array (actions, numbers)", id)
    if not np.isfinite(prefix).all():
        raise AskError("prefix has a number that is not finite", id)
    return prefix


def checked(answer: object) -> Answer | PolicyError:
    """What a policy says, if a robot can be told it."""
    if isinstance(answer, PolicyError):
        return answer
    if not isinstance(answer, Answer):
        return PolicyError(f"the policy's answer is no Answer but {type(answer).__name__}")
    actions = answer.actions
    if not isinstance(actions, np.ndarray) or actions.dtype.kind != "f":
        return PolicyError("the policy's actions are no array of floats")
    if actions.ndim != 2 or not actions.size:
        return PolicyError(f"the policy's actions are of shape {actions.shape}, not (steps, n)")
    if not np.isfinite(actions).all():
        step, number = np.argwhere(~np.isfinite(actions))[0]
        return PolicyError(f"the policy's action {step}, number {number} is not finite")
    if not isinstance(answer.extra, Mapping):
        return PolicyError("the policy's extra is no map")
    return answer


def packed(answer: Answer, timing: Mapping[str, float], told: Mapping[str, Any] | None) -> bytes:
    """An answer as bytes.

    Args:
        told: `robot.protocol.Told`; None for clients of openpi's protocol only.

    Raises:
        PolicyError: the policy's `extra` cannot be sent.
    """
    message = {**answer.extra, "actions": answer.actions, "server_timing": timing}
    if told is not None:
        message[KEY] = told
    try:
        return pack(message)
    except UserError as error:
        raise PolicyError(f"the policy's answer {error}") from error


def failed(id: int | None, error: PolicyError) -> bytes:
    """An error as the answer to a request; without an id, to a message that has none."""
    said = {"code": error.code, "message": str(error)[:2000]}
    return pack({KEY: {"error": said} if id is None else {"id": id, "error": said}})


def metadata(policy: Policy, max_bytes: int) -> bytes:
    """What the server says as a client connects: the policy's metadata, and `protocol.Offer`. What
    the policy has under `protocol.KEY` itself is the offer's too, its `features` in addition.

    Raises:
        UserError: the policy's metadata cannot be sent.
    """
    own = dict(policy.metadata.get(KEY, {}))
    features = [*FEATURES, *own.pop("features", [])]
    told = {
        name: policy.metadata[name]
        for name in ("fps", "horizon", "actions")
        if name in policy.metadata
    }
    offer = {"version": VERSION, "batch": policy.batch, "max_bytes": max_bytes, **told, **own}
    return pack({**policy.metadata, KEY: {**offer, "features": features}})


def milliseconds(seconds: float) -> float:
    """Rounded to microseconds, so that it is short in a log."""
    return round(1000 * seconds, 3) if math.isfinite(seconds) else 0.0
