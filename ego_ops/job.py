"""What one extraction is: the configuration that its folder of shards is bound to."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import uuid
from dataclasses import dataclass
from typing import Any

from ego_ops import rows
from ego_ops.errors import UserError
from ego_ops.manifest import Manifest
from ego_ops.storage import Store, read_head, store

VERSION = 1


@dataclass(frozen=True)
class Job:
    """What a worker must know: small, picklable, the same for a whole run."""

    out: str
    """Folder of the shards."""
    manifest: str
    perception: str
    """Name of the pipeline: see `ego_ops.pipeline.load`."""
    options: str
    """Its options, as JSON."""
    config_hash: str
    code_version: str
    run: str
    """Names this run of the command."""
    clip_timeout_s: float
    retry: frozenset[str]
    """Terminal error classes (or reasons) to open again."""


def begin(
    out: str,
    manifest: Manifest,
    perception: str,
    options: dict[str, Any],
    clip_timeout_s: float = 600.0,
    retry: frozenset[str] = frozenset(),
) -> Job:
    """Bind the folder `out` to this configuration, or see that it is bound to the same.

    Raises:
        UserError: `out` holds shards of another configuration, or cannot be written.
    """
    config = {
        "rows_version": rows.VERSION,
        "perception": perception,
        **{f"options.{name}": value for name, value in options.items()},
    }
    text = json.dumps(config, sort_keys=True)
    config_hash = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    version = importlib.metadata.version("egoscaler-ray")
    where = store(out)
    old = read_run(where)
    if old is not None:
        _agree(where.url, old, config, manifest)
    head = {
        "version": VERSION,
        "config": config,
        "config_hash": config_hash,
        "code_version": version,
        "manifest": {"url": manifest.url, "id": manifest.id, "clips": manifest.totals},
    }
    if head != old:
        where.write("run.json", json.dumps(head, indent=1).encode())
    where.clean()
    return Job(
        out=where.url,
        manifest=manifest.url,
        perception=perception,
        options=json.dumps(options, sort_keys=True),
        config_hash=config_hash,
        code_version=version,
        run=uuid.uuid4().hex,
        clip_timeout_s=clip_timeout_s,
        retry=retry,
    )


def read_run(where: Store) -> dict | None:
    """The content of `run.json`, or None where there is none.

    Raises:
        UserError: it cannot be read, or is of another version.
    """
    return read_head(where, "run.json", VERSION, "shards", "; use another --out")


def _agree(url: str, old: dict, config: dict, manifest: Manifest) -> None:
    before = old["config"]
    differences = [
        f"{key} {before.get(key)!r} there, {config.get(key)!r} now"
        for key in sorted(before.keys() | config.keys())
        if before.get(key) != config.get(key)
    ]
    if old["manifest"]["id"] != manifest.id:
        differences.append(f"manifest {old['manifest']['url']} there, {manifest.url} now")
    if differences:
        raise UserError(
            f"{url} holds shards of another configuration ({'; '.join(differences)}): "
            "use another --out"
        )
