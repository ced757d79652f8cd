"""What can be made of shards for others: `egoscaler export lerobot`, `egoscaler export release`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from workflows import export_lerobot, export_release

_Lerobot = Annotated[
    export_lerobot.LerobotConfig, tyro.conf.subcommand("lerobot", prefix_name=False)
]
_Release = Annotated[
    export_release.ReleaseConfig, tyro.conf.subcommand("release", prefix_name=False)
]


@dataclass(frozen=True)
class ExportConfig:
    """Write shards in a form for others: a LeRobot dataset, or one without pixels."""

    to: Annotated[_Lerobot | _Release, tyro.conf.arg(name="")]
    """What to write."""


def run(config: ExportConfig) -> None:
    """Write it.

    Raises:
        UserError: see `export_lerobot.run` and `export_release.run`.
    """
    if isinstance(config.to, export_lerobot.LerobotConfig):
        export_lerobot.run(config.to)
    else:
        export_release.run(config.to)
