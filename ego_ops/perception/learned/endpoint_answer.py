"""What is asked about a clip, and what makes an answer one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ego_ops.clip import Clip

EDGE = 0.1
"""Seconds that an answer may lie outside the clip: it is rounded, and cut to the clip."""
NO_NOUN = {"", "none", "nothing", "unknown", "n/a", "null", "object", "thing", "hand", "hands"}

QUESTION = """These {count} pictures are frames of one first-person video, in order. The time of \
each, in seconds, is written in its upper left corner: {times}.
What the wearer does is described as: "{narration}"
Find the one rigid thing that the wearer moves by hand as described, and the interval in which it \
moves. Answer with one JSON object of these fields:
start_s: second at which a hand takes hold of the thing, just before it begins to move;
end_s: second at which the thing has come to rest again or is let go of; both from {first} to \
{last}, and start_s before end_s;
object: what the thing is, as a short noun phrase that tells it from everything else in view by \
what can be seen (for example "red mug"); not the hand, and nothing that the thing is put on or in;
moved: whether the thing is moved by hand at all in these pictures (true or false);
confidence: from 0 to 1, how sure you are of the thing and of the interval;
reason: in one short sentence, what in the pictures shows it."""

AGAIN = "That answer cannot be used: {why}. Look again, and answer with one such JSON object only."

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "start_s": {"type": "number"},
        "end_s": {"type": "number"},
        "object": {"type": "string"},
        "moved": {"type": "boolean"},
        "confidence": {"type": "number"},
        "reason": {"type": "string"},
    },
    "required": ["start_s", "end_s", "object", "moved", "confidence", "reason"],
    "additionalProperties": False,
}


class Unusable(ValueError):
    """An answer that says no interval or no thing; the message says why."""


@dataclass(frozen=True)
class Located:
    """When in a clip a thing is moved, and which."""

    t_start: float
    """Seconds from the start of the video."""
    t_end: float
    noun: str
    """The moved thing, as a noun phrase."""
    moved: bool
    """False where nothing is moved by hand; the interval is then the clip's."""
    confidence: float
    """From 0 to 1."""
    tokens_in: int = 0
    """Tokens of the prompts, repeated questions included."""
    tokens_out: int = 0
    cost: float = 0.0
    """What the tokens cost, in the currency of the prices; NaN where no price was given."""
    reason: str = ""
    cached: bool = False
    """Whether this answer was paid for earlier."""


def question(clip: Clip, times: Sequence[float]) -> str:
    """The text that goes with frames at `times`, in seconds from the clip's start."""
    return QUESTION.format(
        count=len(times),
        times=", ".join(f"{t:.2f}" for t in times),
        narration=" ".join(clip.narration.split()),
        first="0.00",
        last=f"{clip.t_end - clip.t_start:.2f}",
    )


def parse(text: str) -> tuple[dict[str, Any], bool]:
    """The JSON object in an answer, and whether the answer was nothing but that object.

    A server that ignores the schema wraps the object in a fence or in sentences: the last object
    that has one of the fields counts, since a model that thinks aloud ends with its answer.

    Raises:
        Unusable: there is none.
    """
    try:
        whole = json.loads(text)
        if isinstance(whole, dict):
            return whole, True
    except (ValueError, RecursionError):
        pass
    decoder, found, at = json.JSONDecoder(), None, 0
    while (at := text.find("{", at)) >= 0:
        try:
            one, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if one.keys() & SCHEMA["properties"].keys():
            found = one
    if found is None:
        raise Unusable("it holds no JSON object")
    return found, False


def check(answer: Mapping[str, Any], clip: Clip) -> Located:
    """What an answer says of `clip`.

    Raises:
        Unusable: a field is missing or of the wrong kind, the interval is not one of the clip, or
            no thing is named.
    """
    confidence, moved = _number(answer, "confidence"), answer.get("moved")
    if not 0 <= confidence <= 1:
        raise Unusable(f"confidence is {confidence:g}, not from 0 to 1")
    if not isinstance(moved, bool):
        raise Unusable(f"moved is {moved!r}, neither true nor false")
    noun, reason = _noun(answer.get("object")), str(answer.get("reason", ""))
    if not moved:
        return Located(clip.t_start, clip.t_end, noun, False, confidence, reason=reason)
    if noun.lower() in NO_NOUN:
        raise Unusable(f"object is {noun!r}, which names no thing")
    start, end = _number(answer, "start_s"), _number(answer, "end_s")
    last = clip.t_end - clip.t_start
    if start < -EDGE or end > last + EDGE:
        raise Unusable(f"the interval {start:g} to {end:g} s is not within 0 to {last:.2f} s")
    start, end = max(start, 0.0), min(end, last)
    if not start < end:
        raise Unusable(f"start_s {start:g} is not before end_s {end:g}")
    return Located(
        clip.t_start + start, clip.t_start + end, noun, True, confidence, reason=reason
    )  # fmt: skip


def _number(answer: Mapping[str, Any], name: str) -> float:
    value = answer.get(name)
    try:
        if isinstance(value, bool) or value is None:
            raise ValueError
        number = float(value)
    except (TypeError, ValueError):
        raise Unusable(f"{name} is {value!r}, not a number") from None
    if not math.isfinite(number):
        raise Unusable(f"{name} is {number}, not finite")
    return number


def _noun(value: Any) -> str:
    """A noun phrase as a detector takes it: without article, quotes and full stop."""
    if not isinstance(value, str):
        raise Unusable(f"object is {value!r}, not a noun phrase")
    plain = " ".join(value.split()).strip("\"' .")
    return re.sub(r"^(?:a|an|the)\s+", "", plain, flags=re.IGNORECASE)
