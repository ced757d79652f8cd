"""Policies by name: what `--policy` may say, and how to have what it names.

expert, random                    see `sim_eval.policies.local`
replay:FOLDER                     a LeRobot dataset's actions, likewise
ws://HOST:PORT, wss://...         an openpi server, see `sim_eval.policies.server`
RUN or RUN/policy                 what `egoscaler train` wrote, see `.checkpoint`
"""

from __future__ import annotations

from sim_eval.episode import Episode
from sim_eval.policies.connection import Access
from sim_eval.policies.names import Compute, Named, named
from sim_eval.policy import BatchPolicy, LocalPolicy
from sim_eval.suite import Suite

__all__ = ["Access", "Compute", "Named", "check", "named", "open_batch", "open_local"]


def check(policy: Named, suite: Suite) -> list[str]:
    """See before anything runs that a policy fits a suite. No weights are loaded.

    Returns:
        What a user is to be told all the same, one line each: cameras that it lacks or is not
        shown, tasks that were not recorded.

    Raises:
        UserError: its states or actions are of another size, it sees by no camera of the suite, or
            nothing was recorded for it.
    """
    if policy.kind == "checkpoint":
        from sim_eval.policies import checkpoint_files

        return checkpoint_files.check(policy, suite)
    if policy.kind == "replay":
        from sim_eval.policies import replay

        return replay.check(policy.place, suite)
    return []


def open_batch(policy: Named, suite: Suite) -> BatchPolicy:
    """A checkpoint or a server, ready to be asked by episodes of that suite.

    Raises:
        UserError: it cannot be loaded, or does not fit (see `check`).
        PolicyError: no server answers.
    """
    if policy.kind == "server":
        from sim_eval.policies.server import ServerPolicy

        return ServerPolicy(policy, suite)
    from sim_eval.policies.checkpoint import CheckpointPolicy

    return CheckpointPolicy(policy, suite)


def open_local(policy: Named, suite: Suite, episode: Episode) -> LocalPolicy:
    """`expert`, `random` or `replay:FOLDER` for one episode.

    Its chunks have one action: it is asked at every step, and how often a policy is to be asked
    anew makes no difference to it.

    Raises:
        UserError: a replay has nothing for that task and seed.
    """
    from sim_eval.policies import local

    return local.open_local(policy, suite, episode)
