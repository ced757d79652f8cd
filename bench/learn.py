"""Whether training learns: π0 tiny's error of actions on clips that it never saw, on CPU.

    python bench/learn.py --out DIR [--truth] [--clips 20] [--seed 1] [--option steps=900 ...]

Makes the data that DIR lacks: the demo's shards, extracted from rendered video of EgoDex and
HD-EPIC, or with --truth those of `learn_data.py`, whose poses have no error. Trains `pi0_tiny` on
four fifths of the clips, and prints one line of JSON: the errors of `training.validate` on windows
of clips trained on and of clips held out, next to those of two policies that see nothing. DIR gets
`learning.png`. Training that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import learn_data
from ego_ops.errors import UserError
from training import run_folder, tokeniser, validation_plot
from training.config import TrainConfig, get
from training.log import FILE
from training.mixture import Mixer
from training.moments import Histogram, Moments
from training.norm import NormStats, Statistics
from training.options import changed
from training.sample import Source
from training.sources import open_sources
from training.trainer import Trainer
from training.validate import validate

CPU = torch.device("cpu")
CORPORA = ("egodex", "hdepic")


def data(folder: Path, truth: bool, clips: int, seed: int) -> Path:
    """The folder of the shards, made where they are not there.

    Args:
        clips: scenes in all; of the demo, of each corpus.

    Raises:
        UserError: a library is missing, a clip did not come out, or what is there is other data.
    """
    shards = folder / "truth" if truth else folder / "demo" / "shards"
    made, what = folder / "made.json", json.dumps([truth, clips, seed])
    if made.exists() and made.read_text() != what:
        raise UserError(f"{folder}: its data was made with other arguments; take another --out")
    if made.exists():
        return shards
    if truth and shards.exists():
        raise UserError(f"{shards}: making it was interrupted; delete it")
    folder.mkdir(parents=True, exist_ok=True)
    if truth:
        learn_data.make(str(shards), clips, seed, os.cpu_count() or 1)
    else:  # goes on from what is there
        from workflows import demo

        demo.run(demo.DemoConfig(out=folder / "demo", corpus=CORPORA, clips=clips, seed=seed))
    made.write_text(what)
    return shards


def learnt(folder: Path, config: TrainConfig) -> dict[str, object]:
    """Train, and what that gave: errors by part of the data, steps and seconds of this call."""
    horizon, share = config.model.horizon, config.held_out
    parts = {
        part: open_sources(config.sources, horizon, part, share) for part in ("train", "held_out")
    }
    stats = [statistics(source) for source in parts["train"]]
    words = tokeniser.load(config.tokeniser)
    run = folder / "run"
    run_folder.bind(run, config, parts["train"])
    trainer = Trainer(config, parts["train"], parts["held_out"], stats, words, run, CPU)
    before, began = trainer.step, time.monotonic()
    trainer.run()
    seconds = time.monotonic() - began
    errors = {part: _errors(trainer, sources, stats) for part, sources in parts.items()}
    validation_plot.plot(run / FILE, folder / "learning.png")
    windows = {part: int(sources[0].windows().sum()) for part, sources in parts.items()}
    return {
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "steps": trainer.step - before,
        "seconds": round(seconds, 1),
        "windows": windows,
        **errors,
    }


def statistics(source: Source) -> NormStats:
    """Of all windows of a source that fits into memory."""
    units = [source.load(number, pictures=False) for number in range(len(source.windows()))]
    states = np.concatenate([unit.states() for unit in units])
    steps = np.concatenate([unit.steps() for unit in units])
    return NormStats(_of(states), _of(steps))


def _of(values: np.ndarray) -> Statistics:
    return Histogram.of(values, Moments.of(values)).statistics()


def _errors(
    trainer: Trainer, sources: Sequence[Source], stats: Sequence[NormStats]
) -> dict[str, float]:
    """What `training.validate` gives of the moving mean of the weights."""
    config = trainer.config
    kinds = [source.normalise for source in config.sources]
    words = tokeniser.load(config.tokeniser)
    mixer = Mixer(sources, stats, kinds, words, config.model, config.seed, False)
    if trainer.ema is None:
        raise UserError("--option optimiser.ema=null: the moving mean is what is looked at here")
    with trainer.ema.swapped():
        found = validate(
            trainer.model, sources, config.sources, stats, mixer, config.validate_samples, CPU
        )
    start = f"validation/{sources[0].name}/"
    return {k.removeprefix(start): round(v, 5) for k, v in found.items() if k.startswith(start)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--option", nargs="*", default=[], help="fields of pi0_tiny, as of train")
    given = parser.parse_args()
    try:
        shards = data(given.out, given.truth, given.clips, given.seed)
        config = changed(get("pi0_tiny"), given.option)
        source = replace(config.sources[0], path=str(shards))
        found = learnt(given.out, replace(config, sources=(source,)))
    except UserError as error:
        sys.exit(str(error))
    print(json.dumps({"shards": "truth" if given.truth else "demo"} | found))


if __name__ == "__main__":
    main()
