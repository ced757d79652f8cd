"""What the name of a policy means, and the digest that episodes are identified by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, NamedTuple

from ego_ops.errors import UserError, hint

Kind = Literal["expert", "random", "replay", "server", "checkpoint"]
BATCHED: tuple[Kind, ...] = ("server", "checkpoint")

_REPLAY = "replay:"
_SCHEMES = ("ws://", "wss://")
_POLICY, _CONFIG = "policy", "config.json"


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


class Named(NamedTuple):
    """A policy that is there, and not loaded."""

    name: str
    """As it was given."""
    kind: Kind
    digest: str
    """16 hexadecimal digits, of all that its answers follow from."""
    place: str = ""
    """Its folder or address."""
    compute: Compute = Compute()

    @property
    def batched(self) -> bool:
        """Whether `open_batch` has it, otherwise `open_local`."""
        return self.kind in BATCHED


def named(name: str, compute: Compute = Compute()) -> Named:
    """Find out what a name means. Reads all of a checkpoint, once in a process, for its digest;
    asks a server for what it says of itself.

    Raises:
        UserError: it names nothing.
        PolicyError: no server answers.
    """
    if name in ("expert", "random"):
        return Named(name, "expert" if name == "expert" else "random", _digest(name))
    raise UserError(f"--policy {name}: {hint(name, ['expert', 'random'])}")


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
