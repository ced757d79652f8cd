"""Shards to a release without pixels: poses, actions, scores, and where the videos are."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ego_ops.storage import LocalStore
from ego_ops.storage_errors import unwritable
from training.export.card import release_card
from training.export.file import DATASET
from training.export.folder import begun, finished
from training.export.release import Tally, digest, write_release
from workflows import cluster

_ORIGIN = "release.json"


@dataclass(frozen=True)
class ReleaseConfig:
    """Write trajectories without pixels, to be published: Parquet and a dataset card."""

    shards: str = "shards"
    """Folder (or fsspec URL) of the shards, from `extract`."""
    out: str = "release"
    """Folder of the release. It must not be there yet."""
    selection: str | None = None
    """Only the clips of this selection, from `curate`."""
    texts: bool = False
    """Take narrations along. They are the corpora's annotations: Ego4D's and Ego-Exo4D's may not
    be passed on."""
    repo_id: str = "egoscaler/release"
    """The dataset's name on the hub, for its card."""


def run(config: ReleaseConfig) -> None:
    """Release what is committed, or what is selected of it.

    Raises:
        UserError: nothing to release, a shard is damaged, something else is in `out`, or it cannot
            be written.
    """
    of = digest(config.shards, config.selection, config.texts)
    if finished(config.out, of, _ORIGIN):
        print(f"nothing to do: {config.out} is that release")
        return
    work = f"{config.out.rstrip('/')}.partial"
    busy = f"{config.out}: another process is exporting there"
    with LocalStore(work).lock("lock", busy), cluster.interruptible(work):
        begun(work, of)
        tally = _write(config, of, work)
        shutil.rmtree(work)
    clips = sum(count.clips for count in tally.corpora.values())
    print(f"{clips} clips of {len(tally.corpora)} corpora in {config.out}")


def _write(config: ReleaseConfig, of: str, work: str) -> Tally:
    root = Path(work, DATASET)
    try:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        tally = write_release(config.shards, config.selection, config.texts, root)
        card = release_card(config.repo_id, tally, config.texts)
        (root / "README.md").write_text(card, encoding="utf-8")
        (root / _ORIGIN).write_text(json.dumps({"digest": of}) + "\n")
        os.sync()
        os.rename(root, config.out)
    except OSError as error:
        raise unwritable(config.out, error) from error
    return tally
