"""From windows of several sources to batches of one model.

What chance decides of a sample (augmentation, noise, time) hangs on the seed and the sample's
number alone, so that a batch is the same whoever makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ego_ops.errors import UserError
from training.batch import Batch, Observation
from training.data.augment import augment, fitted
from training.data.keyed import philox
from training.data.norm import NormStats, checked, normalise
from training.data.sample import CAMERAS, Source, Window
from training.data.text import Texts
from training.pi0.config import Pi0Config
from training.tokeniser import Tokeniser


@dataclass(frozen=True)
class Sample:
    """A window made fit for the model, C cameras and A = `action_size`."""

    images: NDArray[np.uint8]
    """(C, H, W, 3), black where the camera is lacking."""
    image_mask: NDArray[np.bool_]
    """(C,)."""
    tokens: Sequence[int]
    state: NDArray[np.float32]
    """(A,)."""
    actions: NDArray[np.float32]
    """(horizon, A)."""
    action_mask: NDArray[np.bool_]
    """(horizon, A)."""
    noise: NDArray[np.float32]
    """(horizon, A)."""
    time: float


class Mixer:
    """Makes batches of the windows of some sources.

    Args:
        sources: those of the mixture.
        stats: of each source, what it is normalised by.
        kinds: of each source, how: see `training.data.norm.normalise`.
        tokeniser: of instructions.
        model: whose sizes to pad to.
        seed: of augmentation, noise and time.
        augmented: whether to change pictures by chance.

    Raises:
        UserError: a source's numbers do not fit its statistics or the model, or the tokeniser has
            more tokens than the model.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        stats: Sequence[NormStats],
        kinds: Sequence[str],
        tokeniser: Tokeniser,
        model: Pi0Config,
        seed: int,
        augmented: bool,
    ):
        self._stats = [
            checked(each, source.state_size, source.action_size, source.name)
            for each, source in zip(stats, sources, strict=True)
        ]
        for source in sources:
            _check_width(source, model)
        self._kinds, self._model = list(kinds), model
        self._seed, self._augmented = seed, augmented
        used = {camera for source in sources for camera in source.cameras}
        self.cameras = tuple(camera for camera in CAMERAS if camera in used)
        """Those of the batches, in the order of their pictures."""
        self._texts = Texts(tokeniser, model)

    def sample(self, number: int, source: int, window: Window) -> Sample:
        """Make a window fit for the model. Safe to call from threads."""
        images, image_mask = self._pictures(number, window)
        stats, kind = self._stats[source], self._kinds[source]
        width, horizon = self._model.action_size, self._model.horizon
        state = np.zeros(width, np.float32)
        state[: len(window.state)] = normalise(window.state, stats.state, kind)
        actions = np.zeros((horizon, width), np.float32)
        mask = np.zeros((horizon, width), bool)
        real = window.actions.shape[1]
        actions[:, :real] = normalise(window.actions, stats.actions, kind)
        mask[:, :real] = window.valid[:, None]
        chance = np.random.Generator(philox(self._seed, "noise", number))
        time = chance.random() ** (1 / 1.5) * 0.999 + 0.001  # Beta(1.5, 1), off zero
        noise = chance.standard_normal((horizon, width), np.float32)
        tokens = self._texts.encode(window.instruction, state[: len(window.state)])
        return Sample(images, image_mask, tokens, state, actions, mask, noise, time)

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Samples as one batch."""
        tokens, token_mask = self._texts.batch([sample.tokens for sample in samples])
        image_mask = _stacked([sample.image_mask for sample in samples])
        observation = Observation(
            images=_stacked([sample.images for sample in samples]),
            image_mask=image_mask,
            tokens=tokens,
            token_mask=token_mask,
            state=_stacked([sample.state for sample in samples]),
            padded=not (bool(token_mask.all()) and bool(image_mask.all())),
        )
        return Batch(
            observation=observation,
            actions=_stacked([sample.actions for sample in samples]),
            action_mask=_stacked([sample.action_mask for sample in samples]),
            noise=_stacked([sample.noise for sample in samples]),
            time=torch.tensor([sample.time for sample in samples], dtype=torch.float32),
        )

    def _pictures(self, number: int, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        side = self._model.vision.image
        images = np.zeros((len(self.cameras), side, side, 3), np.uint8)
        mask = np.zeros(len(self.cameras), bool)
        chance = np.random.Generator(philox(self._seed, "pictures", number))
        for at, camera in enumerate(self.cameras):
            if camera not in window.images:
                continue
            image = fitted(window.images[camera], side)
            if self._augmented:
                image = augment(image, chance, wrist="wrist" in camera)
            images[at], mask[at] = image, True
        return images, mask


def _check_width(source: Source, model: Pi0Config) -> None:
    widest = max(source.state_size, source.action_size)
    if widest > model.action_size:
        raise UserError(
            f"source {source.name}: {widest} numbers of state or action are more than the "
            f"{model.action_size} that the model holds"
        )


def _stacked(arrays: Sequence[NDArray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
