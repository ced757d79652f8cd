"""When in a clip which thing is moved: as its corpus annotates it, or as a vision model says.

The vision model is any that speaks OpenAI's chat completions with pictures: GPT-4o, as EgoScaler
has it (Yoshida et al. 2025), or one served by vLLM, SGLang and others.
"""

from __future__ import annotations

import base64
import functools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.clip import Clip
from ego_ops.corpora import sentence
from ego_ops.errors import Rejection, UserError
from ego_ops.options import wrong
from ego_ops.perception.learned import endpoint_answer, endpoint_client
from ego_ops.perception.learned.endpoint_answer import Located, Unusable
from ego_ops.perception.learned.endpoint_cache import AnswerCache, Asked, digest
from ego_ops.perception.learned.endpoint_client import Reply, Server
from ego_ops.video import SLACK

__all__ = ["AnnotatedLocation", "Located", "Locator", "VisionEndpoint", "default_cache"]

log = logging.getLogger(__name__)

Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]

CHEAP_SIDE = 512
"""Pixels up to which OpenAI takes a picture whole, at its lowest price."""


class Locator(Protocol):
    """Says when in a clip which thing is moved."""

    def locate(self, clip: Clip, times: NDArray[np.float64], images: Images) -> Located:
        """From T frames (H, W, 3) RGB at `times` (T,), seconds from the start of the video.

        Raises:
            Rejection: it cannot be told (`not_localised`).
        """


@dataclass(frozen=True)
class AnnotatedLocation:
    """The corpus's own interval and noun: nothing is asked, no picture is looked at."""

    def locate(self, clip: Clip, times: NDArray[np.float64], images: Images) -> Located:
        """The clip's interval and object; where it names none, that of its narration.

        Raises:
            Rejection: neither names a thing (`not_localised`).
        """
        noun = clip.object or sentence.parse(clip.narration).object
        if not noun:
            raise Rejection("not_localised", f"the narration {clip.narration!r} names no thing")
        return Located(clip.t_start, clip.t_end, noun, moved=True, confidence=1.0)


