"""What the name of a policy means, and the digest that episodes are identified by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, NamedTuple

from ego_ops.errors import UserError, hint
from sim_eval.policies import contents
from sim_eval.policies.connection import OPEN, Access, metadata

Kind = Literal["expert", "random", "replay", "server", "checkpoint"]
REPLAY, POLICY = "replay:", "policy"
_SCHEMES = ("ws://", "wss://")
_BATCHED: tuple[Kind, ...] = ("server", "checkpoint")


class Compute(NamedTuple):
    """How a policy's answers are computed. Those of a checkpoint depend on all of it, if only in
    their last bits; of a server it is only how many requests are in flight."""

    batch: int = 8
    """Requests of a call; fewer are filled up to it."""
    device: str = "cpu"
    """Or `cuda`."""
    half: bool | None = None
    """Whether in bf16; None: on a GPU only."""
    steps: int = 10
    """Of the integration from noise to actions."""
    source: str | None = None
    """Whose states and actions it takes and gives; needed where it was trained on several."""


DEFAULT = Compute()


class Named(NamedTuple):
    """A policy that is there, and not loaded."""

    name: str
    """As it was given."""
    kind: Kind
    digest: str
    """16 hexadecimal digits, of all that its answers follow from. A server's weights cannot be
    known: of one it is its address and what it says of itself."""
    place: str = ""
    """Its folder or address."""
    compute: Compute = DEFAULT
    access: Access = OPEN
    """Of a server."""

    @property
    def batched(self) -> bool:
        """Whether `open_batch` has it; `open_local` if not."""
        return self.kind in _BATCHED


def named(name: str, compute: Compute = DEFAULT, access: Access = OPEN) -> Named:
    """Find out what a name means. Reads all of a checkpoint for its digest, once in a process;
    asks a server what it is.

    Raises:
        UserError: it names nothing, or something damaged or not finished.
        PolicyError: no server answers.
    """
    if compute.batch < 1 or compute.steps < 1:
        raise UserError(f"a batch of {compute.batch}, {compute.steps} steps: at least 1 of each")
    if name == "expert":
        return Named(name, "expert", _digest("expert"))
    if name == "random":
        return Named(name, "random", _digest("random"))
    if name.startswith(REPLAY):
        folder = str(Path(name.removeprefix(REPLAY)).expanduser().absolute())
        return Named(name, "replay", _digest("replay", contents.recording(folder)), folder)
    if name.startswith(_SCHEMES):
        digest = _digest("server", name, metadata(name, access=access))
        return Named(name, "server", digest, name, compute, access)
    folder = str(_folder(name).absolute())
    half = compute.half if compute.half is not None else compute.device.startswith("cuda")
    how = compute._replace(half=half, source=contents.source(folder, compute.source))
    return Named(name, "checkpoint", checkpoint_digest(folder, how), folder, how)


def checkpoint_digest(folder: str, how: Compute) -> str:
    """Of what lies in a policy's folder now, and of how it computes.

    Raises:
        UserError: a file cannot be read.
    """
    return _digest("checkpoint", contents.checkpoint(folder, str(how.source)), how)


def _within(path: Path) -> Path | None:
    """The policy's folder where this is one, or a run that has one."""
    folders = (path, path / POLICY)
    return next((one for one in folders if (one / contents.CONFIG).is_file()), None)


def _folder(name: str) -> Path:
    """Of the policy that a run or a policy's folder has."""
    path = Path(name).expanduser()
    if found := _within(path):
        return found
    if (path / "run.json").is_file():
        raise UserError(f"--policy {name}: this run has no policy yet; train it to its end")
    if path.is_dir():
        raise UserError(
            f"--policy {name}: neither a run nor a policy (there is no {contents.CONFIG})"
        )
    near = [str(one) for one in sorted(path.parent.glob("*/")) if _within(one)]
    known = ["expert", "random", "replay:FOLDER", "ws://HOST:PORT", *near]
    raise UserError(f"--policy {name}: no such policy; {hint(name, known)}")


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
