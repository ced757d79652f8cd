"""The main job from end to end on made-up video with known truth: what `make demo` runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

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
    from ego_ops import synthetic  # MuJoCo: only the demo needs it

    corpus, shards = config.out / "egodex", config.out / "shards"
    began = time.monotonic()
    print(f"[1/5] rendering {config.clips} scenes with MuJoCo into {corpus}", flush=True)
    synthetic.write_egodex(corpus, clips=config.clips, seed=config.seed)
    print(f"[2/5] indexing (egoscaler index --corpus egodex --root {corpus})", flush=True)
    manifest = str(config.out / "manifest")
    index.run(index.IndexConfig(corpus="egodex", root=str(corpus), out=manifest))
    print("[3/5] extracting (egoscaler extract)", flush=True)
    extract.run(extract.ExtractConfig(manifest=manifest, out=str(shards), workers=config.workers))
    print("[4/5] status (egoscaler status)", flush=True)
    status.run(status.StatusConfig(out=str(shards)))
    print("[5/5] report, compared with the true poses (egoscaler report)", flush=True)
    page = report.run(
        report.ReportConfig(
            shards=str(shards), out=config.out / "report.html", truth=corpus / "truth"
        )
    )
    print(f"done in {time.monotonic() - began:.0f} s; open {page}")
