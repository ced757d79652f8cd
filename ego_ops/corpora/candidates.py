"""Which narrations are of the wearer's own handling of a thing, and when it happens."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ego_ops.corpora.sentence import Sentence, parse
from ego_ops.corpora.skipped import Skipped

AROUND = 2.0
"""Seconds before and after the instant of a narration that a clip covers, as in EgoScaler."""
SHORTEST = 1.5
"""Seconds that a clip around an instant has at least."""
SHORTEST_SPAN, LONGEST_SPAN = 0.5, 60.0
"""Seconds of an annotated interval that can be one manipulation."""
SAME_MOMENT = 1.0
"""Seconds that two annotators are apart who mean the same action."""
SAME_WORDS = 0.8
"""Share of words (intersection over union) from which two sentences say the same."""
NOT_OF_THE_WEARER = frozenset({"other_person", "summary", "bad_interval", "rejected"})
"""Reasons of narrations that say nothing about when the wearer does something else."""


@dataclass(frozen=True)
class Narration:
    """One sentence of an annotator about one moment, or one interval, of a video."""

    uid: str
    text: str
    t: float
    """The moment, seconds from the start of the video."""
    span: tuple[float, float] | None = None
    """The interval (start, end) in seconds where the corpus gives one."""
    drop: str = ""
    """Why the corpus itself rules it out (`unsure`, `not_visible`, `other_person`, …), or empty."""


@dataclass(frozen=True)
class Candidate:
    """A narration that may become a clip."""

    uid: str
    t_start: float
    t_end: float
    narration: str
    verb: str
    object: str
    interval: str
    """`annotated` or `narrated`: see `Clip.interval`."""


def candidates(
    narrations: Sequence[Narration], duration: float, where: str
) -> Iterator[Candidate | Skipped]:
    """The clips that the narrations of one video give, in the order of time.

    As in EgoScaler (arXiv 2509.21986), what the wearer does with a thing stays; see
    `ego_ops.corpora.sentence.parse` for what goes. An interval given by the corpus is kept, its
    end held to the video's. Around an instant the clip covers 2 s to both sides, but not beyond
    the instants of the nearest other narrations of the wearer (dropped ones too: walking away ends
    a manipulation) unless less than 1.5 s were left. Of narrations that say the same within 1 s,
    one with an interval stays, else the earliest. The outcome does not depend on the input's order.

    Args:
        duration: of the video, seconds; intervals end there.
        where: names the video in what is left out.

    Yields:
        Candidates, then what was left out: one `Skipped` a reason, with the first such text.
    """
    left_out: dict[str, list[Narration]] = {}
    found: list[tuple[Narration, Sentence]] = []
    instants: set[float] = set()
    for narration in sorted(narrations, key=lambda n: (_order(n.t), n.uid, n.text)):
        said = parse(narration.text)
        reason = narration.drop or _bad_time(narration, duration) or said.reason
        if reason:
            left_out.setdefault(reason, []).append(narration)
        else:
            found.append((narration, said))
        if reason not in NOT_OF_THE_WEARER and 0 <= narration.t <= duration:
            instants.add(narration.t)
    kept, doubles = _distinct(found)
    instants -= {double.t for double in doubles} - {narration.t for narration, _ in kept}
    if doubles:
        left_out["duplicate"] = doubles
    times = sorted(instants)
    ready = []
    for narration, said in kept:
        interval = narration.span and (narration.span[0], min(narration.span[1], duration))
        start, end = interval or _around(narration.t, times, duration)
        if end - start < (SHORTEST_SPAN if interval else SHORTEST) - 1e-9:
            left_out.setdefault("too_short", []).append(narration)
            continue
        kind = "annotated" if interval else "narrated"
        ready.append(Candidate(narration.uid, start, end, said.text, said.verb, said.object, kind))
    yield from sorted(ready, key=lambda c: (c.t_start, c.t_end, c.uid))
    for reason, dropped in sorted(left_out.items()):
        first = dropped[0]
        yield Skipped(reason, where, f"{first.t:.2f} s: {first.text.strip()}", len(dropped))


def _order(t: float) -> float:
    return t if not math.isnan(t) else math.inf


def _bad_time(narration: Narration, duration: float) -> str:
    """`bad_interval` if the narration lies nowhere in the video, or its interval cannot be."""
    if narration.span is None:
        return "" if 0 <= narration.t <= duration else "bad_interval"
    start, end = narration.span
    fits = 0 <= start < duration and start < end <= start + LONGEST_SPAN
    return "" if fits and math.isfinite(narration.t) else "bad_interval"


def _distinct(
    found: list[tuple[Narration, Sentence]],
) -> tuple[list[tuple[Narration, Sentence]], list[Narration]]:
    """Without the near-duplicates of several annotators, and those; both in the order of time."""
    kept: list[tuple[Narration, Sentence]] = []
    doubles: list[Narration] = []
    ranked = sorted(found, key=lambda pair: pair[0].span is None)  # stable: by time within
    times: list[float] = []
    for narration, said in ranked:
        low = bisect_left(times, narration.t - SAME_MOMENT - 1e-9)
        high = bisect_right(times, narration.t + SAME_MOMENT + 1e-9)
        if any(_same(narration, said, *kept[i]) for i in range(low, high)):
            doubles.append(narration)
            continue
        at = bisect_right(times, narration.t, low, high)
        times.insert(at, narration.t)
        kept.insert(at, (narration, said))
    return kept, sorted(doubles, key=lambda n: (n.t, n.uid))


def _same(a: Narration, said_a: Sentence, b: Narration, said_b: Sentence) -> bool:
    """Whether two narrations of one moment mean the same action."""
    if a.span and b.span:
        common = min(a.span[1], b.span[1]) - max(a.span[0], b.span[0])
        both = max(a.span[1], b.span[1]) - min(a.span[0], b.span[0])
        if common < 0.5 * both:
            return False
    if said_a.text == said_b.text:
        return True
    if said_a.verb.split()[0] == said_b.verb.split()[0] and _head(said_a) == _head(said_b):
        return True
    words_a, words_b = set(said_a.text.lower().split()), set(said_b.text.lower().split())
    return len(words_a & words_b) >= SAME_WORDS * len(words_a | words_b)


def _head(said: Sentence) -> str:
    """The last word of the object, in the singular."""
    return said.object.rpartition(" ")[2].removesuffix("s")


def _around(t: float, times: list[float], duration: float) -> tuple[float, float]:
    """The interval of a narration at the instant `t`; `times` are all instants, sorted."""
    before, after = bisect_left(times, t) - 1, bisect_right(times, t)
    start = max(0.0, t - AROUND, times[before] if before >= 0 else 0.0)
    end = min(duration, t + AROUND, times[after] if after < len(times) else duration)
    if end - start < SHORTEST:
        start, end = min(start, t - SHORTEST / 2), max(end, t + SHORTEST / 2)
        over = max(0.0, end - duration)
        start, end = max(0.0, start - over), end - over
        end = min(duration, max(end, start + SHORTEST))
    return start, end
