"""A trained policy: what it sees in, what it does out, in the units of what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ego_ops.errors import UserError
from training.batch import Observation
from training.data import norm
from training.data.augment import fitted
from training.data.norm import NormStats
from training.data.text import Texts
from training.pi0.chunking import overlap_weights, sample_with_prefix
from training.pi0.model import Pi0
from training.tokeniser import Tokeniser


class Sight(NamedTuple):
    """What a policy is asked with."""

    images: Mapping[str, NDArray[np.uint8]]
    """By the policy's cameras, or some of them: (H, W, 3) RGB of any size."""
    instruction: str
    state: NDArray[np.floating]
    """(state_size,), in the units of the source."""
    prefix: NDArray[np.floating] | None = None
    """(P, action_size) what is left of the chunk that is being done, from the action that was due
    as this was seen, in the units of the source: the new chunk goes on from it, by real-time
    chunking (`training.pi0.chunking`). None, or no actions: there is none."""
    delay: int = 0
    """How many of these will have been done before the new chunk is there."""


class Policy:
    """A π0 that acts as one of its sources does: what goes in and comes out is not normalised.

    Attributes:
        model: on its device; bf16 there if that is a GPU, but for norms and heads.
        cameras: those that it was trained with.
        source: name of the source whose states and actions it takes and gives.
        state_size, action_size, horizon: numbers of a state and of an action, actions of a chunk.
        trained: what the policy's `config.json` says about where it comes from.
    """

    def __init__(
        self,
        model: Pi0,
        tokeniser: Tokeniser,
        config: dict[str, Any],
        source: str,
        stats: NormStats,
    ):
        about = config["sources"][source]
        self.model, self.source = model, source
        self.cameras: tuple[str, ...] = tuple(config["cameras"])
        self.state_size: int = about["state_size"]
        self.action_size: int = about["action_size"]
        self.horizon = model.config.horizon
        self.trained: dict[str, Any] = config["trained"]
        self._kind: str = about["normalise"]
        self._stats = norm.checked(stats, self.state_size, self.action_size, source)
        self._texts = Texts(tokeniser, model.config)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.action_in_proj.weight.device

    def act(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        instruction: str,
        state: NDArray[np.floating],
        noise: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """(horizon, action_size) actions for what is seen now: see `Sight`.

        Args:
            noise: (horizon, the model's action_size) standard normal to begin from; drawn if None.

        Raises:
            UserError: the pictures or the state are not what the policy was trained with.
        """
        return self.act_many(
            [Sight(images, instruction, state)], noise if noise is None else noise[None]
        )[0]

    def act_many(
        self, sights: Sequence[Sight], noise: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """(B, horizon, action_size) actions for B sights at once: see `act`. If one has a prefix,
        it takes the time of gradients for all."""
        wanted = (len(sights), self.horizon, self.model.config.action_size)
        if noise is not None and np.shape(noise) != wanted:
            raise UserError(f"noise {np.shape(noise)}: must be {wanted}")
        start = None
        if noise is not None:
            start = torch.from_numpy(np.ascontiguousarray(noise, np.float32)).to(self.device)
        seen, prefixes = self.observation(sights), self.prefixes(sights)
        if prefixes is None:
            with torch.inference_mode():
                return self.actions(self.model.sample(seen, start))
        return self.actions(sample_with_prefix(self.model, seen, *prefixes, start))

    def observation(self, sights: Sequence[Sight]) -> Observation:
        """Sights as the model takes them, on its device. Cameras that none of them has are left
        out. Raises UserError as `act`."""
        for sight in sights:
            self._check(sight)
        config = self.model.config
        used = [camera for camera in self.cameras if any(camera in s.images for s in sights)]
        images = np.zeros((len(sights), len(used), *(config.vision.image,) * 2, 3), np.uint8)
        mask = np.zeros((len(sights), len(used)), bool)
        state = np.zeros((len(sights), config.action_size), np.float32)
        texts = []
        for row, sight in enumerate(sights):
            for at, camera in enumerate(used):
                if camera in sight.images:
                    images[row, at] = fitted(np.asarray(sight.images[camera]), config.vision.image)
                    mask[row, at] = True
            values = norm.normalise(sight.state, self._stats.state, self._kind)
            state[row, : self.state_size] = values
            texts.append(self._texts.encode(sight.instruction, values))
        tokens, token_mask = self._texts.batch(texts)
        return Observation(
            images=torch.from_numpy(images),
            image_mask=torch.from_numpy(mask),
            tokens=tokens,
            token_mask=token_mask,
            state=torch.from_numpy(state),
            padded=not (bool(mask.all()) and bool(token_mask.all())),
        ).to(self.device)

    def prefixes(self, sights: Sequence[Sight]) -> tuple[Tensor, Tensor] | None:
        """Prefixes of sights and their weights, as `sample_with_prefix` takes them, on the model's
        device; None if no sight has one.

        Raises:
            UserError: a prefix or delay is not as in `Sight`.
        """
        shape = (len(sights), self.horizon, self.model.config.action_size)
        prefixes, weights = torch.zeros(shape), torch.zeros(shape)
        for row, sight in enumerate(sights):
            if sight.prefix is None or not len(sight.prefix):
                continue
            self._check_prefix(sight.prefix, sight.delay)
            values = norm.normalise(sight.prefix, self._stats.actions, self._kind)[: self.horizon]
            prefixes[row, : len(values), : self.action_size] = torch.from_numpy(values)
            each = overlap_weights(self.horizon, sight.delay, len(sight.prefix))
            weights[row, :, : self.action_size] = each[:, None]
        if not weights.any():
            return None
        return prefixes.to(self.device), weights.to(self.device)

    def actions(self, found: Tensor) -> NDArray[np.float32]:
        """What the model gives, (…, horizon, the model's action_size), as (…, horizon,
        action_size) in the units of the source."""
        values = found[..., : self.action_size].float().cpu().numpy()
        return norm.unnormalise(values, self._stats.actions, self._kind)

    def _check(self, sight: Sight) -> None:
        unknown = [camera for camera in sight.images if camera not in self.cameras]
        if unknown or not sight.images:
            found = f"camera {unknown[0]}" if unknown else "no camera"
            raise UserError(f"{found}: this policy sees {', '.join(self.cameras)}")
        for camera, image in sight.images.items():
            array = np.asarray(image)
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
                raise UserError(
                    f"camera {camera}: pictures are (H, W, 3) of uint8, this is "
                    f"{array.shape} of {array.dtype}"
                )
        state = np.asarray(sight.state)
        numbers = state.dtype.kind in "fiu"
        if not numbers or state.shape != (self.state_size,) or not np.isfinite(state).all():
            raise UserError(
                f"the state is {self.state_size} finite numbers, as those of source "
                f"{self.source}; this is {state.tolist()}"
            )

    def _check_prefix(self, prefix: NDArray[np.floating], delay: int) -> None:
        array = np.asarray(prefix)
        numbers = array.dtype.kind in "fiu" and array.ndim == 2
        if not numbers or array.shape[1] != self.action_size or not np.isfinite(array).all():
            raise UserError(
                f"a prefix is (P, {self.action_size}) finite numbers, as the actions of source "
                f"{self.source}; this is {array.shape} of {array.dtype}"
            )
        if not 0 <= delay <= len(array):
            raise UserError(f"delay {delay}: must be from 0 to the prefix's {len(array)} actions")
