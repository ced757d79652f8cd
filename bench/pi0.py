"""π0's training step and sampling against LeRobot's: same weights, same inputs, turn by turn.

    python bench/pi0.py --peer-python oracle/bin/python --size small

Prints one JSON line: seconds of each (median), and how many times as fast ours is (median over
turns, each of which times one and then the other); the same in seconds of the CPU, which a busy
machine disturbs less. Both run in the interpreter given, which has
LeRobot (see `tests/golden/make_pi0.py`), so on the same PyTorch, with as many threads, in processes
of their own, and neither while the other does. A training step is forward, backward, clipping and
AdamW: on a CPU in fp32; on a GPU ours under autocast to bf16 with fp32 weights. Sampling is of one
observation, ten steps; on a GPU ours is one CUDA graph in bf16. LeRobot is given pictures already
scaled. Its policy has π0's three cameras, as `lerobot/pi0_base` has, and works on a blank picture
for each that there is none of; `--slots` gives it fewer. How far the two's answers are apart is
told as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.pi0_peer import size
from training.pi0 import checkpoint
from training.pi0.config import Pi0Config
from training.pi0.model import Pi0

ROOT = Path(__file__).resolve().parents[1]
WORDS = 12
"""Tokens of the instruction, which is padded to the model's most."""


class Side:
    """One of the two, waiting for what to do."""

    def __init__(self, python: str, name: str, folder: Path, args: argparse.Namespace):
        names = "size", "device", "threads", "slots"
        options = [f"--{option}={getattr(args, option)}" for option in names]
        self._process = subprocess.Popen(
            [python, str(ROOT / "bench" / "pi0_peer.py"), name, str(folder), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr if args.verbose else subprocess.DEVNULL,
            text=True,
        )
        self.torch = self._answer()

    def do(self, task: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{task}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise SystemExit(f"{self._process.args}: ended without an answer; see --verbose")
        return line


def main() -> None:
    """Write weights and inputs, start both sides, take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", required=True, help="a Python that has lerobot 0.6.1")
    parser.add_argument("--size", default="tiny", help="of training.pi0.config.SIZES")
    parser.add_argument("--batch", type=int, default=4, help="samples of a training step")
    parser.add_argument("--cameras", type=int, default=2, help="that there are")
    parser.add_argument("--slots", type=int, default=3, help="cameras of LeRobot's policy")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    config = size(args.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder, config, args.batch, args.cameras)
        ours, theirs = (Side(args.peer_python, s, folder, args) for s in ("ours", "lerobot"))
        report = {"bench": "pi0", **vars(args), "torch": ours.torch}
        report.pop("verbose"), report.pop("peer_python")
        report |= _differences(folder, ours, theirs)
        for task in ("train", "sample"):
            report |= _timed(task, ours, theirs, args.turns)
        ours.close(), theirs.close()
    print(json.dumps(report))


def _prepare(folder: Path, config: Pi0Config, batch: int, cameras: int) -> None:
    torch.manual_seed(0)
    checkpoint.save(Pi0(config), folder)
    side, actions = config.vision.image, (batch, config.horizon, config.action_size)
    words = torch.arange(config.text_tokens).expand(batch, -1) < WORDS
    inputs = {
        "images": torch.randint(0, 256, (batch, cameras, side, side, 3), dtype=torch.uint8),
        "image_mask": torch.ones(batch, cameras, dtype=torch.bool),
        "tokens": torch.randint(1, config.vocabulary, words.shape) * words,
        "token_mask": words.contiguous(),
        "state": torch.randn(batch, config.action_size),
        "actions": torch.randn(actions),
        "noise": torch.randn(actions),
        "time": torch.rand(batch) * 0.999 + 0.001,
    }
    save_file(inputs, folder / "inputs.safetensors")


def _differences(folder: Path, ours: Side, theirs: Side) -> dict[str, float]:
    """Largest differences between the two sides' answers."""
    ours.do("answer"), theirs.do("answer")
    a, b = (load_file(folder / f"{name}.out") for name in ("ours", "lerobot"))
    return {f"{key}_differ_by": float((a[key] - b[key]).abs().max()) for key in a}


def _timed(task: str, ours: Side, theirs: Side, turns: int) -> dict[str, float]:
    """Medians over turns; a first one is left out, in which memory is asked for."""
    report = {}
    times = [(_seconds(ours, task), _seconds(theirs, task)) for _ in range(turns + 1)][1:]
    for number, clock in enumerate(("", "_cpu")):
        pairs = [(a[number], b[number]) for a, b in times]
        report |= {
            f"{task}{clock}_s": round(statistics.median(a for a, _ in pairs), 5),
            f"{task}{clock}_lerobot_s": round(statistics.median(b for _, b in pairs), 5),
            f"{task}{clock}_times_as_fast": round(statistics.median(b / a for a, b in pairs), 3),
        }
    return report


def _seconds(side: Side, task: str) -> tuple[float, float]:
    clock, cpu = side.do(task).split()
    return float(clock), float(cpu)


if __name__ == "__main__":
    main()
