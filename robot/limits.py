"""How far and how fast an arm may go."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ego_ops.errors import UserError, hint
from ego_ops.storage_errors import unreadable

Numbers = float | tuple[float, ...]


@dataclass(frozen=True)
class Workspace:
    """Where the gripper's origin may be, in the robot's base frame, metres."""

    low: tuple[float, float, float] = (-0.6, -0.6, 0.0)
    high: tuple[float, float, float] = (0.6, 0.6, 0.7)
    table: float = 0.0
    """Height of what the arm stands over."""
    clearance: float = 0.01
    """How far above it the gripper's origin stays."""

    @property
    def floor(self) -> tuple[float, float, float]:
        """The lowest corner, with what is kept out below the table."""
        return (*self.low[:2], max(self.low[2], self.table + self.clearance))


@dataclass(frozen=True)
class Rates:
    """Of a motion in metres, or in radians; each of its length, whatever its direction."""

    step: float
    """Most between two commands."""
    speed: float
    """A second."""
    acceleration: float
    jerk: float
    beyond: float
    """A target this far from the last command is a mistake, not a motion."""


@dataclass(frozen=True)
class Joints:
    """Of each joint, [rad]; one number is for all joints."""

    low: Numbers = -math.pi
    high: Numbers = math.pi
    step: Numbers = 0.1
    speed: Numbers = 1.0
    acceleration: Numbers = 6.0
    jerk: Numbers = 300.0
    beyond: Numbers = 0.6


@dataclass(frozen=True)
class Gripper:
    """Of the opening, from 0 to 1."""

    low: float = 0.0
    high: float = 1.0
    speed: float = 4.0
    """A second."""


@dataclass(frozen=True)
class Limits:
    """Everything that a command is held to. By default far below what any arm of a table's size
    can do.

    Raises:
        UserError: a number is not one, not positive where it must be, or a range is empty.
    """

    workspace: Workspace = Workspace()
    translation: Rates = Rates(step=0.05, speed=0.5, acceleration=4.0, jerk=200.0, beyond=0.25)
    rotation: Rates = Rates(step=0.25, speed=2.0, acceleration=16.0, jerk=800.0, beyond=1.2)
    joints: Joints = Joints()
    gripper: Gripper = Gripper()

    def __post_init__(self) -> None:
        for group, values in dataclasses.asdict(self).items():
            for name, value in values.items():
                _check(f"{group}.{name}", value, name not in ("low", "high", "table"))
        for name, low, high in (
            ("workspace", self.workspace.floor, self.workspace.high),
            ("gripper", self.gripper.low, self.gripper.high),
            ("joints", self.joints.low, self.joints.high),
        ):
            if any(a >= b for a, b in _paired(name, low, high)):
                raise UserError(f"limits: {name} from {low} to {high}: there is nothing between")


def load(path: str | Path) -> Limits:
    """Limits of a TOML or JSON file, whose tables are the fields of `Limits`; what it does not say
    is as by default.

        [workspace]
        low = [0.25, -0.3, 0.0]
        [translation]
        speed = 0.25

    Raises:
        UserError: it cannot be read, names what there is not, or a value is not of its kind.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        tables = json.loads(text) if Path(path).suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise unreadable(str(path), error) from error
    except ValueError as error:
        raise UserError(f"{path}: neither TOML nor JSON ({error})") from error
    try:
        return _from(Limits(), tables, "")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _from(before: Any, values: Any, where: str) -> Any:
    """A dataclass with some of its fields changed."""
    if not isinstance(values, dict):
        raise UserError(f"{where or 'limits'}: must be a table, this is {values!r}")
    known = [field.name for field in dataclasses.fields(before)]
    changed = {}
    for name, value in values.items():
        path = f"{where}.{name}" if where else name
        if name not in known:
            raise UserError(f"no such limit as {path}; {hint(name, known)}")
        old = getattr(before, name)
        if dataclasses.is_dataclass(old):
            changed[name] = _from(old, value, path)
            continue
        many = isinstance(before, Joints) or isinstance(old, tuple)
        changed[name] = tuple(value) if many and isinstance(value, list) else value
        if isinstance(old, tuple) and not isinstance(changed[name], tuple):
            raise UserError(f"{path}={value!r}: must be {len(old)} numbers")
        if isinstance(before, Workspace) and isinstance(old, tuple) and len(value) != len(old):
            raise UserError(f"{path}={value!r}: must be {len(old)} numbers")
    return dataclasses.replace(before, **changed)


def _check(name: str, value: Any, positive: bool) -> None:
    for one in value if isinstance(value, tuple) else (value,):
        number = isinstance(one, int | float) and not isinstance(one, bool)
        if not number or not math.isfinite(one):
            raise UserError(f"limits: {name}={value!r}: must be a number")
        if positive and one <= 0 and not (name == "workspace.clearance" and one == 0):
            raise UserError(f"limits: {name}={value!r}: must be more than 0")


def _paired(name: str, low: Numbers, high: Numbers) -> list[tuple[float, float]]:
    lows, highs = (x if isinstance(x, tuple) else (x,) for x in (low, high))
    if len(lows) != len(highs) and 1 not in (len(lows), len(highs)):
        raise UserError(f"limits: {name}: {len(lows)} low, {len(highs)} high")
    count = max(len(lows), len(highs))
    return [(lows[i % len(lows)], highs[i % len(highs)]) for i in range(count)]
