"""Tokenisers, against the libraries that make their files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from ego_ops.errors import UserError
from training import tokeniser

TEXTS = ["pick up the red cup", "put the lid on the pan", "pour water into the red pan"] * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tokenisers of either kind, trained on a few words."""
    folder = tmp_path_factory.mktemp("tokenisers")
    sink = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=sink,
        vocab_size=300,
        model_type="unigram",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "words.model").write_bytes(sink.getvalue())
    (folder / "sp").mkdir()
    (folder / "sp/tokenizer.model").write_bytes(sink.getvalue())
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    words.add_special_tokens(["<image>"])
    (folder / "json").mkdir()
    words.save(str(folder / "json/tokenizer.json"))
    return folder


@given(st.text())
def test_bytes_lose_nothing_but_what_the_prompt_replaces(text):
    words = tokeniser.load("bytes")
    tokens = words.encode(text)
    assert tokens[0] == 1
    assert max(tokens) < words.size
    said = bytes(token - 3 for token in tokens[1:]).decode()
    assert said == text.strip().replace("_", " ").replace("\n", " ") + "\n"


@pytest.mark.parametrize("name", ["words.model", "sp"])
def test_sentencepiece_gives_the_librarys_tokens(folder, name):
    words = tokeniser.load(str(folder / name))
    library = SentencePieceProcessor(model_file=str(folder / "words.model"))
    assert words.size == library.vocab_size()
    expected = [library.bos_id(), *library.encode("pick up the lid"), *library.encode("\n")]
    assert words.encode(" pick_up the lid\n") == expected
    assert library.decode(words.encode("pick up the lid")) == "pick up the lid\n"


def test_a_json_file_gives_the_librarys_tokens(folder):
    words = tokeniser.load(str(folder / "json"))
    library = Tokenizer.from_file(str(folder / "json/tokenizer.json"))
    tokens = words.encode("put the_lid on")
    assert tokens[0] == library.token_to_id("<bos>")
    expected = library.encode_batch(["put the lid on", "\n"], add_special_tokens=False)
    assert tokens[1:] == [*expected[0].ids, *expected[1].ids]
    assert words.size == library.get_vocab_size() - 1  # no text has the picture's place holder


def test_a_state_in_words_is_binned_from_one_end_to_the_other(folder):
    words = tokeniser.load("bytes")
    tokens = words.encode("lift_it", np.array([-1, -0.999, 0, 0.999, 1, 2, -3], np.float32))
    said = bytes(token - 3 for token in tokens[1:]).decode()
    assert said == "Task: lift it, State: 0 0 128 255 255 255 -1;\nAction: "


@pytest.mark.parametrize("name", ["words.model", "json"])
def test_a_saved_tokeniser_is_the_same(folder, tmp_path, name):
    words = tokeniser.load(str(folder / name))
    again = tokeniser.load(words.save(tmp_path / "copy"))
    assert again.encode("pour into the pan") == words.encode("pour into the pan")
    assert tokeniser.load(tokeniser.load("bytes").save(tmp_path / "none")).size == 259
    assert not (tmp_path / "none").exists()


def test_what_is_no_tokeniser_is_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad.model").write_bytes(b"\x0a\x07garbage" * 20)
    (tmp_path / "nobos.json").write_text((folder / "json/tokenizer.json").read_text().replace(
        "<bos>", "<sos>"))  # fmt: skip
    for name, says in {
        str(tmp_path): "no tokenizer.json or tokenizer.model there",
        str(tmp_path / "none.model"): "no tokenizer.json or tokenizer.model there",
        str(tmp_path / "bad.json"): "not a tokeniser",
        str(tmp_path / "bad.model"): "not a tokeniser",
        str(tmp_path / "nobos.json"): "no token <bos>",
        "no-such-owner/no-such-tokeniser": "cannot be fetched from the hub",
    }.items():
        with pytest.raises(UserError, match=says) as caught:
            tokeniser.load(name)
        assert "\n" not in str(caught.value)
