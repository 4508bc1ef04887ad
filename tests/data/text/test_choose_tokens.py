"""The tokens of a side of pairs, and the vocabularies of words and with a border."""

import json
import sys

import numpy as np
import pytest

from thalweg.data.text.bordered import BORDER, Bordered, restore_bordered
from thalweg.data.text.choose_tokens import choose_tokens
from thalweg.data.text.divide_text import TextOptions
from thalweg.data.text.vocabulary import restore_vocabulary
from thalweg.data.text.words import Words, fit_words
from thalweg.errors import DataError

RANDOM = np.random.default_rng(0)
COMMANDS = [" ".join(RANDOM.choice(["jump", "run", "left", "twice"], 4)) for _ in range(100)]
DATES = [f"{day} May {year}" for day in range(1, 29) for year in range(1900, 2000)]
WORDS = ["".join(RANDOM.choice(list("abcdefgh"), 5)) for _ in range(4_000)]
SENTENCES = [" ".join(RANDOM.choice(WORDS, 6)) for _ in range(2_500)]
CASES = {
    "commands": (COMMANDS, "words"),
    "sums": ([f"{a}+{b}" for a in range(30) for b in range(30)], "characters"),
    "sums with blanks": ([f"{a} + {b}" for a in range(40) for b in range(40)], "characters"),
    "dates": (DATES, "characters"),
    "single words": (["left", "right"] * 50, "characters"),
    "few sentences": (SENTENCES[:500], "characters"),
}


@pytest.mark.parametrize("name", CASES)
def test_words_are_tokens_where_they_are_a_closed_vocabulary(name):
    texts, kind = CASES[name]
    vocabulary, _ = choose_tokens(texts, texts, TextOptions())
    assert vocabulary.to_dict()["tokens"] == kind
    assert vocabulary.decode(vocabulary.encode(texts[0]).tolist()) == texts[0]


def test_sentences_without_the_package_are_characters_with_a_note(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setattr("thalweg.data.text.choose_tokens.find_spec", lambda name: None)
    vocabulary, note = choose_tokens(SENTENCES, SENTENCES, TextOptions())
    assert vocabulary.noun == "character"
    assert "thalweg[text]" in note
    with pytest.raises(DataError, match="tokenizers"):
        choose_tokens(SENTENCES, SENTENCES, TextOptions(tokenizer="bpe"))


def test_pieces_of_words_are_those_of_the_training_texts():
    pytest.importorskip("tokenizers")
    vocabulary, _ = choose_tokens(SENTENCES, SENTENCES[:2_000], TextOptions())
    assert vocabulary.noun == "token"
    assert vocabulary.decode(vocabulary.encode(SENTENCES[-1]).tolist()) == SENTENCES[-1]


def test_a_vocabulary_of_words_names_what_it_does_not_know():
    words = fit_words(["jump twice", "run"])
    assert words.encode("run  twice").tolist() == [1, 2]
    with pytest.raises(DataError, match="knows no 'fly', 'home'"):
        words.encode("fly home twice")


def test_vocabularies_survive_json():
    words = fit_words(COMMANDS)
    assert restore_vocabulary(json.loads(json.dumps(words.to_dict()))) == words
    bordered = Bordered(words)
    assert restore_bordered(json.loads(json.dumps(bordered.to_dict()))) == bordered
    for entries in ([], ["b", "a"], ["a b"], "ab", [""]):
        with pytest.raises(ValueError, match="no vocabulary"):
            restore_vocabulary({"tokens": "words", "entries": entries})


def test_a_border_ends_a_text_and_has_none():
    bordered = Bordered(Words(("jump", "run")))
    tokens = bordered.encode("run jump").tolist()
    assert tokens == [2, 1]
    assert len(bordered) == len(bordered.token_bytes) == 3
    assert bordered.decode([*tokens, BORDER, 1]) == "run jump"
    assert b"".join(bordered.token_bytes[token] for token in tokens).strip() == b"run jump"
