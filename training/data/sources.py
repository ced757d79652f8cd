"""The sources of a configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ego_ops.errors import UserError
from training.config import SourceConfig
from training.data.order import Order
from training.data.sample import Source
from training.data.shard_source import Part, ShardSource


def open_source(
    config: SourceConfig, horizon: int, part: Part = "all", held_out: float = 0.0
) -> Source:
    """A source of windows of `horizon` actions.

    Args:
        part: `train`, what is `held_out` from training, or `all`.
        held_out: share of the clips, or episodes, that are held out.

    Raises:
        UserError: there is nothing to train on, or the configuration does not fit what is there.
    """
    if config.kind == "shards":
        return ShardSource(config, horizon, part, held_out)
    if config.kind == "lerobot":
        from training.data.lerobot_source import LeRobotSource

        return LeRobotSource(config, horizon, part, held_out)
    raise UserError(f"source {config.path}: kind {config.kind}: there are shards and lerobot")


def open_sources(
    configs: Sequence[SourceConfig], horizon: int, part: Part = "all", held_out: float = 0.0
) -> list[Source]:
    """Every source of a mixture: see `open_source`.

    Raises:
        UserError: as there, also where two have the same name.
    """
    names = Counter(config.name or config.kind for config in configs)
    twice = [name for name, count in names.items() if count > 1]
    if not configs:
        raise UserError("the mixture has no sources")
    if twice:
        raise UserError(f"sources of the mixture: two are called {twice[0]}: give them names")
    return [open_source(config, horizon, part, held_out) for config in configs]


def order(sources: Sequence[Source], configs: Sequence[SourceConfig], seed: int) -> Order:
    """The order in which a run takes the windows of its sources."""
    pools = [_POOLS[config.kind] for config in configs]
    sizes = [source.windows() for source in sources]
    return Order(sizes, [config.weight for config in configs], seed, pools)


_POOLS = {"shards": 8192, "lerobot": 2048}
"""Least windows mixed together, by kind: an episode's pictures are larger than a clip's."""
