"""The `egoscaler` command: one subcommand a job, its flags the fields of that job's config."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from ego_ops.errors import ClipError, UserError
from workflows import (
    calibrate,
    curate,
    demo,
    demonstrate,
    evaluate,
    export,
    extract,
    index,
    pretrain,
    report,
    reproduce,
    robot,
    serve,
    status,
    sweep,
    view,
    weights,
)

JOBS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    demo.DemoConfig: ("demo", demo.run),
    index.IndexConfig: ("index", index.run),
    extract.ExtractConfig: ("extract", extract.run),
    status.StatusConfig: ("status", status.run),
    report.ReportConfig: ("report", report.run),
    view.ViewConfig: ("view", view.run),
    curate.CurateConfig: ("curate", curate.run),
    calibrate.CalibrateConfig: ("calibrate", calibrate.run),
    pretrain.PretrainConfig: ("train", pretrain.run),
    evaluate.EvaluateConfig: ("evaluate", evaluate.run),
    sweep.SweepConfig: ("sweep", sweep.run),
    demonstrate.DemonstrateConfig: ("demonstrate", demonstrate.run),
    reproduce.ReproduceConfig: ("reproduce", reproduce.run),
    serve.ServeConfig: ("serve", serve.run),
    robot.RobotConfig: ("robot", robot.run),
    export.ExportConfig: ("export", export.run),
    weights.WeightsConfig: ("weights", weights.run),
}
"""Every job: its config, whose docstring is its help, the subcommand's name, and what runs it."""

DESCRIPTION = """First-person video to 6DoF object trajectories, on Ray.

Every job can be run again at any time: it continues where it stopped."""


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; the exit code is 0 for success, 1 for a job that ended in an error."""
    try:
        config = tyro.cli(_commands(), prog="egoscaler", description=DESCRIPTION, args=argv)
        JOBS[type(config)][1](config)
    except (UserError, ClipError) as error:
        print(f"egoscaler: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("egoscaler: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `egoscaler status | head`
        sys.stderr.close()
        return 0
    return 0


def _commands() -> Any:
    """A union of the configs, each with the name of its subcommand."""
    union: Any = None
    for config, (name, _) in JOBS.items():
        command = Annotated[config, tyro.conf.subcommand(name)]  # type: ignore[valid-type]
        union = command if union is None else union | command
    return union


if __name__ == "__main__":
    sys.exit(main())
