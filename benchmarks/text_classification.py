"""The default recipe on real sets of texts beside TF-IDF with logistic regression.

For each seed a fifth of the texts of each class is the test split; the network trains on four
fifths of the rest and selects its weights on the last fifth, the linear model has all of the rest.
The linear model counts words and pairs of words (of Chinese, characters and pairs of them) with
sublinear counts, and chooses C from 1, 10 and 100 by three folds. Scores are accuracies of the test
split; seconds are of one run, one after the other, with the choice of C. The goal: at least equal
in the mean of the seeds on two sets of three.

$THALWEG_SEEDS is the number of seeds (5), $THALWEG_TEXTS names the sets, separated by commas. Needs
scikit-learn and the packages in `_texts.py`; a set whose package is absent is left out and named.
"""

import csv
import os
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any, NamedTuple

import numpy as np

from benchmarks._peers import NoPeersError
from benchmarks._texts import LOADERS, load_texts
from thalweg import api

SEEDS, SHARE = 5, 0.2
CHOICES = (1.0, 10.0, 100.0)  # of C
NO_SPACES = frozenset({"chinese"})
GOAL = 2 / 3  # of the sets


class Outcome(NamedTuple):
    score: float
    cpu_seconds: float


def main() -> dict[str, object]:
    names = os.environ.get("THALWEG_TEXTS", ",".join(LOADERS)).split(",")
    seeds = int(os.environ.get("THALWEG_SEEDS", str(SEEDS)))
    rows, absent = dict[str, dict[str, Any]](), dict[str, str]()
    for name in names:
        try:
            texts, labels = load_texts(name)
        except OSError as error:
            absent[name] = str(error)
            continue
        rows[name] = compare(name, texts, labels, seeds=seeds)
        print(name, rows[name], file=sys.stderr, flush=True)
    if not rows:
        raise NoPeersError(f"no set of texts can be read: {absent}")
    equal = [name for name, row in rows.items() if row["difference"] >= 0]
    return {
        "seeds": seeds,
        "sets": rows,
        "absent": absent,
        "at least equal": f"{len(equal)} of {len(rows)}",
        "held": len(equal) >= GOAL * len(rows),
    }


def compare(name: str, texts: list[str], labels: list[str], *, seeds: int) -> dict[str, Any]:
    """Means over the seeds, and each seed's scores."""
    ours, linear = list[Outcome](), list[Outcome]()
    for seed in range(seeds):
        splits = split_names(np.array(labels), seed)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "texts.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("text", "label", "split"))
                writer.writerows(zip(texts, labels, splits, strict=True))
            ours.append(run_thalweg(path, seed=seed, out=Path(folder)))
        is_test = splits == "test"
        linear.append(
            run_linear(texts, np.array(labels), is_test, has_spaces=name not in NO_SPACES)
        )
        print(name, seed, ours[-1], linear[-1], file=sys.stderr, flush=True)
    differences = [one.score - other.score for one, other in zip(ours, linear, strict=True)]
    return {
        "texts": len(texts),
        "classes": len(set(labels)),
        "thalweg": round(mean(run.score for run in ours), 4),
        "linear": round(mean(run.score for run in linear), 4),
        "difference": round(mean(differences), 4),
        "seeds in front": sum(difference > 0 for difference in differences),
        "thalweg CPU seconds": round(mean(run.cpu_seconds for run in ours), 1),
        "linear CPU seconds": round(mean(run.cpu_seconds for run in linear), 1),
        "each seed": [[round(run.score, 4) for run in runs] for runs in (ours, linear)],
    }


def split_names(labels: np.ndarray, seed: int) -> np.ndarray:
    """train, val or test for each text, at random within each class."""
    chance = np.random.default_rng(seed)
    names = np.full(len(labels), "train", dtype=object)
    for label in np.unique(labels):
        rows = chance.permutation(np.flatnonzero(labels == label))
        num_test = max(1, round(SHARE * len(rows)))
        num_val = max(1, round(SHARE * (len(rows) - num_test)))
        names[rows[:num_test]] = "test"
        names[rows[num_test : num_test + num_val]] = "val"
    return names


def run_thalweg(path: Path, *, seed: int, out: Path) -> Outcome:
    """Train by the default recipe and score the test split."""
    start = process_time()
    alone = {"evaluation.trees_seconds": 0.0}  # the linear model is fitted and timed below
    run = api.train(path, target="label", seed=seed, out=out, device="cpu", edits=alone)
    score = api.final(run.path).metrics["test_accuracy"]
    return Outcome(score, process_time() - start)


def run_linear(
    texts: list[str], labels: np.ndarray, is_test: np.ndarray, *, has_spaces: bool
) -> Outcome:
    """Choose C by three folds, fit the linear model to all but the test split, and score that."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    start = process_time()
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, analyzer="word" if has_spaces else "char"
    )
    rest, test = ([texts[row] for row in np.flatnonzero(part)] for part in (~is_test, is_test))
    features = vectorizer.fit_transform(rest)
    search = GridSearchCV(LogisticRegression(max_iter=300), {"C": list(CHOICES)}, cv=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that end before the minimum
        search.fit(features, labels[~is_test])
    score = float(search.score(vectorizer.transform(test), labels[is_test]))
    return Outcome(score, process_time() - start)
