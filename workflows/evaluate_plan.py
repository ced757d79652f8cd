"""What an evaluation is to do: flags to episodes, all of them checked before anything runs."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ego_ops.errors import UserError, hint
from sim_eval import policies, suites
from sim_eval.episode import Episode, Settings
from sim_eval.policies import Access, Compute, Named
from sim_eval.policy import PolicyError
from sim_eval.suite import Suite
from workflows import flags

_LONGEST_S = 86400
_MOST_SEEDS = 1_000_000
_LAST_SEED = 2**63 - 1  # results keep them as 64-bit integers


@dataclass(frozen=True)
class Options:
    """The flags that `evaluate` and `sweep` have in common."""

    tasks: tuple[str, ...] = ()
    """Tasks; by default all of the suite."""
    episodes: int = 50
    """Episodes of each task: seeds 0 to one less than this."""
    seeds: str | None = None
    """In place of --episodes: seeds as 0..4 (0 and 4 are among them), or 0,3,7..9."""
    replan: int | None = None
    """Actions of a chunk that are done before the policy is asked again; by default the suite's."""
    ensemble: float | None = None
    """Temporal ensembling: ask at every step, and weigh the chunks' actions for it by
    exp(-ENSEMBLE * i), i = 0 for the oldest. ACT uses 0.01."""
    batch: int = 8
    """Most requests that a policy answers in one call. Checkpoints compute with batches of just
    this many, filled up where there are fewer: another number is another policy."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where checkpoints compute."""
    half: bool | None = None
    """Whether checkpoints compute in bf16; by default on a GPU only."""
    flow_steps: int = 10
    """Steps of the integration from noise to actions."""
    source: str | None = None
    """Whose states and actions a checkpoint takes and gives; needed where it was trained on
    several sources."""
    token_file: str | None = None
    """File with the token that policy servers want. All that are named are sent it."""
    ca: str | None = None
    """Certificates (PEM) for wss://, if not the system's."""
    workers: int | None = None
    """Processes that simulate, a core each; by default one a core. On a cluster that grows on
    demand, the number that it shall grow to."""
    envs_per_worker: int | None = None
    """Episodes at a time in each of them: while some wait for the policy, another is at work. By
    default as many as make two full batches, so that one can gather while the other computes, but
    from 2 to 8."""
    policy_replicas: int = 1
    """Copies of a policy, each in a process of its own (with --device cuda: with its own GPU)."""
    latency_cap: float = 200.0
    """Milliseconds that a request waits at most for others to be answered in the same call."""
    step_timeout: float = 60.0
    """Seconds that a reset, a step or a picture may take before its process counts as stuck."""
    attempts: int = 3
    """How often an episode is tried whose simulator crashes, is stuck or raises an error."""
    videos: int = 1
    """Videos for each task and outcome."""
    out: str = "eval"
    """Folder (or fsspec URL) for results, videos and the report. It can hold those of any number of
    suites and policies; episodes that are in it are not done again."""
    address: str | None = None
    """Ray cluster to join: "auto" on a machine of it, or host:port. By default that of
    RAY_ADDRESS, which a submitted job has; without it, Ray is started on this machine."""
    quiet: bool = False
    """Print only what was found."""

    def slots(self, workers: int) -> int:
        """Episodes at a time in each of so many workers."""
        wanted = math.ceil(2 * self.batch * self.policy_replicas / workers)
        return self.envs_per_worker or min(max(wanted, 2), 8)

    @property
    def compute(self) -> Compute:
        """What the digest of a checkpoint depends on."""
        return Compute(self.batch, self.device, self.half, self.flow_steps, self.source)

    @property
    def access(self) -> Access:
        """To servers. Raises UserError: a file of it cannot be read, or is none."""
        return Access(flags.token(self.token_file), flags.certificates(self.ca))


class Plan(NamedTuple):
    """One policy in one suite."""

    suite: Suite
    policy: Named
    episodes: list[Episode]


