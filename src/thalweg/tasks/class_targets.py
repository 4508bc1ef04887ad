"""Labels that name classes → the class of each sample."""

from collections import defaultdict
from collections.abc import Sequence
from unicodedata import normalize

import numpy as np

from thalweg.errors import DataError, printable
from thalweg.label_sets import label_sets
from thalweg.tasks.labels import are_classes, numeric_labels
from thalweg.tasks.task import Labels, Targets
from thalweg.wording import some


def class_targets(task: str, labels: Labels | np.ndarray, place: str) -> Targets | None:
    """The targets where the labels are words or few whole numbers; None for measurements.

    Raises: DataError where all samples are of one class.
    """
    numbers = numeric_labels(labels)
    if numbers is not None:
        return _numbered_classes(task, numbers, place) if are_classes(numbers, place) else None
    return None if isinstance(labels, np.ndarray) else _named_classes(task, labels, place)


def _numbered_classes(task: str, numbers: np.ndarray, place: str) -> Targets:
    """Whole numbers: "1.0" and "1" are one class, called "1"."""
    distinct, codes = np.unique(numbers, return_inverse=True)
    names = [f"{number:.0f}" for number in distinct]
    _check_two(names, place)
    return Targets(
        task=task,
        values=codes.astype(np.int64),
        class_names=tuple(names),
        notes=(
            f"task: {task}, as {place} holds {len(distinct):,} whole numbers; --task regression "
            "takes them as values",
        ),
    )


def _named_classes(task: str, labels: Labels, place: str) -> Targets:
    """Words: those that differ by outer spaces or Unicode form only are one class."""
    spelled = [normalize("NFC", text).strip() for text in labels.texts]
    present = np.unique(labels.codes)
    names = _sorted_names({spelled[code] for code in present})
    _check_two(names, place)
    number = {name: index for index, name in enumerate(names)}
    table = np.array([number.get(name, -1) for name in spelled], dtype=np.int64)
    return Targets(
        task=task,
        values=table[labels.codes],
        class_names=printable_names(names),
        notes=(*_name_notes(labels, spelled, names), *_combination_notes(names, place)),
    )


def printable_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names as they are shown; those that look alike once escaped get a number."""
    seen: dict[str, int] = {}
    shown = []
    for name in map(printable, names):
        seen[name] = seen.get(name, 0) + 1
        shown.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(shown)


def _combination_notes(names: Sequence[str], place: str) -> list[str]:
    """A note where classes are combinations of a few labels: "ant bee", "bee cat"."""
    sets = label_sets(names).sets
    labels = {label for members in sets for label in members}
    combined = [name for name, members in zip(names, sets, strict=False) if len(members) > 1]
    if not combined:
        return []
    return [
        f"{place} combines {len(labels)} labels, as {some([repr(n) for n in combined])}: "
        f"each of the {len(names)} combinations is a class of its own"
    ]


def _sorted_names(names: set[str]) -> list[str]:
    """The names sorted by value if all are whole numbers ("2" before "10"), else by letters."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _check_two(names: Sequence[str], place: str) -> None:
    if len(names) < 2:
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
    numbers = [text for text in spelled if labels.may_be_numbers and _is_number(text)]
    if numbers:
        notes.append(
            f"{len(numbers)} labels are numbers among words: {some(numbers)}; all are classes"
        )
    return tuple(notes)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
