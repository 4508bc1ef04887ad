"""Labels as they are written: tell numbers from words, and classes from measurements."""

import sys

import numpy as np

from thalweg.tasks.task import Labels

MAX_INTEGER_CLASSES = 20  # more distinct whole numbers than this are a measurement,
CLASS_WORDS = ("class", "label", "category", "species")  # unless the place has such a name


def numeric_labels(labels: Labels | np.ndarray) -> np.ndarray | None:
    """The labels as float64 [n]; None where some are words, or a label is more than one number."""
    if isinstance(labels, np.ndarray):
        return labels if labels.ndim == 1 else None
    if not labels.may_be_numbers:
        return None
    try:
        numbers = [_number(text) for text in labels.texts]
    except ValueError:
        return None
    return np.array(numbers, dtype=np.float64)[labels.codes]


def _number(text: str) -> float:
    """The number; ValueError for a word, and for an id of so many digits that float64 rounds it."""
    number = float(text.replace("_", "x"))  # Python reads 1_0 as 10
    if abs(number) >= 2**sys.float_info.mant_dig and text.strip().lstrip("+-").isdecimal():
        raise ValueError("rounded")
    return number


def are_classes(numbers: np.ndarray, place: str) -> bool:
    """True if the numbers are few whole ones, or more where `place` is called a class.

    `place` is where the labels stand, in the user's words: "column 'species'".
    """
    distinct = np.unique(numbers)
    if not (distinct == np.round(distinct)).all():
        return False
    named = any(word in place.lower() for word in CLASS_WORDS)
    return len(distinct) <= MAX_INTEGER_CLASSES or (named and 2 * len(distinct) <= len(numbers))
