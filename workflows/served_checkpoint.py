"""A trained π0 that is served: raw messages in, actions in the units of its source out.

On a GPU every number of rows that a call may have is one CUDA graph, captured before anything is
answered: 1, 2, 4, ... and `batch`, filled up where there are fewer. On a CPU a call computes just
the rows that were asked for. The noise that an answer begins from follows from its client and from
how often that has asked, so a client is answered the same whoever else asks (to rounding: rows of a
call share its sums). Where one has a prefix (real-time chunking), its call takes gradients, and no
graph.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ego_ops.errors import UserError
from robot.policy import Answer, PolicyError, Request
from robot.protocol import KEY
from training import policy_folder
from training.batch import Observation
from training.pi0.chunking import sample_with_prefix
from training.pi0.inference import GraphSampler
from training.policy import Sight
from workflows.served_observations import Reader

_GPU = threading.Lock()
"""Nothing else may use the GPU while a graph is captured: a new policy's, while the old answers."""

Sampler = Callable[[Observation, Tensor], Tensor]


class CheckpointPolicy:
    """See `robot.policy.Policy`. Ready, and warm, when it is made.

    Args:
        folder: of the policy.
        observation: whose messages, see `workflows.served_observations`.
        source, device, half: see `training.policy_folder.load`.
        steps: of the integration from noise to actions.

    Attributes:
        robot: what a client relies on: a policy in whose place this one comes must have the same.

    Raises:
        UserError: it cannot be loaded, sees by no camera of these messages, or there is no GPU.
    """

    def __init__(
        self,
        folder: str,
        observation: str,
        source: str | None = None,
        batch: int = 8,
        device: str = "cpu",
        half: bool | None = None,
        steps: int = 10,
    ):
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError("--device cuda: there is no CUDA here; leave it out, or give the GPU")
        self._pi0 = policy_folder.load(folder, device, source, half)
        self._reader = Reader(observation, self._pi0.cameras, self._pi0.state_size)
        self.batch, self._steps = batch, steps
        self._asked: Counter[str] = Counter()
        self._graphs: dict[tuple[int, int], GraphSampler] = {}
        self.robot = {
            "observation": observation,
            "source": self._pi0.source,
            "state_size": self._pi0.state_size,
            "action_size": self._pi0.action_size,
            "horizon": self._pi0.horizon,
            "cameras": list(self._reader.cameras),
        }
        told = {"policy": folder, **self.robot, **self._pi0.trained}
        self.metadata: Mapping[str, Any] = {**told, KEY: {"features": ["prefix"]}}
        self._warm()

    @property
    def missing(self) -> tuple[str, ...]:
        """Cameras that it was trained with and is not shown."""
        return self._reader.missing

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        """See `Policy.infer`."""
        answers: list[Answer | PolicyError] = []
        sights: list[Sight] = []
        places: list[int] = []
        for place, request in enumerate(requests):
            try:
                sights.append(self._sight(request))
                places.append(place)
                answers.append(Answer(np.empty((0, 0))))
            except PolicyError as error:
                answers.append(error)
        noise = [self._noise(requests[place].client) for place in places]
        if not sights:
            return answers
        found = self._act(sights, noise)
        for place, actions in zip(places, found, strict=True):
            good = np.isfinite(actions).all()
            answers[place] = Answer(actions) if good else PolicyError("its actions are not finite")
        return answers

    def forget(self, client: str) -> None:
        """See `Policy.forget`."""
        self._asked.pop(client, None)

    def close(self) -> None:
        """Let go of the weights."""
        self._graphs.clear()
        del self._pi0

    def _sight(self, request: Request) -> Sight:
        """Raises PolicyError: see `Reader.sight`; the prefix is none of this policy's actions."""
        sight = self._reader.sight(request.observation)
        if request.prefix is None:
            return sight
        size = self._pi0.action_size
        if request.prefix.ndim != 2 or request.prefix.shape[1] != size:
            raise PolicyError(
                f"prefix: shape (P, {size}), not {request.prefix.shape}: actions of this policy",
                "bad_request",
            )
        return sight._replace(prefix=request.prefix, delay=request.delay)

    def _act(
        self, sights: Sequence[Sight], noise: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """(B, horizon, action_size)."""
        start = torch.from_numpy(np.stack(noise)).to(self._pi0.device)
        with _GPU:
            seen, prefixes = self._pi0.observation(sights), self._pi0.prefixes(sights)
            if prefixes is not None:  # by gradients, in no graph
                found = sample_with_prefix(self._pi0.model, seen, *prefixes, start, self._steps)
                return self._pi0.actions(found)
            with torch.inference_mode():
                return self._pi0.actions(self._sampled(seen, start)[: len(sights)])

    def _sampled(self, seen: Observation, start: Tensor) -> Tensor:
        if self._pi0.device.type != "cuda":
            return self._pi0.model.sample(seen, start, self._steps)
        rows = next(size for size in sizes(self.batch) if size >= len(start))
        seen = self._filled(seen, rows)
        return self._graph(seen)(seen, _more(start, rows))

    def _graph(self, seen: Observation) -> GraphSampler:
        """Of the observation's shape; captured where it is new: cameras that were always there may
        be missing."""
        rows, cameras = seen.images.shape[:2]
        if (rows, cameras) not in self._graphs:
            self._graphs[rows, cameras] = GraphSampler(self._pi0.model, seen, self._steps)
        return self._graphs[rows, cameras]

    def _filled(self, seen: Observation, rows: int) -> Observation:
        """With so many rows, the first one again where there are fewer, and all of the text's
        places, so that there are few shapes."""
        room = self._pi0.model.config.text_tokens - seen.tokens.shape[1]
        return replace(
            seen,
            images=_more(seen.images, rows),
            image_mask=_more(seen.image_mask, rows),
            tokens=_more(F.pad(seen.tokens, (0, room)), rows),
            token_mask=_more(F.pad(seen.token_mask, (0, room)), rows),
            state=_more(seen.state, rows),
            padded=True,
        )

    def _noise(self, client: str) -> NDArray[np.float32]:
        """(horizon, the model's action_size) for this client's next answer."""
        config = self._pi0.model.config
        chance = generator(client, self._asked[client])
        self._asked[client] += 1
        return chance.standard_normal((config.horizon, config.action_size), np.float32)

    def _warm(self) -> None:
        """Compute every number of rows once: libraries choose their algorithms, graphs are
        captured."""
        side = self._pi0.model.config.vision.image
        images = {camera: np.zeros((side, side, 3), np.uint8) for camera in self._reader.cameras}
        sight = Sight(images, "warm up", np.zeros(self._pi0.state_size, np.float32))
        for rows in sizes(self.batch):
            self._act([sight] * rows, [self._noise("warm up")] * rows)
        self.forget("warm up")


def sizes(batch: int) -> list[int]:
    """Rows of calls on a GPU: powers of two below the batch, and the batch."""
    return [1 << power for power in range((batch - 1).bit_length())] + [batch]


def generator(client: str, asked: int) -> np.random.Generator:
    """All chance in a client's answer, given how often it had asked before."""
    digest = hashlib.blake2b(f"{client}/{asked}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _more(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows, rows[:1].expand(count - len(rows), *rows.shape[1:])])
