"""The main job from end to end on made-up video with known truth: what `make demo` runs."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

from ego_ops.errors import UserError
from ego_ops.report.survey import survey
from workflows import extract, index, report, status


@dataclass(frozen=True)
class DemoConfig:
    """Render a small first-person corpus, extract it, compare with the truth, write a report."""

    out: Path = Path("demo")
    """Folder for the corpus, the manifest, the shards and the report."""
    clips: int = 6
    """How many scenes to render."""
    seed: int = 0
    """Of the scenes; the same seed gives the same pictures."""
    workers: int | None = None
    """Perception actors; by default one a core."""


def run(config: DemoConfig) -> None:
    """Render, index, extract, show the status, write the report.

    Raises:
        UserError: a step failed, or a clip did not come out `ok`.
    """
    corpus, manifest, shards = (str(config.out / name) for name in ("egodex", "manifest", "shards"))
    truth = Path(corpus, "truth")
    began = time.monotonic()
    print(f"[1/5] rendering {config.clips} scenes with MuJoCo into {corpus}", flush=True)
    _render(config, Path(corpus))
    print(f"[2/5] egoscaler index --corpus egodex --root {corpus} --out {manifest}", flush=True)
    index.run(index.IndexConfig(corpus="egodex", root=corpus, out=manifest))
    print(f"[3/5] egoscaler extract --manifest {manifest} --out {shards}", flush=True)
    extract.run(extract.ExtractConfig(manifest=manifest, out=shards, workers=config.workers))
    print(f"[4/5] egoscaler status --out {shards}", flush=True)
    state = status.run(status.StatusConfig(out=shards))
    page = config.out / "report.html"
    print(f"[5/5] egoscaler report --shards {shards} --truth {truth} --out {page}", flush=True)
    report.run(report.ReportConfig(shards=shards, out=page, truth=truth))
    print(_verdict(shards, truth))
    print(f"{time.monotonic() - began:.0f} s in all; now open {page}")
    if (ok := state["corpora"]["egodex"]["ok"]) < config.clips:
        raise UserError(f"{config.clips - ok} of {config.clips} clips did not come out ok")


def _verdict(shards: str, truth: Path) -> str:
    found = survey(shards, str(truth))
    position, turn = found.median("position_median_m"), found.median("rotation_median_rad")
    if position is None or turn is None:
        return "no clip came out ok: there is nothing to compare with the true poses"
    return (
        f"against the true poses, once touched: {100 * position:.2f} cm and "
        f"{math.degrees(turn):.1f} degrees (medians over steps, then clips)"
    )


def _render(config: DemoConfig, corpus: Path) -> None:
    """Render the corpus, unless it is there already.

    Raises:
        UserError: another corpus is there.
    """
    from ego_ops import synthetic  # MuJoCo: only the demo needs it

    made, wanted = corpus / "made.json", {"clips": config.clips, "seed": config.seed}
    if made.exists():
        there = json.loads(made.read_text())
        if there != wanted:
            raise UserError(f"{corpus} holds a demo of {there}, not of {wanted}: use another --out")
        print(f"  {config.clips} clips are there already")
        return
    synthetic.write_egodex(
        corpus,
        clips=config.clips,
        seed=config.seed,
        on_clip=lambda path: print(f"  {path}", flush=True),
    )
    made.write_text(json.dumps(wanted))
