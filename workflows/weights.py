"""The networks' weights: what is needed, what it costs and allows, and whether it is there."""

from __future__ import annotations

from dataclasses import dataclass

from ego_ops.errors import UserError
from ego_ops.perception.learned.registry import CHECKPOINTS, Checkpoint, checkpoint, defaults
from ego_ops.perception.learned.weights import Weights


@dataclass(frozen=True)
class WeightsConfig:
    """List, fetch or check the weights that `extract --perception learned` works with."""

    names: tuple[str, ...] = ()
    """Checkpoints by name, for --fetch and --check. By default those that perception uses unless
    told otherwise."""
    list: bool = False
    """Show every known checkpoint: size, licence, what it is for and where it lies."""
    fetch: bool = False
    """Download what is missing."""
    check: bool = False
    """Open every file and see that it is whole; exit with 1 where one is not."""
    weights: str | None = None
    """Folder with one subfolder a checkpoint; by default the hub's cache (HF_HOME)."""


def run(config: WeightsConfig) -> None:
    """Do what is asked for, in the order fetch, check, list; list if nothing is.

    Raises:
        UserError: no such checkpoint, one cannot be fetched, or one is missing or damaged.
    """
    place = Weights(config.weights)
    chosen = [checkpoint(name) for name in config.names] or defaults()
    if config.fetch:
        for one in chosen:
            print(f"{one.repo} ({_size(one.size)}, {one.licence}) -> {place.fetch(one)}")
    if config.check:
        _check(place, chosen)
    if config.list or not (config.fetch or config.check):
        _show(place)


def _check(place: Weights, chosen: list[Checkpoint]) -> None:
    """Check all, and say of each what is wrong with it before the command ends with the first."""
    problems = []
    for one in chosen:
        try:
            print(f"ok: {one.repo} in {place.check(one)}")
        except UserError as error:
            problems.append(str(error))
    if problems:
        for problem in problems[1:]:
            print(problem)
        raise UserError(problems[0])


def _show(place: Weights) -> None:
    """Every checkpoint on a line of its own, under what it is for."""
    for about in dict.fromkeys(one.about for one in CHECKPOINTS.values()):
        print(about)
        for one in CHECKPOINTS.values():
            if one.about == about:
                mark = "*" if one.default else " "
                print(f" {mark} {one.name:<41} {_size(one.size):>7}  {one.licence:<12}  ", end="")
                print(_where(place, one))
    print("* what perception uses unless told otherwise")


def _where(place: Weights, one: Checkpoint) -> str:
    try:
        return str(place.find(one))
    except UserError:
        return "missing"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
