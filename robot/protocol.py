"""openpi's websocket protocol, and what this server and client add to it.

openpi's, to the letter: as a client connects, the server sends one binary message, a map of the
policy's metadata. Then each binary message of the client, a map with an observation, is answered
by one, in order: a map with `actions` (H, A), and `server_timing` (`infer_ms`, from the second
answer on `prev_total_ms`). An error is the traceback or line of it as a text message, after which
the server closes with 1011. `GET /healthz` on the same port is `200 OK` with body "OK\\n". A client
may send the header `Authorization: Api-Key TOKEN` (or `Bearer TOKEN`).

Added: metadata has a map under the key `egoscaler` (`Offer`). A client that knows it may put a map
under the same key into a message (`Ask`), and then

- requests have an `id`, and several may be under way on a connection; answers come as they are
  ready, with the `id` and the times of the stages under `egoscaler` (`Told`);
- an error is an answer, `{"egoscaler": {"id": ..., "error": {"code", "message"}}}`, and the
  connection stays; only a message that cannot be decoded at all ends it, with 1007 (after a text
  message that says why) or 1009; a message whose `id` cannot be read has an error without one;
- `deadline_ms` after its arrival nobody needs the answer any more: it is dropped unanswered by the
  policy, with error `deadline`;
- `reset` says that an episode begins with this observation; a message with nothing but `egoscaler`
  and `reset` in it is answered by `{"egoscaler": {"id": ...}}`;
- a picture may be a JPEG: `{b"__jpeg__": true, b"data": bytes}` in place of its array;
- `prefix` and `delay` are real-time chunking's (arXiv 2506.07339).

Forms and limits of what is inside a message are in `robot.encoding`.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

KEY = "egoscaler"
VERSION = 1

CODES = {
    "bad_request": "the message is not one of the protocol, or not what the policy takes",
    "deadline": "the answer would have come too late, or did",
    "busy": "too many requests are waiting",
    "policy_error": "the policy failed at this request",
    "reloading": "the policy is not there for the moment",
    "draining": "the server is shutting down: connect again",
}
"""Errors of a request, by code."""


class Offer(TypedDict):
    """What the server can do, in its metadata."""

    version: int
    batch: int
    """Most requests of one call of the policy."""
    features: list[str]
    """Of `reset`, `deadline`, `jpeg`, and `prefix` if the policy uses it."""
    max_bytes: int
    """Of a message."""
    fps: NotRequired[float]
    """Actions of a chunk a second."""
    horizon: NotRequired[int]
    actions: NotRequired[str]
    """What actions are: see `robot.chunk`."""


class Ask(TypedDict):
    """Of a request."""

    id: int
    deadline_ms: NotRequired[float]
    """Milliseconds from its arrival: clocks of two machines do not agree."""
    reset: NotRequired[bool]
    prefix: NotRequired[Any]
    """(P, A) array: what the robot is going to do from the observation on, as actions: what remains
    of the chunk that it is doing, and its way to that chunk."""
    delay: NotRequired[int]
    """How many of those will have been done before the answer is there."""


class Told(TypedDict):
    """Of an answer."""

    id: int
    queue_ms: NotRequired[float]
    infer_ms: NotRequired[float]
    total_ms: NotRequired[float]
    """From the message's arrival to the sending of the answer."""
    batch: NotRequired[int]
    """Requests that were answered by the same call."""
    error: NotRequired[dict[str, str]]
    """`code` and `message`."""
