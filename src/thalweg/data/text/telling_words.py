"""Words that tell the target by themselves: most often it was written into the text."""

from collections.abc import Sequence

import numpy as np

from thalweg.data.caveat import Caveat

LEAST_SHARE = 0.98  # of the texts of a class that hold the word, and of its texts in that class
LEAST_TEXTS = 20  # of a class, for the test
LARGEST_CLASS = 0.9  # of the texts; a word of nearly all texts tells nothing
LEAST_STATED = 0.5  # of the texts that hold the number to predict
HEADLINE = "The target stands in the text"


def telling_notes(
    words: Sequence[np.ndarray], targets: np.ndarray, *, train: np.ndarray, names: Sequence[str]
) -> list[str]:
    """A note for each class that a single word tells, or where a text states its number.

    `words` are the distinct words of each row, as indices into `names`.
    """
    if len(train) < 2 * LEAST_TEXTS or not names:
        return []
    if targets.dtype.kind == "f":
        return _stated_numbers(words, targets, train=train, names=names)
    rows = [words[row] for row in train.tolist()]
    texts = np.repeat(np.arange(len(rows)), list(map(len, rows)))
    flat = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    own = targets[train]
    all_texts = np.bincount(flat, minlength=len(names))
    notes: list[str] = []
    for number in np.unique(own).tolist():
        size = int((own == number).sum())
        if size < LEAST_TEXTS or size > LARGEST_CLASS * len(train):
            continue
        of_class = np.bincount(flat[own[texts] == number], minlength=len(names))
        recall, precision = of_class / size, of_class / np.maximum(1, all_texts)
        word = int(np.argmax(np.minimum(recall, precision)))
        if min(recall[word], precision[word]) >= LEAST_SHARE:
            text = (
                f"the word {names[word]!r} alone tells a class: it stands in {recall[word]:.1%} of "
                f"its {size:,} training texts, which are {precision[word]:.1%} of all with it: "
                "leave it out if it was written with the label in view"
            )
            notes.append(Caveat(text, HEADLINE))
    return notes


def _stated_numbers(
    words: Sequence[np.ndarray], targets: np.ndarray, *, train: np.ndarray, names: Sequence[str]
) -> list[str]:
    place = {name: number for number, name in enumerate(names)}
    stated = sum(
        place.get(f"{targets[row]:g}", -1) in words[row] and targets[row] != 0
        for row in train.tolist()
    )
    # A number that most texts hold whatever their target would be stated by chance.
    distinct = len(np.unique(targets[train]))
    if distinct < 3 or stated < LEAST_STATED * len(train):
        return []
    text = f"{stated:,} of {len(train):,} training texts state the number that is to be predicted"
    return [Caveat(text, HEADLINE)]
