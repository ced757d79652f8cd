"""What `--policy` of `serve` may say, and the policy that it names.

RUN or RUN/policy    what `egoscaler train` wrote, see `workflows.served_checkpoint`
expert               the tabletop's script, see `workflows.served_expert`
module:Class         one of your own: `robot.policy.Policy`, made without arguments
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from ego_ops.errors import UserError, hint
from robot.policy import Policy
from sim_eval.policies import contents

Observation = Literal["tabletop", "ours", "libero", "droid", "aloha"]
Stamp = tuple[tuple[str, int, int, int], ...]
_TRIES = 5


class Served(NamedTuple):
    """A policy that is there, and not loaded."""

    name: str
    """As it was given."""
    kind: Literal["expert", "checkpoint", "class"]
    folder: str = ""
    """Of a checkpoint."""
    observation: Observation = "tabletop"
    source: str | None = None
    batch: int = 8
    device: str = "cpu"
    half: bool | None = None
    flow_steps: int = 10


def named(name: str, how: Served) -> Served:
    """Find out what a name means.

    Args:
        how: all that the name does not say.

    Raises:
        UserError: it names nothing, or a policy of several sources and none of them is given.
    """
    if name == "expert":
        return how._replace(name=name, kind="expert")
    folder = _folder(name)
    if folder is None and ":" in name:
        return how._replace(name=name, kind="class")
    if folder is None:
        path = Path(name).expanduser()
        if (path / "run.json").is_file():
            raise UserError(f"--policy {name}: this run has no policy yet; train it to its end")
        near = [str(one) for one in path.parent.glob("*/")] if path.parent.is_dir() else []
        known = ["expert", "module:Class", *near]
        raise UserError(
            f"--policy {name}: neither a run nor a policy's folder; {hint(name, known)}"
        )
    source = contents.source(str(folder), how.source)
    return how._replace(name=name, kind="checkpoint", folder=str(folder.absolute()), source=source)


def opened(served: Served) -> tuple[Policy, Stamp]:
    """Load a policy, and warm it. Of a checkpoint, from files that were not changed meanwhile.

    Raises:
        UserError: it cannot be loaded.
    """
    if served.kind == "expert":
        from workflows.served_expert import ExpertPolicy

        return ExpertPolicy(), ()
    if served.kind == "class":
        return _own(served.name), ()
    try:
        from workflows.served_checkpoint import CheckpointPolicy
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install 'egoscaler-ray[train]'") from error
    for _ in range(_TRIES):
        before = stamp(served)
        policy = CheckpointPolicy(
            served.folder,
            served.observation,
            served.source,
            served.batch,
            served.device,
            served.half,
            served.flow_steps,
        )
        if stamp(served) == before:
            return policy, before
        policy.close()
    raise UserError(f"{served.folder}: was written to at every one of {_TRIES} attempts to load it")


def stamp(served: Served) -> Stamp:
    """Of a checkpoint's files: name, inode, size and time of change. It differs once a policy was
    replaced. Empty where there are none."""
    root, found = Path(served.folder), []
    for path in sorted(root.rglob("*")) if served.folder else []:
        try:
            about = path.stat()
        except OSError:  # gone meanwhile
            continue
        if path.is_file():
            name = str(path.relative_to(root))
            found.append((name, about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(found)


def _folder(name: str) -> Path | None:
    """Of the policy that a run or a policy's folder has."""
    path = Path(name).expanduser()
    both = path, path / "policy"
    return next((folder for folder in both if (folder / contents.CONFIG).is_file()), None)


def _own(name: str) -> Policy:
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # a command's path does not have it
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)()
    except Exception as error:
        what = " ".join(str(error).split()) or "no message"
        raise UserError(
            f"--policy {name}: cannot load it ({type(error).__name__}: {what})"
        ) from error


def about(policy: Policy) -> str:
    """A policy in some words, for people."""
    told = policy.metadata
    words = [str(told.get("policy", type(policy).__name__))]
    words += [f"{name} {told[name]}" for name in ("steps", "observation", "source") if name in told]
    if "cameras" in told:
        words.append(f"shown {', '.join(told['cameras'])}")
    missing = getattr(policy, "missing", ())
    if missing:
        words.append(f"never shown {', '.join(missing)}, which it was trained with")
    return ", ".join(words)
