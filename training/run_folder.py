"""What a run's folder is bound to: one configuration, and the data that it had.

RUN/run.json            configuration, digests of the sources
RUN/norm_stats/         statistics of each source
RUN/checkpoints/        see `training.saved`
RUN/metrics.jsonl       see `training.log`
RUN/policy/             what was trained: see `training.policy_folder`
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ego_ops.errors import UserError
from ego_ops.storage import read_head, store
from training.config import TrainConfig
from training.data import norm
from training.data.norm import NormStats
from training.data.sample import Source
from training.saved_files import completed

VERSION = 1
FILE = "run.json"
_STATISTICS = "norm_stats"
POLICY = "policy"
POLICY_VERSION = 1
POLICY_CONFIG = "config.json"
_FREE = {
    "steps", "log_every", "save_every", "keep", "keep_every", "validate_every", "validate_samples",
    "accumulate", "recompute", "compile", "parallel",
}  # fmt: skip
"""What may change while a run goes on: how long it is, what is kept, how the work is done."""


def bind(folder: str | Path, config: TrainConfig, sources: Sequence[Source]) -> None:
    """Bind a folder to a run, or see that it is bound to the same. Until it has a checkpoint it may
    be bound again.

    Raises:
        UserError: it has another run, which is said with what differs, or cannot be written.
    """
    where = store(str(folder))
    head = {
        "version": VERSION,
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
        "sources": {source.name: source.digest for source in sources},
        "code_version": importlib.metadata.version("egoscaler-ray"),
    }
    old = read_head(where, FILE, VERSION, "a run", "; use another --out")
    if old is not None:
        if not all(isinstance(old.get(name), dict) for name in ("config", "sources")):
            raise UserError(f"{where.url}/{FILE}: damaged, it lacks config or sources; restore it")
        differences = _differences(old["config"], head["config"])
        differences += [
            f"the data of source {name} are not those it had"
            for name, digest in head["sources"].items()
            if not differences and old["sources"].get(name) != digest
        ]
        if differences and completed(folder):
            raise UserError(
                f"{where.url} has a run of another configuration ({'; '.join(differences)}): "
                "use another --out"
            )
        if differences:
            for name in where.names(_STATISTICS):
                where.delete(f"{_STATISTICS}/{name}")
    if head != old:
        where.write(FILE, json.dumps(head, indent=1).encode())


def statistics_file(folder: str | Path, source: Source) -> Path:
    """Where the statistics of a source lie."""
    return Path(folder) / _STATISTICS / f"{source.name}.json"


def write_statistics(folder: str | Path, source: Source, stats: NormStats) -> None:
    """Put the statistics of a source into the folder.

    Raises:
        UserError: the file system refuses.
    """
    path = statistics_file(folder, source).relative_to(folder)
    store(str(folder)).write(str(path), norm.to_json(stats).encode())


def trained(folder: str | Path) -> int:
    """How many steps the policy of a run has been trained for; 0 where there is none yet.

    Raises:
        UserError: it cannot be read, or is of another version.
    """
    head = read_head(store(str(Path(folder) / POLICY)), POLICY_CONFIG, POLICY_VERSION, "a policy")
    try:
        return 0 if head is None else int(head["trained"]["steps"])
    except (KeyError, TypeError, ValueError) as error:
        place = Path(folder) / POLICY / POLICY_CONFIG
        raise UserError(
            f"{place}: not that of a policy ({error!r}); delete {place.parent}, "
            "and the same command writes it again"
        ) from error


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    before, now = dict(_flat(old)), dict(_flat(new))
    return [
        f"{key} {before.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _free(key)
    ]


def _free(key: str) -> bool:
    parts = key.split(".")
    return parts[0] in _FREE or (parts[0] == "sources" and parts[-1] == "path")


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested dictionaries and of lists of them, by their dotted names."""
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [
        leaf
        for name, one in value.items()
        for leaf in _flat(one, f"{prefix}.{name}" if prefix else str(name))
    ]
