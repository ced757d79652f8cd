"""What a model is told, as tokens: each sample's, and those of a batch."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ego_ops.errors import UserError
from training.pi0.config import Pi0Config
from training.tokeniser import Tokeniser

_STEP = 8
"""Texts of a batch are padded to a multiple of so many tokens: few different shapes."""


class Texts:
    """Makes tokens for one model.

    Raises:
        UserError: the tokeniser has more tokens than the model.
    """

    def __init__(self, tokeniser: Tokeniser, model: Pi0Config):
        if tokeniser.size > model.vocabulary:
            raise UserError(
                f"--tokeniser: has {tokeniser.size} tokens, the model {model.vocabulary}: "
                "take another of the two"
            )
        self._model, self._tokeniser = model, tokeniser
        self._known = functools.lru_cache(maxsize=1 << 16)(tokeniser.encode)

    def encode(self, instruction: str, state: NDArray[np.floating]) -> Sequence[int]:
        """The tokens of one sample, cut off where the model has no room for more.

        Args:
            state: (S,) normalised; π0.5 is told it in words.
        """
        if self._model.pi05:
            tokens = self._tokeniser.encode(instruction, state)
        else:
            tokens = self._known(instruction)
        return tokens[: self._model.text_tokens]

    def batch(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) int64 and their mask (B, L): L is the longest's length, rounded up."""
        longest = max(1, *map(len, texts))
        length = min(self._model.text_tokens, -(-longest // _STEP) * _STEP)
        tokens = torch.zeros(len(texts), length, dtype=torch.int64)
        mask = torch.zeros(len(texts), length, dtype=torch.bool)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = torch.tensor(text, dtype=torch.int64)
            mask[row, : len(text)] = True
        return tokens, mask