def default_cache() -> str:
    """Where answers are kept by default: a folder of this user on this machine."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(home, "egoscaler", "answers")


@dataclass(frozen=True)
class VisionEndpoint:
    """Asks a vision model about a few frames of each clip, at most twice, and keeps its answer.

    A clip may take `timeout_s` times `max_retries` + 1, twice, and what the server asks to wait
    (up to two minutes each time): keep that below the clip's own timeout.
    """

    model: str = "gpt-4o"
    base_url: str = ""
    """Up to and with `/v1`; by default OPENAI_BASE_URL, or OpenAI's own."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the API key, on every machine that works on clips. The key itself
    is no option, since options are written down with the shards."""
    cache: str | None = None
    """Folder or fsspec URL for answers; `default_cache()` by default, "" for none. On a cluster
    give one that every node sees."""
    frames: int = 16
    """Pictures shown of each clip, evenly spread."""
    side: int = CHEAP_SIDE
    """Pixels of a picture's longer side."""
    price_in: float | None = None
    """Price of a million tokens of prompt."""
    price_out: float | None = None
    """Price of a million tokens of answer."""
    timeout_s: float = 45.0
    max_retries: int = 3
    """Of requests that time out, are refused for their rate (after the wait that the server asks
    for) or end in a server's error."""
    max_tokens: int = 1000
    """Of one answer; a model that thinks first needs more."""
    temperature: float | None = 0.0
    """None for models that take no temperature."""

    def __post_init__(self) -> None:
        if fault := wrong(self):
            raise UserError(f"vision endpoint: {fault}")
        if self.frames < 2 or self.side < 64:
            raise UserError(
                f"vision endpoint: frames is {self.frames}, side {self.side}; it needs two "
                "frames or more, of 64 pixels or more"
            )

    def locate(self, clip: Clip, times: NDArray[np.float64], images: Images) -> Located:
        """What the model says of T frames (H, W, 3) RGB at `times` (T,) of a clip.

        Only frames within the clip's interval are shown.

        Raises:
            Rejection: two answers in a row are unusable, or the model refuses (`not_localised`);
                or fewer than two frames lie in the clip (`too_short`).
            EndpointError: the server is busy, broken or silent; another attempt may succeed.
            UserError: it cannot be reached at all, does not know the key or the model, or does not
                take such requests; or the openai package is missing.
        """
        asked = self._asked(clip)
        kept = self._kept(asked, clip)
        if kept is not None:
            return self._result(kept, clip, cached=True)
        within = (times > clip.t_start - SLACK) & (times < clip.t_end + SLACK)
        inside = np.flatnonzero(within)
        if len(inside) < 2:
            raise Rejection("too_short", f"{len(inside)} frames to show, two are needed")
        shown = inside[np.unique(np.linspace(0, len(inside) - 1, self.frames).round().astype(int))]
        stamps = [max(0.0, float(times[t]) - clip.t_start) for t in shown]
        pictures = [_picture(images[t], stamps[k], self.side) for k, t in enumerate(shown)]
        record = self._ask(clip, endpoint_answer.question(clip, stamps), pictures)
        if self._folder:
            AnswerCache(self._folder).write(asked, record)
        return self._result(record, clip, cached=False)

    @property
    def _folder(self) -> str:
        return default_cache() if self.cache is None else self.cache

    def _asked(self, clip: Clip) -> Asked:
        prompt = f"{endpoint_answer.QUESTION}{endpoint_answer.SCHEMA}{self.frames}x{self.side}"
        return Asked(clip.clip_id, self.model, digest(prompt), digest(clip.narration))

    def _kept(self, asked: Asked, clip: Clip) -> dict[str, Any] | None:
        """An earlier answer, where it is still one."""
        record = AnswerCache(self._folder).read(asked) if self._folder else None
        if record is None or not isinstance(record.get("unusable"), str):
            return None
        try:
            self._priced(record["tokens_in"], record["tokens_out"])
            if not record["unusable"]:
                endpoint_answer.check(record["answer"], clip)
        except (KeyError, TypeError, AttributeError, Unusable):
            return None
        return record

    def _ask(self, clip: Clip, text: str, pictures: list[dict]) -> dict[str, Any]:
        """The model's answer, usable or not, as the cache keeps it."""
        messages: list[dict] = [
            {"role": "user", "content": [{"type": "text", "text": text}, *pictures]}
        ]
        server = Server(self.base_url, self.key_variable, self.timeout_s, self.max_retries)
        tokens_in = tokens_out = 0
        for _ in range(2):
            reply = endpoint_client.complete(
                server, self.model, messages, self.max_tokens, self.temperature
            )
            tokens_in += reply.tokens_in
            tokens_out += reply.tokens_out
            record = {"answer": None, "tokens_in": tokens_in, "tokens_out": tokens_out}
            try:
                answer = self._read(reply)
                endpoint_answer.check(answer, clip)
                return {**record, "answer": answer, "unusable": ""}
            except Unusable as error:
                why = str(error)
            messages += [
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": endpoint_answer.AGAIN.format(why=why)},
            ]
        return {**record, "unusable": why}

    def _read(self, reply: Reply) -> dict[str, Any]:
        if reply.fault:
            raise Unusable(reply.fault)
        answer, exact = endpoint_answer.parse(reply.text)
        if not exact:
            _say_lenient(self.base_url, self.model)
        return answer

    def _result(self, record: dict[str, Any], clip: Clip, cached: bool) -> Located:
        if record["unusable"]:
            raise Rejection("not_localised", f"{self.model}, asked twice: {record['unusable']}")
        found = endpoint_answer.check(record["answer"], clip)
        tokens = record["tokens_in"], record["tokens_out"]
        return replace(
            found,
            tokens_in=tokens[0],
            tokens_out=tokens[1],
            cost=self._priced(*tokens),
            cached=cached,
        )

    def _priced(self, tokens_in: int, tokens_out: int) -> float:
        if self.price_in is None or self.price_out is None:
            return float("nan")
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


def _picture(image: NDArray[np.uint8], stamp: float, side: int) -> dict[str, Any]:
    """One frame as part of a message: a small JPEG with its time in the upper left corner.

    The time is in the picture itself since some servers put all pictures before all text.
    """
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    text, font = f"{stamp:.2f} s", cv2.FONT_HERSHEY_SIMPLEX
    (wide, high), below = cv2.getTextSize(text, font, 0.5, 1)
    cv2.rectangle(small, (0, 0), (wide + 7, high + below + 5), (0, 0, 0), -1)
    cv2.putText(small, text, (4, high + 4), font, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    url = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    detail = "low" if side <= CHEAP_SIDE else "high"
    return {"type": "image_url", "image_url": {"url": url, "detail": detail}}


@functools.cache
def _say_lenient(base_url: str, model: str) -> None:
    """Say once a process that a server does not keep to the schema."""
    log.warning(
        "%s, model %s, does not keep to the JSON schema: its answers are read from its text",
        base_url or "the vision endpoint", model,
    )  # fmt: skip
