"""Made-up results of episodes."""

from __future__ import annotations

from typing import Any

from sim_eval import results
from sim_eval.episode import FAILURE, SUCCESS, Episode, Result, Settings

FPS = 20.0
HORIZON = 200


def read(url: str) -> list[Result]:
    """What a folder of results holds, a row an episode."""
    rows = results.table(url)
    columns = [rows[name].to_pylist() for name in results.SCHEMA.names]
    return [Result(*values) for values in zip(*columns, strict=True)]


def result(
    seed: int = 0,
    outcome: str = SUCCESS,
    policy: str = "runs/a/policy",
    task: str = "stack",
    suite: str = "toys",
    version: str = "1",
    digest: str = "",
    replan: int = 5,
    **others: Any,
) -> Result:
    """What became of one episode, which the same arguments name."""
    digest = digest or f"digest of {policy}"
    episode = Episode(digest, suite, version, task, seed, Settings(replan))
    known: dict[str, Any] = {
        "episode": episode.id, "policy": policy, "policy_digest": digest, "suite": suite,
        "version": version, "task": task, "instruction": f"please {task}", "seed": seed,
        "replan": replan, "ensemble": None, "outcome": outcome,
        "error": "" if outcome in (SUCCESS, FAILURE) else f"why {outcome}",
        "steps": 40 + seed if outcome == SUCCESS else HORIZON, "fps": FPS, "states": "ab",
        "calls": 10, "latency_mean_ms": 5.0, "latency_max_ms": 9.0, "seconds": 1.5,
        "attempts": 1, "video": "", "time": 1.8e9 + seed,
    }  # fmt: skip
    return Result(**(known | others))
