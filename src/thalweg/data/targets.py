"""Labels as written → targets: which task they make, and each sample's class or value."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

import numpy as np

from thalweg.data.dataset import TaskName
from thalweg.data.samples import Labels, Samples
from thalweg.errors import DataError, printable
from thalweg.wording import some

MOST_NUMBERED_CLASSES = 20  # more distinct whole numbers than this are a measurement…
CLASS_WORDS = ("class", "label", "category", "species")  # …unless the place is called so


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    task: TaskName
    values: np.ndarray  # int64 [n], the class; or float32 [n]
    class_names: tuple[str, ...]  # () for regression
    notes: tuple[str, ...] = ()


def targets_of(samples: Samples) -> Targets:
    """Classes where the labels are words or few whole numbers; values where they are measurements.

    Raises DataError when nothing can be learned: one class, or one value.
    """
    numbers = _numbers(samples.labels)
    if numbers is None:
        assert isinstance(samples.labels, Labels)
        return _named_classes(samples.labels, samples.label_place)
    if _are_classes(numbers, samples.label_place):
        return _numbered_classes(numbers, samples.label_place)
    if numbers.size and numbers.min() == numbers.max():
        raise DataError(
            "every target has the same value: there is nothing to learn",
            seen=f"{samples.label_place}: {numbers[0]:g} in all {numbers.size:,} samples",
            fix="give data whose target varies",
        )
    distinct = len(np.unique(numbers))
    note = f"task: regression, as {samples.label_place} holds {distinct:,} distinct numbers"
    return Targets(
        task="regression", values=numbers.astype(np.float32), class_names=(), notes=(note,)
    )


def _numbers(labels: Labels | np.ndarray) -> np.ndarray | None:
    """The labels as float64, if they all are numbers."""
    if isinstance(labels, np.ndarray):
        return labels
    if not labels.may_be_numbers:
        return None
    try:
        return np.array([float(text) for text in labels.texts], dtype=np.float64)[labels.codes]
    except ValueError:
        return None


def _are_classes(numbers: np.ndarray, place: str) -> bool:
    distinct = np.unique(numbers)
    if not (distinct == np.round(distinct)).all():
        return False
    named = any(word in place.lower() for word in CLASS_WORDS)
    return len(distinct) <= MOST_NUMBERED_CLASSES or (named and 2 * len(distinct) <= len(numbers))


def _numbered_classes(numbers: np.ndarray, place: str) -> Targets:
    """Whole numbers: "1.0" and "1" are one class, called "1"."""
    distinct, codes = np.unique(numbers, return_inverse=True)
    _check_two(len(distinct), place, [f"{number:.0f}" for number in distinct])
    return Targets(
        task="classification",
        values=codes.astype(np.int64),
        class_names=tuple(f"{number:.0f}" for number in distinct),
        notes=(f"task: classification, as {place} holds {len(distinct):,} whole numbers",),
    )


def _named_classes(labels: Labels, place: str) -> Targets:
    """Words: those that differ by outer spaces or Unicode form only are one class."""
    spelled = [normalize("NFC", text).strip() for text in labels.texts]
    present = np.unique(labels.codes)
    names = _sorted_names({spelled[code] for code in present})
    _check_two(len(names), place, names)
    number = {name: index for index, name in enumerate(names)}
    table = np.array([number.get(name, -1) for name in spelled], dtype=np.int64)
    return Targets(
        task="classification",
        values=table[labels.codes],
        class_names=tuple(printable(name) for name in names),
        notes=_name_notes(labels, spelled, names),
    )


def _sorted_names(names: set[str]) -> list[str]:
    """By value if they all are whole numbers ("2" before "10"), else by letters."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _check_two(classes: int, place: str, names: Sequence[str]) -> None:
    if classes < 2:
        raise DataError(
            "there is one class only: nothing to tell apart",
            seen=f"{place}: {printable(names[0])}" if names else f"{place}: nothing",
            fix="give samples of at least two classes, such as a folder for each",
        )


def _name_notes(labels: Labels, spelled: list[str], names: list[str]) -> tuple[str, ...]:
    notes = []
    spellings, cases = defaultdict(set), defaultdict(list)
    for text, name in zip(labels.texts, spelled, strict=True):
        spellings[name].add(text)
    for name in names:
        cases[name.casefold()].append(name)
    for name, texts in spellings.items():
        if len(texts) > 1:
            quoted = ", ".join(repr(text) for text in sorted(texts))
            notes.append(f"{quoted} are taken as one class, {name!r}")
    for alike in cases.values():
        if len(alike) > 1:
            quoted = " and ".join(repr(name) for name in alike)
            notes.append(
                f"classes {quoted} differ in case only: kept apart; rename them if they are one"
            )
    odd = [text for text in spelled if labels.may_be_numbers and _is_number(text)]
    if odd:
        notes.append(f"{len(odd)} labels are numbers among words: {some(odd)}; all are classes")
    return tuple(notes)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
