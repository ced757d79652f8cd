"""The main job from end to end on made-up video with known truth: what `make demo` runs."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ego_ops.errors import UserError
from ego_ops.report.survey import Survey, survey
from workflows import extract, index, report, status

CORPORA = ("ego4d", "egoexo4d", "hdepic", "nymeria", "egodex")
"""What `ego_ops.synthetic` can write; named here too, since importing that needs MuJoCo."""


@dataclass(frozen=True)
class DemoConfig:
    """Render small first-person corpora, extract them, compare with the truth, write a report."""

    out: Path = Path("demo")
    """Folder for the corpora, the manifest, the shards and the report."""
    corpus: tuple[str, ...] = CORPORA
    """Which corpora to write, each in its published format."""
    clips: int = 2
    """How many scenes to render of each."""
    seed: int = 0
    """Of the scenes; the same seed gives the same pictures."""
    workers: int | None = None
    """Rendering processes and perception actors; by default one a core."""


def run(config: DemoConfig) -> None:
    """Render, index, extract, show the status, write the report.

    Raises:
        UserError: a corpus is not known, a step failed, or a clip did not come out `ok`.
    """
    names = tuple(dict.fromkeys(config.corpus))
    if not names or not set(names) <= set(CORPORA):
        raise UserError(f"--corpus {' '.join(names)}: the demo has {', '.join(CORPORA)}")
    if config.clips < 1:
        raise UserError(f"--clips {config.clips}: must be 1 or more")
    manifest, shards = (str(config.out / name) for name in ("manifest", "shards"))
    began = time.monotonic()
    print(f"[1/5] rendering {config.clips} scenes of each corpus into {config.out}", flush=True)
    _render(config, names)
    for name in names:
        root = str(config.out / name)
        print(f"[2/5] egoscaler index --corpus {name} --root {root} --out {manifest}", flush=True)
        index.run(index.IndexConfig(corpus=name, root=root, out=manifest))
    print(f"[3/5] egoscaler extract --manifest {manifest} --out {shards}", flush=True)
    extract.run(extract.ExtractConfig(manifest=manifest, out=shards, workers=config.workers))
    print(f"[4/5] egoscaler status --out {shards}", flush=True)
    state = status.run(status.StatusConfig(out=shards))
    page = config.out / "report.html"
    print(f"[5/5] egoscaler report --shards {shards} --truth {config.out} --out {page}", flush=True)
    report.run(report.ReportConfig(shards=shards, out=page, truth=config.out))
    _print_verdict(survey(shards, str(config.out)), names)
    print(f"{time.monotonic() - began:.0f} s in all; now open {page}")
    ok = {name: state["corpora"].get(name, {}).get("ok", 0) for name in names}
    if bad := [f"{config.clips - n} of {name}" for name, n in ok.items() if n < config.clips]:
        raise UserError(f"clips that did not come out ok: {', '.join(bad)}")


def _print_verdict(found: Survey, names: tuple[str, ...]) -> None:
    """Errors against the truth, by corpus and over all clips."""
    print("against the true poses, once touched (medians over steps, then clips):")
    for name in names:
        errors = [found.of(name, figure) for figure in ("position_median_m", "rotation_median_rad")]
        print(f"  {name:<10}{_errors(*errors)}")
    position, turn = (found.values.get(f, []) for f in ("position_median_m", "rotation_median_rad"))
    print(f"  {'all':<10}{_errors(position, turn)}")


def _errors(position: list[float], turn: list[float]) -> str:
    if not position or not turn:
        return "no clip came out ok: there is nothing to compare"
    return (
        f"{100 * median(position):.2f} cm and {math.degrees(median(turn)):.1f} degrees "
        f"({len(position)} clips)"
    )


def _render(config: DemoConfig, names: tuple[str, ...]) -> None:
    """Render the corpora, but for those that are there already.

    Raises:
        UserError: other corpora are there.
    """
    wanted = {"clips": config.clips, "seed": config.seed}
    roots = {}
    for name in names:
        root = config.out / name
        made = root / "made.json"
        if not made.exists():
            roots[name] = root
        elif (there := json.loads(made.read_text())) != wanted:
            raise UserError(f"{root} holds a demo of {there}, not of {wanted}: use another --out")
        else:
            print(f"  {config.clips} clips of {name} are there already")
    if not roots:
        return
    from ego_ops import synthetic  # MuJoCo: only the demo needs it

    synthetic.write_corpora(
        roots,
        clips=config.clips,
        seed=config.seed,
        on_clip=lambda name, number: print(f"  {name} {number}", flush=True),
        workers=config.workers,
    )
    for root in roots.values():
        (root / "made.json").write_text(json.dumps(wanted))
