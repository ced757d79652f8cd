"""Every file of every corpus, broken in every way: a clear line, and the rest goes on."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ego_ops import corpora, synthetic
from ego_ops.apart import Apart
from ego_ops.clip import Clip
from ego_ops.corpora import Skipped
from ego_ops.errors import ClipError, UserError
from ego_ops.video import decode_window

NAMES = (
    "ego4d",
    pytest.param("hdepic", marks=pytest.mark.slow),
    pytest.param("egoexo4d", marks=pytest.mark.slow),
    pytest.param("nymeria", marks=pytest.mark.slow),
)
UNREAD = (
    "_classes.csv",
    "made.json",
    "truth",
    "metadata.json",
    "activity_summarization",
    "motion_narration",
)
"""Files that are published with a corpus and that nothing here depends on."""


SPARED = {
    "online_calibration.jsonl": {"cut short", "of no numbers", "with another header"},
    "ego4d.json": {"without values"},
    "data.vrs": {"cut short"},
}
"""Damage that does no harm: calibrations and frames of other moments, what another file says as
well."""


def half(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def noise(data: bytes) -> bytes:
    return np.random.default_rng(len(data)).bytes(len(data))


def other_type(data: bytes) -> bytes:
    return b'{"videos": 3, "annotations": [1, null], "takes": "x"}'


def no_values(data: bytes) -> bytes:
    """A table of no rows, JSON of no numbers."""
    if data.lstrip()[:1] in (b"{", b"["):
        return re.sub(rb"-?\b\d+\.?\d*\b(?=[,}\]\s])", b"null", data)
    head, newline, rest = data.partition(b"\n")
    return head + newline if rest else data


def not_numbers(data: bytes) -> bytes:
    """Letters among the digits of a table's rows, and of JSON from the middle on."""
    head, _, body = data.partition(b"\n")
    if not body:
        head, body = data[: len(data) // 2], data[len(data) // 2 :]
    return head + b"\n" + body.translate(bytes.maketrans(b"3456", b"nax-"))


def other_header(data: bytes) -> bytes:
    rest = data.partition(b"\n")[2]
    return b"a,b,c\n" + rest if rest else data


BREAK: dict[str, Any] = {
    "deleted": None,
    "emptied": lambda data: b"",
    "cut short": half,
    "noise": noise,
    "of another type": other_type,
    "without values": no_values,
    "of no numbers": not_numbers,
    "with another header": other_header,
}


@pytest.fixture(scope="module", params=NAMES)
def corpus(request, tmp_path_factory) -> tuple[str, Path]:
    """A corpus of two small videos."""
    root = tmp_path_factory.mktemp(request.param)
    writer = synthetic.WRITERS[request.param]
    # projectaria-tools takes pictures of half an Aria's resolution, and none smaller.
    scale = 0.5 if request.param == "nymeria" else 0.125
    writer.annotate(root, [writer.record(root, number, 0, scale) for number in range(2)], 0)
    return request.param, root


def outcome(name: str, root: Path, apart: Apart) -> dict[str, Any]:
    """What becomes of a corpus; anything but a clear error comes out as it is."""
    forget()
    for made in root.rglob("*.parquet"):  # what the HD-EPIC reader keeps of the pickle
        made.unlink()
    try:
        found = list(corpora.get(name).index(str(root)))
    except UserError as error:
        return {"error": line(error, root)}
    skipped = Counter({(s.reason, s.where): s.count for s in found if isinstance(s, Skipped)})
    clips = {}
    for clip in found:
        if isinstance(clip, Clip):
            try:  # projectaria-tools crashes on some damaged files: that is what quarantine is for
                vrs = clip.corpus == "nymeria"
                text = apart(content, clip.video, clip) if vrs else content(clip.video, clip)
            except (ClipError, UserError) as error:
                text = line(error, root)
            clips[clip.clip_id] = text
    return {"clips": clips, "skipped": skipped}


def forget() -> None:
    """Workers keep what they have read, since files do not change; here they do.

    Only our own caches: others hold state that their libraries can't make again (torch's compiler
    keeps its list of replaced built-ins in one).
    """
    for cached in gc.get_objects():
        ours = isinstance(cached, functools._lru_cache_wrapper) and cached.__module__.startswith(
            "ego_ops."
        )
        if ours:
            cached.cache_clear()


def content(_: str, clip: Clip) -> str:
    """A digest of all that is known of a clip and of its middle."""
    forget()
    found = corpora.get(clip.corpus).recording(clip)
    middle = (clip.t_start + clip.t_end) / 2
    frames = decode_window(clip.video, middle, min(middle + 0.3, clip.t_end), fps=10)
    arrays = [frames.images]
    if found.path is not None:
        found.path.at(np.array([clip.t_start, clip.t_end]))
        arrays += [found.path.times, found.path.poses.as_matrix()]
    arrays += [hand.joints for hand in found.hands]
    arrays += [found.imu.accel, found.imu.gyro] if found.imu else []
    arrays += [found.landmarks] if found.landmarks is not None else []
    text = f"{clip.narration}{clip.object}{clip.boxes}{found.camera}{found.lens}"
    digest = hashlib.blake2b(text.encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"whole {digest.hexdigest()[:12]}"


def line(error: Exception, root: Path) -> str:
    """The message, seen to be one line that names a file or folder."""
    text = str(error)
    assert "\n" not in text
    assert 10 < len(text) < 700
    assert str(root) in text or "/" in text, text
    return f"{type(error).__name__}: {text}"


def files(root: Path) -> tuple[list[Path], set[Path]]:
    """Of each kind of file one to break, and those of them that are one video's own."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and not any(word in name for word in UNREAD):
            kind = re.sub(r"[0-9a-f]{8,}|\d+|[a-z_]+(?=/0)", "#", name)
            kinds.setdefault(kind, []).append(path.relative_to(root))
    return [many[0] for many in kinds.values()], {m[0] for m in kinds.values() if len(m) > 1}


def test_every_file_broken_in_every_way(corpus, tmp_path):
    name, root = corpus
    work = tmp_path / "corpus"
    shutil.copytree(root, work)
    with Apart() as apart:
        whole = outcome(name, work, apart)
        assert sum(text.startswith("whole") for text in whole["clips"].values()) >= 2, whole
        every, own = files(root)
        cases, unnoticed = 0, []
        for path in every:
            good = (work / path).read_bytes()
            for kind, change in BREAK.items():
                broken = None if change is None else change(good)
                if broken == good:
                    continue
                (work / path).unlink()
                if broken is not None:
                    (work / path).write_bytes(broken)
                found = outcome(name, work, apart)  # raises what is no clear error
                (work / path).write_bytes(good)
                cases += 1
                if found == whole and kind not in SPARED.get(path.name, ()):
                    unnoticed.append((str(path), kind))
                if path in own:
                    assert any(
                        text.startswith("whole") and text == whole["clips"].get(clip_id)
                        for clip_id, text in found.get("clips", {}).items()
                    ), (path, kind, found)
        print(json.dumps({"corpus": name, "files": len(every), "cases": cases}))
        assert outcome(name, work, apart) == whole
    assert not unnoticed