def plans(
    options: Options, suite_names: Sequence[str], policy_names: Sequence[str]
) -> tuple[list[Plan], list[str], list[str]]:
    """Every policy in every suite; suites in turn.

    Returns:
        The plans; what a user is to be told, a line each; and a line for each policy without plans
        since its server is away.

    Raises:
        UserError: a flag makes no sense, or there is no such suite, task, seed or policy.
    """
    _check(options)
    if not suite_names or not policy_names:
        raise UserError(f"no {'policies' if suite_names else 'suites'} are named")
    seeds = range(options.episodes) if options.seeds is None else parse_seeds(options.seeds)
    found = [_suite(name) for name in dict.fromkeys(suite_names)]
    access = options.access
    named: dict[str, Named] = {}
    away = []
    for name in dict.fromkeys(policy_names):
        try:
            policy = policies.named(name, options.compute, access)
        except PolicyError as error:
            away.append(str(error))
        else:
            named.setdefault(policy.digest, policy)
    todo, said = [], []
    for suite in found:
        for policy in named.values():
            said += policies.check(policy, suite)
            todo.append(Plan(suite, policy, _episodes(options, suite, policy, seeds)))
    return todo, said, away


def parse_seeds(text: str) -> list[int]:
    """Seeds as 0..4 or 0,3,7..9, in that order, each once.

    Raises:
        UserError: the text is none of these.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        try:
            begin, end = int(first), int(last) if dots else int(first)
        except ValueError as error:
            raise UserError(f"--seeds {text}: give 0..4, or 0,3,7..9") from error
        if begin < 0 or end < begin or end > _LAST_SEED:
            raise UserError(f"--seeds {text}: {part.strip()} are no seeds from 0 to {_LAST_SEED}")
        if end - begin >= _MOST_SEEDS:  # a slip that would fill the memory
            raise UserError(f"--seeds {text}: more than {_MOST_SEEDS} seeds")
        seeds |= dict.fromkeys(range(begin, end + 1))
    return list(seeds)


def _suite(name: str) -> Suite:
    """A suite of ours, or module:Class of one's own."""
    module, colon, attribute = name.partition(":")
    if not colon:
        return suites.get(name)
    if os.getcwd() not in sys.path:  # a command's path does not have it; Ray's workers get it too
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)()
    except Exception as error:
        what = " ".join(str(error).split()) or "no message"
        raise UserError(f"suite {name}: cannot load it ({type(error).__name__}: {what})") from error


def _episodes(options: Options, suite: Suite, policy: Named, seeds: Sequence[int]) -> list[Episode]:
    """Task by task, so that an environment seldom changes its scene."""
    for task in options.tasks:
        if task not in suite.tasks:
            raise UserError(f"suite {suite.name} has no task {task}: {hint(task, suite.tasks)}")
    if suite.seeds is not None and max(seeds) >= suite.seeds:
        raise UserError(
            f"suite {suite.name} has seeds 0 to {suite.seeds - 1}: give "
            f"--episodes {suite.seeds} or fewer, or --seeds"
        )
    replan = 1 if options.ensemble is not None else options.replan or suite.replan
    settings = Settings(replan, options.ensemble)
    return [
        Episode(policy.digest, suite.name, suite.version, task, seed, settings)
        for task in suite.tasks
        if not options.tasks or task in options.tasks
        for seed in seeds
    ]


def _check(options: Options) -> None:
    least = {"episodes": 1, "replan": 1, "batch": 1, "flow_steps": 1, "workers": 1}
    least |= {"envs_per_worker": 1, "policy_replicas": 1, "attempts": 1, "videos": 0}
    flags.at_least(options, least)
    if options.episodes > _MOST_SEEDS:
        raise UserError(f"--episodes {options.episodes}: must be at most {_MOST_SEEDS}")
    if not options.out:
        raise UserError("--out names no folder")
    for name in ("latency_cap", "ensemble"):
        given = getattr(options, name)
        if given is not None and not (math.isfinite(given) and given >= 0):
            raise UserError(f"--{name.replace('_', '-')} {given}: must be 0 or more")
    if options.ensemble is not None and (options.replan or 1) != 1:
        raise UserError(
            f"--ensemble asks the policy at every step: --replan {options.replan} cannot be with it"
        )
    if not 0 < options.step_timeout <= _LONGEST_S:
        raise UserError(
            f"--step-timeout {options.step_timeout:g}: must be more than 0 and at most {_LONGEST_S}"
        )
