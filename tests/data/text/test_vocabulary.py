import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.text.byte_pairs import fit_byte_pairs
from thalweg.data.text.vocabulary import Characters, fit_characters, restore_vocabulary
from thalweg.errors import DataError

PROSE = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 天地玄黃 🦊\n" * 40


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_characters_go_there_and_back(text):
    vocabulary = fit_characters(text)
    tokens = vocabulary.encode(text)
    assert vocabulary.decode(tokens.tolist()) == text
    assert len(vocabulary) == len(set(text))
    assert [len(vocabulary.token_bytes[token]) for token in tokens] == [
        len(character.encode()) for character in text
    ]


def test_it_survives_json():
    vocabulary = fit_characters(PROSE)
    assert restore_vocabulary(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


def test_unknown_characters_are_named():
    vocabulary = fit_characters("abc\n")
    with pytest.raises(DataError) as caught:
        vocabulary.encode("aéb\x00é")
    assert "'é'" in caught.value.problem
    assert "U+0000" in caught.value.problem
    assert caught.value.seen == "3 of 5 characters"
    assert vocabulary.encode("").tolist() == []


@pytest.mark.parametrize(
    "values",
    [
        {"tokens": "words", "entries": "ab"},
        {"tokens": "characters", "entries": ""},
        {"tokens": "characters", "entries": "ba"},
        {"tokens": "characters", "entries": "aab"},
    ],
)
def test_a_damaged_vocabulary_is_refused(values):
    with pytest.raises(ValueError, match="no vocabulary"):
        restore_vocabulary(values)


def test_without_the_package_the_error_names_it_and_the_way_around(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError) as caught:
        fit_byte_pairs(PROSE, size=300)
    assert "thalweg[text]" in caught.value.fix
    assert "--data.tokenizer characters" in caught.value.fix


@pytest.fixture(scope="module")
def pieces():
    pytest.importorskip("tokenizers")
    return fit_byte_pairs(PROSE, size=400)


def test_every_text_goes_to_pieces_and_back(pieces):
    for text in (PROSE, "no such word: žluťoučký kůň\r\n\t\x00", "", " ", "\n\n"):
        tokens = pieces.encode(text)
        assert tokens.dtype == np.int32
        assert pieces.decode(tokens.tolist()) == text
        assert b"".join(pieces.token_bytes[token] for token in tokens) == text.encode()


def test_there_are_pieces_for_all_bytes_and_for_words(pieces):
    assert len(pieces) <= 400
    assert {bytes([byte]) for byte in range(256)} <= set(pieces.token_bytes)
    assert len(pieces.encode(PROSE)) < len(PROSE) / 3


def test_the_same_text_gives_the_same_pieces(pieces):
    assert fit_byte_pairs(PROSE, size=400) == pieces
    assert restore_vocabulary(json.loads(json.dumps(pieces.to_dict()))) == pieces


def test_half_a_character_is_shown_as_such(pieces):
    assert pieces.decode([pieces.token_bytes.index(b"\xf0")]) == "\ufffd"


def test_characters_are_ordered():
    assert fit_characters("banana\n") == Characters("\nabn")
