"""Whether π0 learns to act from object trajectories: the smallest one, on made-up clips.

    python bench/learn.py [--shards DIR] [--clips 60] [--steps N] [--option ...] [--threads 2]
        [--out DIR] [--picture FILE]

Renders clips (`bench.learn_data`; or takes shards of `egoscaler extract`), trains `pi0_tiny` on
all but a fifth of them, and asks the trained policy what it would do at windows of clips that it
was trained on and of clips that it was not. Two policies that see nothing are asked too: one
repeats the last action, one does the mean action. With --out, the same command goes on with what
was interrupted.

Prints one JSON line: errors of all three as `training.validate` defines them, over all windows and
over those in whose recorded steps the object gets more than 1 cm away (`moving`), and `better`,
the share by which the policy's error is below that of the better of the other two, on held-out
clips. The picture is bench/pictures/learning.png by default.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import learn_data, learn_picture
from ego_ops import shards
from training import policy_folder, run_folder, tokeniser
from training.action_error import motions, path
from training.config import SourceConfig, TrainConfig, get
from training.data import norm
from training.data.mixture import Mixer
from training.data.moments import Histogram, Moments
from training.data.norm import NormStats
from training.data.sample import Source
from training.data.shard_source import Part, ShardSource
from training.data.sources import open_sources
from training.options import changed
from training.trainer import Trainer
from training.validate import POLICIES, Case, Held, examined, figures
from training.validation_windows import chosen

PICTURE = Path(__file__).resolve().parent / "pictures" / "learning.png"
JUDGED = ("action_error", "path_translation_m", "path_rotation_rad", "end_translation_m")
MOVED_M = 0.01
WINDOWS = 256


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(given.out or folder)
        begun = time.monotonic()
        data = given.shards
        if data is None:
            data = str(out / "shards")
            if next(shards.parts(data), None) is None:
                learn_data.make(data, given.clips, seed=1, workers=given.threads)
        made = time.monotonic()
        config = configured(data, given)
        train(config, out / "run")
        trained = time.monotonic()
        result = judged(config, out / "run", given.picture)
    seconds = {"seconds_data": made - begun, "seconds_train": trained - made}
    print(json.dumps(result | {name: round(value) for name, value in seconds.items()}))


def configured(data: str, given: argparse.Namespace) -> TrainConfig:
    """`pi0_tiny` on these shards, with what the command line changes."""
    config = changed(get("pi0_tiny"), given.option)
    source = replace(config.sources[0], path=data)
    return replace(config, sources=(source,), steps=given.steps or config.steps)


def train(config: TrainConfig, run: Path) -> None:
    """Train, or go on with it: one worker of `egoscaler train`, without Ray."""
    horizon, share = config.model.horizon, config.held_out
    sources = open_sources(config.sources, horizon, "train", share)
    held_out = open_sources(config.sources, horizon, "held_out", share)
    run_folder.bind(run, config, sources)
    stats = [statistics(source) for source in sources]
    for source, each in zip(sources, stats, strict=True):
        run_folder.write_statistics(run, source, each)
    words = tokeniser.load(config.tokeniser)
    Trainer(config, sources, held_out, stats, words, run, torch.device("cpu")).run()


def statistics(source: Source) -> NormStats:
    """Of all windows of a source that fits into memory."""
    units = [source.load(number, pictures=False) for number in range(len(source.windows()))]
    numbers = [
        np.concatenate(each)
        for each in ([unit.states() for unit in units], [unit.steps() for unit in units])
    ]
    return NormStats(*(Histogram.of(n, Moments.of(n)).statistics() for n in numbers))


def judged(config: TrainConfig, run: Path, picture: Path) -> dict[str, Any]:
    """What the policy of a run does at windows of its clips; draws the picture too."""
    result: dict[str, Any] = {"steps": config.steps}
    seen: dict[Part, list[Case]] = {}
    parts: tuple[Part, ...] = ("train", "held_out")
    for part in parts:
        held = opened(config, run, part)
        units = range(len(held.source.windows()))
        clips = sum(len(held.source.load(unit, pictures=False).ids) for unit in units)
        seen[part] = cases = asked(config, run, held)
        moving = [one for one in cases if moved(one) > MOVED_M]
        result[part] = {"clips": clips} | {
            name: rounded(figures(some, held)) | {"windows": len(some)}
            for name, some in (("all", cases), ("moving", moving))
        }
    result["better"] = {
        name: {figure: better(result["held_out"][name], figure) for figure in JUDGED}
        for name in ("all", "moving")
    }
    learn_picture.draw(run / "metrics.jsonl", seen["held_out"], held, picture)
    return result


def opened(config: TrainConfig, run: Path, part: Part) -> Held:
    """The clips that a run trained on, or those that it did not."""
    source: SourceConfig = config.sources[0]
    of_part = ShardSource(source, config.model.horizon, part, config.held_out)
    stats = norm.read(run_folder.statistics_file(run, of_part))
    return Held(0, of_part, source, stats)


def asked(config: TrainConfig, run: Path, held: Held) -> list[Case]:
    """What the policy does at windows of a source."""
    policy = policy_folder.load(run / "policy")
    kinds, words = [held.config.normalise], tokeniser.load(config.tokeniser)
    mixer = Mixer([held.source], [held.stats], kinds, words, config.model, config.seed, False)
    picks = chosen(held.source.windows(), WINDOWS)
    return examined(policy.model, held, picks, mixer, policy.device)


def moved(case: Case) -> float:
    """Metres that the object gets away from where it is, at most."""
    places = path(motions(case.recorded[case.valid])).translation
    return float(np.linalg.norm(places, axis=-1).max())


def rounded(sums: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Means."""
    return {name: round(total / count, 4) for name, (total, count) in sums.items()}


def better(errors: dict[str, float], figure: str) -> float:
    """Share by which the policy's error is smaller than the others'."""
    own, *others = (errors[f"{figure}{policy}"] for policy in POLICIES)
    return round(1 - own / min(others), 3)


def _arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", help="take these, and render none")
    parser.add_argument("--clips", type=int, default=60, help="to render")
    parser.add_argument("--steps", type=int, help="to train for; pi0_tiny's by default")
    parser.add_argument("--option", nargs="*", default=[], help="as of `egoscaler train`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="folder to keep shards and run in; temporary by default")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="PNG to write")
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
