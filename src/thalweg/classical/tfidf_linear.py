"""TF-IDF with a linear model: what a network for texts has to beat.

scikit-learn's: words and pairs of words with sublinear counts, then logistic regression of classes
or ridge regression of values. For a topic or a mood this is hard to beat with few texts: Wang &
Manning 2012, https://aclanthology.org/P12-2018.
"""

import warnings
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from thalweg.errors import MissingPackageError, TooLongError

PENALTY = 10.0  # C of logistic regression; scikit-learn's own 1 is too strong for TF-IDF's lengths
MOST_ROUNDS = 200  # of L-BFGS
ROUNDS = 20  # after which the clock is looked at


class TfidfLinear(NamedTuple):
    """A fitted model of texts, and of the numbers beside them."""

    vectorizer: Any
    model: Any
    rounds: int

    def predict(self, texts: Sequence[str], numbers: np.ndarray | None = None) -> np.ndarray:
        """The class or the value of each text."""
        features = _features(self.vectorizer.transform(texts), numbers)
        return np.asarray(self.model.predict(features))


def fit_tfidf_linear(
    texts: Sequence[str],
    targets: np.ndarray,
    *,
    numbers: np.ndarray | None = None,
    is_classification: bool,
    seconds: float = inf,
) -> TfidfLinear:
    """Fit the model to texts and to the `numbers` beside them, float [n, d].

    Where no text has a word of two letters between spaces, as in Chinese, its characters and pairs
    of them are counted instead.
    Raises: MissingPackageError; TooLongError where it takes more than `seconds`.
    """
    start = monotonic()
    vectorizer, counts = _fit_vectorizer(texts)
    features = _features(counts, numbers)
    _check_time(start, seconds)
    if not is_classification:
        return TfidfLinear(vectorizer, _ridge().fit(features, targets), rounds=1)
    model = _logistic()
    rounds = 0
    while rounds < MOST_ROUNDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rounds that end before the minimum
            model.fit(features, targets)
        done = int(np.max(model.n_iter_))
        rounds += done
        if done < ROUNDS:
            break
        _check_time(start, seconds)
    return TfidfLinear(vectorizer, model, rounds)


def _fit_vectorizer(texts: Sequence[str]) -> tuple[Any, Any]:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise MissingPackageError(
            "scikit-learn is not installed", fix="pip install thalweg[demo]"
        ) from error
    options: dict[str, Any] = {"ngram_range": (1, 2), "sublinear_tf": True}
    if _has_no_spaces(texts):
        options["analyzer"] = "char"
    vectorizer = TfidfVectorizer(**options)
    try:
        return vectorizer, vectorizer.fit_transform(texts)
    except ValueError:  # no word of two letters in any text
        vectorizer = TfidfVectorizer(**options | {"analyzer": "char"})
        return vectorizer, vectorizer.fit_transform(texts)


def _has_no_spaces(texts: Sequence[str]) -> bool:
    """Return whether the words of the texts are as long as sentences are."""
    sample = "".join(texts[:1_000])
    return len(sample) > 20 * (1 + len("\n".join(texts[:1_000]).split()))


def _features(counts: Any, numbers: np.ndarray | None) -> Any:
    if numbers is None or not numbers.shape[1]:
        return counts
    from scipy import sparse

    return sparse.hstack([counts, sparse.csr_matrix(numbers)]).tocsr()


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=PENALTY, max_iter=ROUNDS, warm_start=True)


def _ridge() -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


def _check_time(start: float, seconds: float) -> None:
    if monotonic() - start > seconds:
        raise TooLongError(seconds, is_bound=True)
