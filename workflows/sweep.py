"""Policies × suites × seeds in one command: `evaluate` for each, with each suite's simulators made
once."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.evaluate import measure
from workflows.evaluate_plan import Options


@dataclass(frozen=True)
class SweepConfig(Options):
    """Compare policies in suites, on the same seeds."""

    suites: str = "tabletop"
    """Suites, with commas between."""
    policies: str = "expert,random"
    """Policies as `evaluate` has them, with commas between; one after the other, so that only one
    needs memory."""


def run(config: SweepConfig) -> None:
    """Play every episode that is left, and say what was found.

    Raises:
        UserError: as `workflows.evaluate.measure`; a policy that fails does not keep others back.
    """
    measure(config, _names(config.suites), _names(config.policies), "sweep")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
