"""Instructions as tokens: PaliGemma's tokeniser, or a small one of bytes that is built in.

PaliGemma's comes as `tokenizer.json` (the tokenizers library) or as a SentencePiece model, from a
folder, a file or the hub. Both give the same tokens.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from training import hub

BYTES = "bytes"
"""Name of the built-in tokeniser: UTF-8 bytes after padding, begin and an unused end."""
_JSON, _MODEL = "tokenizer.json", "tokenizer.model"
_BINS = 256
"""Of π0.5's words for a number between -1 and 1."""


class Tokeniser:
    """Encodes what a policy is told."""

    def __init__(
        self, name: str, size: int, begin: int, words: Callable[[str], list[int]], file: Path | None
    ):
        """
        Args:
            name: what it was loaded by.
            size: of its vocabulary.
            begin: the token that every text begins with.
            words: encodes a text without that.
            file: what it was read from; None: nothing.
        """
        self.name, self.size = name, size
        self._begin, self._words, self._file = begin, words, file

    def encode(self, instruction: str, state: NDArray[np.floating] | None = None) -> list[int]:
        """The tokens of an instruction, not padded.

        Args:
            state: of π0.5, which is told it in words: (S,), normalised to about -1 to 1.
        """
        text = instruction.strip().replace("_", " ").replace("\n", " ")
        if state is None:
            return [self._begin, *self._words(text), *self._words("\n")]
        bins = np.digitize(state, np.linspace(-1, 1, _BINS + 1)[:-1]) - 1
        numbers = " ".join(map(str, bins.tolist()))
        return [self._begin, *self._words(f"Task: {text}, State: {numbers};\nAction: ")]

    def save(self, folder: Path) -> str:
        """Copy the tokeniser's file into a folder.

        Returns:
            What to `load` it by then: the folder, or the name of the built-in one.

        Raises:
            OSError: the file system refuses.
        """
        if self._file is None:
            return self.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._file, folder / (_JSON if self._file.suffix == ".json" else _MODEL))
        return str(folder)


def load(name: str) -> Tokeniser:
    """Load a tokeniser.

    Args:
        name: `bytes`; a folder with `tokenizer.json` or `tokenizer.model`; such a file, whatever it
            is called (`.json` or `.model`); or a name on the hub.

    Raises:
        UserError: there is none, it is damaged, or the hub refuses.
    """
    if name == BYTES:
        return Tokeniser(name, 3 + 256, 1, _bytes, None)
    path = Path(name).expanduser()
    file = path if path.is_file() else _in(path)
    if file is None:
        if path.is_dir() or not hub.is_name(name):
            raise UserError(
                f"--tokeniser {name}: no {_JSON} or {_MODEL} there; take PaliGemma's from the hub "
                "(google/paligemma-3b-pt-224), or paligemma_tokenizer.model of gs://big_vision"
            )
        file = hub.fetched(name, [_JSON, _MODEL], _in, "its tokenizer.json")
    try:
        return _json(name, file) if file.suffix == ".json" else _sentencepiece(name, file)
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing, {file} needs it: pip install 'egoscaler-ray[train]'"
        ) from error


def _in(folder: Path) -> Path | None:
    """The file of a folder."""
    there = [folder / kind for kind in (_JSON, _MODEL) if (folder / kind).is_file()]
    return there[0] if there else None


def _bytes(text: str) -> list[int]:
    return [3 + byte for byte in text.encode()]


def _json(name: str, file: Path) -> Tokeniser:
    from tokenizers import Tokenizer

    try:
        words = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise _damaged(file, error) from error
    begin = words.token_to_id("<bos>")
    if begin is None:
        raise UserError(f"{file}: has no token <bos>: not PaliGemma's tokeniser")
    ids = words.get_vocab(with_added_tokens=True)
    ids.pop("<image>", None)  # stands for a picture where text and pictures are one sequence

    def encode(text: str) -> list[int]:
        return words.encode(text, add_special_tokens=False).ids

    return Tokeniser(name, max(ids.values()) + 1, begin, encode, file)


def _sentencepiece(name: str, file: Path) -> Tokeniser:
    from sentencepiece import SentencePieceProcessor

    words = SentencePieceProcessor()
    try:
        words.LoadFromSerializedProto(file.read_bytes())
    except (OSError, RuntimeError) as error:
        raise _damaged(file, error) from error
    if words.bos_id() < 0:
        raise UserError(f"{file}: has no token that begins a text: not PaliGemma's tokeniser")
    return Tokeniser(name, words.vocab_size(), words.bos_id(), words.EncodeAsIds, file)


def _damaged(file: Path, error: BaseException) -> UserError:
    cause = " ".join(str(error).split())[:200]
    return UserError(f"{file}: not a tokeniser ({cause}): copy or download it again")
