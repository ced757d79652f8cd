"""A minute of a server in a line, from its Prometheus page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

_LINE = re.compile(
    r'egoscaler_(?:requests_total\{code="(?P<code>\w+)"\}'
    r'|stage_seconds_bucket\{stage="total",le="(?P<bound>[^"]+)"\}) (?P<count>\d+)'
)
Counts = Mapping[str, int]


def counted(page: str) -> Counter[str]:
    """Requests by their outcome, and how many took at most so long, by the bound in seconds."""
    return Counter(
        {found["code"] or found["bound"]: int(found["count"]) for found in _LINE.finditer(page)}
    )


def since(now: Counts, before: Counts) -> Counter[str]:
    """What was added; all of it where counting began anew, in another process."""
    anew = any(now.get(key, 0) < count for key, count in before.items())
    return Counter({key: count - (0 if anew else before.get(key, 0)) for key, count in now.items()})


def line(added: Counts) -> str:
    """For people; "" where nothing was asked."""
    codes = {key: count for key, count in added.items() if count and not _is_bound(key)}
    if not codes:
        return ""
    good = codes.pop("ok", 0)
    words = [f"{good} answered"]
    if good:
        p50, p99 = (1000 * quantile(added, share) for share in (0.5, 0.99))
        words.append(f"p50 {p50:.2g} ms, p99 {p99:.2g} ms")
    words += [f"{count} {code}" for code, count in sorted(codes.items())]
    return "; ".join(words)


def quantile(counts: Counts, share: float) -> float:
    """Seconds below which that share of the requests was, as Prometheus has it from a histogram:
    evenly within a bucket; the last bound where it is above all."""
    bounds = sorted((float(key), count) for key, count in counts.items() if _is_bound(key))
    wanted = share * (bounds[-1][1] if bounds else 0)
    low, below = 0.0, 0
    for bound, count in bounds:
        if count >= wanted and count > below:
            within = (wanted - below) / (count - below)
            return low if bound == float("inf") else low + within * (bound - low)
        low, below = bound, count
    return low


def _is_bound(key: str) -> bool:
    return key[0].isdigit() or key == "+Inf"
