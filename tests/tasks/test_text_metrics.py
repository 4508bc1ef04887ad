"""Text metrics against sacrebleu 2.6.0 and pycocoevalcap 1.2, and against their definitions.

The expected values were computed once by those packages, which are too large to depend on, from
SAMPLES, with words split at spaces.
"""

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import UsageError
from thalweg.tasks.text_metrics import (
    TEXT_METRICS,
    bleu,
    cider_d,
    cider_d_scores,
    common_subsequence,
    exact_match,
    rouge_l,
)

SAMPLES = [
    (
        "a dog runs over the grass",
        ["a dog is running on the grass", "a brown dog runs over green grass", "the dog runs"],
    ),
    (
        "two children play in the snow",
        ["two children are playing in the snow", "kids play in deep snow"],
    ),
    (
        "a man rides a red bicycle down a steep hill",
        [
            "a man on a bicycle",
            "a cyclist rides down a hill",
            "a man rides his red bicycle down the hill",
        ],
    ),
    ("the the the the cat", ["the cat sits on the mat", "a cat on the mat"]),
    (
        "a woman reads",
        ["a woman in a blue coat reads a newspaper on a bench", "a woman reads a paper"],
    ),
    (
        "people wait for a train at the station",
        ["people wait for a train at the station", "a crowd waits for the train"],
    ),
    ("a boat", ["three boats on a lake at sunset", "boats on the water"]),
    (
        "green apples lie on a table beside a knife and a loaf of bread on a plate",
        ["apples and bread on a table", "a knife lies beside green apples"],
    ),
    ("birds", ["birds fly over the sea", "birds"]),
    (
        "a dog and a cat sleep on the same chair",
        ["a cat and a dog sleep on a chair", "two animals share a chair"],
    ),
]
HYPOTHESES = [text.split() for text, _ in SAMPLES]
REFERENCES = [[text.split() for text in alternatives] for _, alternatives in SAMPLES]

# By BLEU of order n, tokenize "none", smooth_method "none", divided by 100.
SACREBLEU = [0.7794117647058821, 0.6557593186342526, 0.4850040940824078, 0.34344372857431166]
# By the classes Rouge and Cider; the latter is CIDEr-D.
ROUGE_L = 0.6681258291424583
CIDER_D = [
    2.5833595173397477,
    2.777481956338555,
    2.2107873997532366,
    1.217902567054798,
    2.8013471652172357,
    5.509473332889698,
    0.00388291729197171,
    0.43534524338533254,
    1.7840582679015604,
    1.86062229005783,
]
texts = st.lists(st.sampled_from("abcd"), max_size=9)
corpora = st.lists(
    st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=5
)


def test_bleu_is_sacrebleus():
    assert bleu(HYPOTHESES, REFERENCES) == pytest.approx(SACREBLEU, rel=1e-9)


def test_rouge_l_is_pycocoevalcaps():
    assert rouge_l(HYPOTHESES, REFERENCES) == pytest.approx(ROUGE_L, rel=1e-9)


def test_cider_d_is_pycocoevalcaps():
    assert cider_d_scores(HYPOTHESES, REFERENCES) == pytest.approx(CIDER_D, rel=1e-9)
    assert cider_d(HYPOTHESES, REFERENCES) == pytest.approx(sum(CIDER_D) / 10, rel=1e-9)


def test_bleu_by_hand_on_the_papers_example():
    """Seven times "the", of which the reference has two, are a share of 2/7."""
    scores = bleu([["the"] * 7], [[["the", "cat", "is", "on", "the", "mat"]]])
    assert scores[0] == pytest.approx(2 / 7)
    assert scores[1:] == [0, 0, 0]


def test_a_short_text_is_penalised_by_its_length():
    assert bleu([["a", "b"]], [[["a", "b", "c", "d", "e"]]])[0] == pytest.approx(exp(1 - 5 / 2))


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_the_reference_itself_scores_most(name):
    hypotheses = [alternatives[0] for alternatives in REFERENCES]
    best = 10 if name == "cider_d" else 1
    own = [[words] for words in hypotheses]
    long_enough = [pair for pair in zip(hypotheses, own, strict=True) if len(pair[0]) >= 4]
    hypotheses, own = map(list, zip(*long_enough, strict=True))
    assert TEXT_METRICS[name](hypotheses, own) == pytest.approx(best)


@given(corpora)
def test_scores_keep_their_bounds_on_any_texts(corpus):
    hypotheses, references = map(list, zip(*corpus, strict=True))
    for name, metric in TEXT_METRICS.items():
        score = metric(hypotheses, references)
        assert 0 <= score <= (10 if name == "cider_d" else 1) + 1e-9


@given(texts, texts)
def test_the_common_subsequence_is_the_longest(first, second):
    def longest(left, right):
        if not left or not right:
            return 0
        if left[-1] == right[-1]:
            return 1 + longest(left[:-1], right[:-1])
        return max(longest(left[:-1], right), longest(left, right[:-1]))

    first, second = first[:6], second[:6]
    assert common_subsequence(first, second) == longest(first, second)


def test_an_exact_match_is_one_of_the_references():
    assert exact_match(HYPOTHESES, REFERENCES) == pytest.approx(2 / 10)


@pytest.mark.parametrize(
    ("hypotheses", "references"), [([["a"]], []), ([], []), ([["a"]], [[]])], ids=str
)
def test_what_has_no_reference_is_refused(hypotheses, references):
    with pytest.raises(UsageError, match="one reference or more"):
        bleu(hypotheses, references)
