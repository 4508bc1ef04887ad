"""Scores of texts against references: BLEU, ROUGE-L, CIDEr-D, exact match.

All take words that have been split already. Published numbers are comparable only for the same
splitting: captions are scored in lower case, by words of the Penn Treebank, without punctuation.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import exp, log, sqrt
from typing import NamedTuple

from thalweg.errors import UsageError

Words = Sequence[str]
Hypotheses = Sequence[Words]  # a text for each sample
References = Sequence[Sequence[Words]]  # one or more for each sample

LONGEST = 4  # words of an n-gram
ROUGE_BETA = 1.2  # recall counts so many times as much as precision, as in pycocoevalcap
CIDER_SIGMA = 6.0  # words: a text that is so much longer or shorter loses 1 − e^−½ of its score
CIDER_SCALE = 10.0

Ngram = tuple[str, ...]


def ngram_counts(words: Words, longest: int = LONGEST) -> Counter[Ngram]:
    """Occurrences of every run of 1 to `longest` words."""
    return Counter(
        tuple(words[start : start + size])
        for size in range(1, longest + 1)
        for start in range(len(words) - size + 1)
    )


def bleu(hypotheses: Hypotheses, references: References, *, longest: int = LONGEST) -> list[float]:
    """BLEU-1 to BLEU-`longest` of a corpus, each in [0, 1].

    The geometric mean of the shares of n-grams that occur in a reference, counted over all samples,
    times a penalty for texts that are shorter than their nearest reference. It is 0 where no n-gram
    of a size matches: there is no smoothing.
    Source: Papineni et al. 2002, https://aclanthology.org/P02-1040.
    """
    check_pairs(hypotheses, references)
    matches, totals = [0] * longest, [0] * longest
    length = reference_length = 0
    for words, alternatives in zip(hypotheses, references, strict=True):
        length += len(words)
        reference_length += nearest_length(len(words), [len(one) for one in alternatives])
        counts, most = ngram_counts(words, longest), Counter[Ngram]()
        for alternative in alternatives:
            most |= ngram_counts(alternative, longest)
        for ngram, count in counts.items():
            totals[len(ngram) - 1] += count
            matches[len(ngram) - 1] += min(count, most[ngram])
    penalty = 1.0 if length >= reference_length else exp(1 - reference_length / max(length, 1))
    scores, logs = [], 0.0
    for size in range(1, longest + 1):
        share = matches[size - 1] / totals[size - 1] if totals[size - 1] else 0.0
        logs += log(share) if share else -float("inf")
        scores.append(penalty * exp(logs / size) if length else 0.0)
    return scores


def nearest_length(length: int, lengths: Sequence[int]) -> int:
    """The reference length nearest to `length`; of two equally near the shorter."""
    return min(lengths, key=lambda other: (abs(other - length), other))


def rouge_l(hypotheses: Hypotheses, references: References, *, beta: float = ROUGE_BETA) -> float:
    """The mean over samples of ROUGE-L, in [0, 1]: the longest common subsequence of words.

    Of several references the best recall and the best precision count, as in pycocoevalcap.
    Source: Lin 2004, https://aclanthology.org/W04-1013, §3.
    """
    check_pairs(hypotheses, references)
    pairs = zip(hypotheses, references, strict=True)
    scores = [_rouge_of_sample(words, alternatives, beta) for words, alternatives in pairs]
    return sum(scores) / len(scores)


def _rouge_of_sample(words: Words, alternatives: Sequence[Words], beta: float) -> float:
    common = [common_subsequence(words, alternative) for alternative in alternatives]
    precision = max(size / max(len(words), 1) for size in common)
    recall = max(
        size / max(len(alternative), 1)
        for size, alternative in zip(common, alternatives, strict=True)
    )
    if not precision or not recall:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def common_subsequence(first: Words, second: Words) -> int:
    """Words of the longest subsequence that both texts have in common."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0  # the entry up and to the left
        for place, other in enumerate(second, 1):
            above = row[place]
            row[place] = before + 1 if word == other else max(above, row[place - 1])
            before = above
    return row[-1]


