"""A trained π0 as a policy of many episodes, whose answers do not depend on who else asks.

All calls compute the same shapes: as many rows, as many tokens of text and the cameras that suite
and policy share, whoever asks. What is drawn by chance is drawn per request. What then is left is
which row a request has. Rows should not matter, and where they do it is the libraries' doing: an
elementwise kernel does what does not fill its last vectors by other instructions, a product of
matrices is cut differently at an edge, threads share an array where they please. So one thread
computes on a CPU. Where a row does not fill vectors the last rows are spare: a last bit of a few
numbers, seldom another, is nothing that a trial would find. The edges of products show in most
numbers, so they are tried before anything is answered, with random requests and the weights
themselves: whether all rows give the same bits and no row sees another, for `batch` rows, then for
more (multiples of 8), at last row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ego_ops.errors import UserError
from sim_eval.policies.checkpoint_files import cameras, check
from sim_eval.policies.names import Named, checkpoint_digest
from sim_eval.policy import PolicyError, Request
from sim_eval.suite import Floats, Suite
from training import policy_folder
from training.batch import Observation
from training.pi0.config import Pi0Config
from training.pi0.inference import GraphSampler
from training.policy import Sight

_FILLED = (8, 16, 32)
_VECTORS = 32
"""Numbers that an elementwise kernel of PyTorch computes at once: two vectors of 512 bits."""
_FIELDS = ("images", "image_mask", "tokens", "token_mask", "state")


class CheckpointPolicy:
    """See `sim_eval.policy.BatchPolicy`.

    Attributes:
        rows: what a call computes: `batch`, or more, or 1 (several calls then), as above.
        spare: of these, the last ones, which hold nobody's request.

    Raises:
        UserError: it cannot be loaded, does not fit the suite, or is another by now.
    """

    def __init__(self, policy: Named, suite: Suite):
        check(policy, suite)
        how = policy.compute
        self.digest, self.batch = policy.digest, how.batch
        self._cameras, self._steps = cameras(policy, suite), how.steps
        self._pi0 = policy_folder.load(policy.place, _device(how.device), how.source, how.half)
        if checkpoint_digest(policy.place, how) != policy.digest:
            raise UserError(
                f"--policy {policy.name}: {policy.place} has changed since it was looked at; run "
                "the same command again, once what writes there has ended"
            )
        self._graph: tuple[int, GraphSampler] | None = None
        self.spare = 0 if self._pi0.device.type == "cuda" else _spare(self._pi0.model.config)
        self.rows = self._independent()
        if self.rows == 1:
            self.spare = 0

    def act(self, requests: Sequence[Request]) -> list[Floats | PolicyError]:
        """See `BatchPolicy.act`; chunks are (horizon, action_size) of the source."""
        answers: list[Floats | PolicyError] = []
        seen: list[tuple[int, Observation, Tensor]] = []
        for request in requests:
            try:
                seen.append((len(answers), self._observation(request), self._noise(request)))
                answers.append(np.empty((0, 0)))
            except UserError as error:
                answers.append(PolicyError(str(error)))
        at_once = self.rows - self.spare
        for begin in range(0, len(seen), at_once):
            some = seen[begin : begin + at_once]
            found = self._sample(
                [one for _, one, _ in some], [noise for *_, noise in some], self.rows
            )
            actions = self._pi0.actions(found).astype(np.float64)
            for (place, _, _), chunk in zip(some, actions, strict=False):
                answers[place] = chunk
        return answers

    def close(self) -> None:
        """Let go of the weights."""
        self._graph = None
        del self._pi0

    def _observation(self, request: Request) -> Observation:
        """One row."""
        shown = request.observation
        images = {name: shown.images[name] for name in self._cameras if name in shown.images}
        seen = self._pi0.observation(
            [Sight(images, shown.instruction, shown.state[: self._pi0.state_size])]
        )
        room = self._pi0.model.config.text_tokens - seen.tokens.shape[1]
        return replace(
            seen,
            tokens=F.pad(seen.tokens, (0, room)),
            token_mask=F.pad(seen.token_mask, (0, room)),
            padded=True,
        )

    def _noise(self, request: Request) -> Tensor:
        config = self._pi0.model.config
        shape = 1, config.horizon, config.action_size
        return torch.from_numpy(request.generator().standard_normal(shape, np.float32))

    def _sample(self, rows: list[Observation], noise: list[Tensor], count: int) -> Tensor:
        """Normalised actions of `count` rows, the first one again where fewer are given."""
        fill = count - len(rows)
        rows, noise = rows + rows[:1] * fill, noise + noise[:1] * fill
        parts = {name: torch.cat([getattr(row, name) for row in rows]) for name in _FIELDS}
        seen, start = Observation(**parts, padded=True), torch.cat(noise).to(self._pi0.device)
        with torch.inference_mode(), _one_thread():
            if self._pi0.device.type != "cuda":
                return self._pi0.model.sample(seen, start, self._steps)
            if self._graph is None or self._graph[0] != count:
                self._graph = None  # before memory is asked for again
                self._graph = count, GraphSampler(self._pi0.model, seen, self._steps)
            return self._graph[1](seen, start)

    def _independent(self) -> int:
        """How many rows to compute so that it does not matter which of them a request has."""
        if self.batch == 1:
            return 1
        least = self.batch + self.spare
        for count in (least, *(size for size in _FILLED if size > least)):
            if self._alike(count):
                return count
        return 1

    def _alike(self, count: int) -> bool:
        """Whether all rows that are not spare give the same bits for the same request, whatever is
        beside it."""
        (one, noise), *others = [self._random(number) for number in range(count)]
        mixed = [one, *(o for o, _ in others)], [noise, *(n for _, n in others)]
        alone, beside = self._sample([one], [noise], count), self._sample(*mixed, count)
        bits = torch.cat([alone[: count - self.spare], beside[:1]]).view(torch.int32)
        return bool((bits == bits[0]).all())

    def _random(self, number: int) -> tuple[Observation, Tensor]:
        """A request that nobody would make, but whose numbers are as good as any."""
        chance = torch.Generator().manual_seed(number)
        config = self._pi0.model.config
        side, count, length = config.vision.image, len(self._cameras), config.text_tokens
        seen = Observation(
            images=torch.randint(
                256, (1, count, side, side, 3), generator=chance, dtype=torch.uint8
            ),
            image_mask=torch.ones(1, count, dtype=torch.bool),
            tokens=torch.randint(config.vocabulary, (1, length), generator=chance),
            token_mask=torch.arange(length)[None] < 1 + number * 7 % length,
            state=torch.randn(1, config.action_size, generator=chance),
        ).to(self._pi0.device)
        shape = 1, config.horizon, config.action_size
        return seen, torch.randn(shape, generator=chance)


def _spare(config: Pi0Config) -> int:
    """How many rows at the end an elementwise kernel may not compute by whole vectors."""
    vision = config.vision
    sizes = [vision.tokens * vision.width, vision.tokens * vision.mlp]
    sizes += [
        size for tower in (config.language, config.expert) for size in (tower.width, tower.mlp)
    ]
    sizes.append(config.horizon * config.action_size)
    if all(size % _VECTORS == 0 for size in sizes):
        return 0
    return -(-(_VECTORS - 1) // min(sizes))


def _device(name: str) -> str:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no CUDA here; leave it out, or give the GPU")
    return name


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
