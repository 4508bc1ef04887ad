"""N-grams of texts: what words are, and weights that are scikit-learn's."""

import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from thalweg.data.text.ngrams import fit_ngrams, restore_ngrams
from thalweg.data.text.word_rows import pieces_of, read_words, words_of

TEXTS = [
    "The river runs, the river bends.",
    "A river runs to the sea!",
    "Stones in the river; no sea.",
    "the sea bends the stones 😀",
    "很好 很好 的 书",
    "很好的书，很好",
]


@pytest.fixture(scope="module")
def ngrams():
    return fit_ngrams(read_words(TEXTS), np.arange(len(TEXTS)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop!!", ["don't", "stop", "!", "!"]),
        ("<p class='x'>Tom &amp; Ann</p><br/>", ["tom", "&", "ann"]),
        ("1 < 2 and 3 > 2", ["1", "<", "2", "and", "3", ">", "2"]),
        ("非常好abc", ["非", "常", "好", "abc"]),
        ("👍🏽 ｏｋ", ["👍", "🏽", "ok"]),
        ("Straße naïve", ["straße", "naïve"]),
        ("", []),
    ],
    ids=str,
)
def test_words_of_any_script(text, words):
    assert words_of(text) == words


def test_pieces_are_runs_of_three_to_five_characters_between_brackets():
    assert pieces_of("cat") == ["<ca", "cat", "at>", "<cat", "cat>", "<cat>"]
    assert pieces_of("!") == pieces_of("好") == pieces_of("x" * 41) == []


def test_the_weights_of_words_and_neighbours_are_those_of_scikit_learn(ngrams):
    names = [
        ngrams.name(entry) for entry in range(1, 1 + len(ngrams.words) + len(ngrams.neighbours))
    ]
    runs = [ngrams.words_in(entry) for entry in range(1, 1 + len(names))]
    keys = {tuple(ngrams.words[word] for word in run): place for place, run in enumerate(runs)}

    def analyse(text):
        words = words_of(text)
        runs = [tuple(words[i : i + n]) for n in (1, 2, 3) for i in range(len(words) - n + 1)]
        return [run for run in runs if run in keys]

    oracle = TfidfVectorizer(analyzer=analyse, vocabulary=keys, sublinear_tf=True)
    expected = oracle.fit_transform(TEXTS).toarray()
    rows = ngrams.encode(read_words(TEXTS))
    ours = np.zeros_like(expected)
    for text in range(len(TEXTS)):
        run = slice(*rows.starts[text : text + 2])
        is_word = rows.entries[run] <= len(names)
        ours[text, rows.entries[run][is_word] - 1] = rows.weights[run][is_word]
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert {"the river", "很好", "river runs"} <= set(names)


def test_pieces_have_length_one_and_a_word_that_training_lacks_has_some(ngrams):
    rows = ngrams.encode(read_words(["riverside", "", "zz 😡"]))
    assert rows.starts.tolist() == [0, len(rows.entries), len(rows.entries), len(rows.entries)]
    assert "riv…" in {ngrams.name(entry) for entry in rows.entries.tolist()}
    assert np.square(rows.weights).sum() == pytest.approx(1)


def test_a_text_alone_is_encoded_as_among_others(ngrams):
    whole = ngrams.encode(read_words(TEXTS))
    for place, text in enumerate(TEXTS):
        run = slice(*whole.starts[place : place + 2])
        alone = ngrams.encode(read_words([text]))
        np.testing.assert_array_equal(alone.entries, whole.entries[run])
        np.testing.assert_array_equal(alone.weights, whole.weights[run])


def test_the_vocabulary_is_of_training_texts_alone_and_survives_json(ngrams):
    of_four = fit_ngrams(read_words(TEXTS), np.arange(4))
    assert "好" not in of_four.words
    assert "river" in of_four.words
    assert restore_ngrams(json.loads(json.dumps(ngrams.to_dict()))) == ngrams


def test_words_in_order_know_unknown_ones_and_empty_texts(ngrams):
    of_river, empty = ngrams.sequences(read_words(["river zzz", ""]))
    unknown = ngrams.tokens - 1
    assert of_river.tolist() == [1 + ngrams.words.index("river"), unknown]
    assert empty.tolist() == [unknown]


@pytest.mark.parametrize(
    "damage", [{"texts": "x"}, {"neighbours": [[0, 999]]}, {"frequencies": []}]
)
def test_a_damaged_vocabulary_is_refused(ngrams, damage):
    with pytest.raises((ValueError, TypeError)):
        restore_ngrams(ngrams.to_dict() | damage)