class _NgramVector(NamedTuple):
    """A text as CIDEr-D sees it: a vector of weighted counts for each size of n-grams."""

    weights: tuple[Mapping[Ngram, float], ...]
    norms: tuple[float, ...]
    length: int  # pairs of neighbouring words, as in pycocoevalcap


def cider_d(hypotheses: Hypotheses, references: References) -> float:
    """The mean over samples of CIDEr-D, from 0 to 10: how like its references a text is.

    The cosine of n-gram counts, weighted by how few samples' references have the n-gram, so that
    it needs many samples: those of one say nothing (the score of a single sample is 0). Counts are
    clipped and lengths compared, so that repeating words does not pay.
    Source: Vedantam et al. 2015, https://arxiv.org/abs/1411.5726, §5 and appendix.
    """
    scores = cider_d_scores(hypotheses, references)
    return sum(scores) / len(scores)


def cider_d_scores(hypotheses: Hypotheses, references: References) -> list[float]:
    """CIDEr-D of each sample."""
    check_pairs(hypotheses, references)
    documents = Counter[Ngram]()  # samples whose references have the n-gram
    for alternatives in references:
        documents.update({ngram for one in alternatives for ngram in ngram_counts(one)})
    samples = log(len(references))
    rarity = {ngram: samples - log(count) for ngram, count in documents.items()}

    def vector(words: Words) -> _NgramVector:
        by_size: list[dict[Ngram, float]] = [{} for _ in range(LONGEST)]
        for ngram, count in ngram_counts(words).items():
            by_size[len(ngram) - 1][ngram] = count * rarity.get(ngram, samples)
        norms = tuple(sqrt(sum(w * w for w in weights.values())) for weights in by_size)
        return _NgramVector(tuple(by_size), norms, max(len(words) - 1, 0))

    scores = []
    for words, alternatives in zip(hypotheses, references, strict=True):
        own = vector(words)
        similarities = [_similarity(own, vector(one)) for one in alternatives]
        scores.append(CIDER_SCALE * sum(similarities) / len(similarities))
    return scores


def _similarity(hypothesis: _NgramVector, reference: _NgramVector) -> float:
    """The mean over sizes of the clipped cosine, less where the lengths differ."""
    total = 0.0
    for size in range(LONGEST):
        norms = hypothesis.norms[size] * reference.norms[size]
        others = reference.weights[size]
        product = sum(
            min(weight, others[ngram]) * others[ngram]
            for ngram, weight in hypothesis.weights[size].items()
            if ngram in others
        )
        total += product / norms if norms else 0.0
    difference = hypothesis.length - reference.length
    return total / LONGEST * exp(-(difference**2) / (2 * CIDER_SIGMA**2))


def exact_match(hypotheses: Hypotheses, references: References) -> float:
    """The share of samples whose text is one of its references, word for word."""
    check_pairs(hypotheses, references)
    hits = [
        any(list(words) == list(one) for one in alternatives)
        for words, alternatives in zip(hypotheses, references, strict=True)
    ]
    return sum(hits) / len(hits)


TextMetric = Callable[[Hypotheses, References], float]
TEXT_METRICS: Mapping[str, TextMetric] = {
    "bleu_1": lambda hypotheses, references: bleu(hypotheses, references)[0],
    "bleu_2": lambda hypotheses, references: bleu(hypotheses, references)[1],
    "bleu_3": lambda hypotheses, references: bleu(hypotheses, references)[2],
    "bleu_4": lambda hypotheses, references: bleu(hypotheses, references)[3],
    "rouge_l": rouge_l,
    "cider_d": cider_d,
    "exact_match": exact_match,
}


def check_pairs(hypotheses: Hypotheses, references: References) -> None:
    """Raise UsageError where samples and references do not correspond."""
    if len(hypotheses) != len(references) or not len(hypotheses) or not all(map(len, references)):
        empty = sum(not len(alternatives) for alternatives in references)
        raise UsageError(
            "every text is scored against one reference or more",
            seen=f"{len(hypotheses)} texts, {len(references)} samples of references, "
            f"{empty} of them empty",
            fix="a list of references for each text, in the same order",
        )
