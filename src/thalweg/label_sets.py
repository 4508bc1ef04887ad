"""Cells that list several labels, as "ant bee", "ant|bee" or "['ant', 'bee']", taken apart."""

import re
from collections.abc import Sequence
from typing import NamedTuple

LIST_MARKS = ("|", ";", ",")  # between labels
SPACE = " "  # weaker evidence: classes may be of several words
_LIST = re.compile(r"[\[({](.*)[\])}]", re.DOTALL)


class LabelSets(NamedTuple):
    """The labels that each text lists, and the mark between them; no sets where texts list none."""

    sets: tuple[tuple[str, ...], ...] = ()
    mark: str = ""


def label_sets(texts: Sequence[str]) -> LabelSets:
    """Texts that combine few labels in many ways, taken apart; else empty.

    The labels must be fewer than the texts. At a space most texts must list several, or each label
    of a list must also stand alone: "polar bear" and "brown bear" are classes of two words.
    """
    lists = [_LIST.fullmatch(text.strip()) for text in texts]
    if texts and all(lists):
        inner = [match.group(1) for match in lists if match]
        return LabelSets(tuple(_parts(text, ",", quotes="\"'") for text in inner), ",")
    for mark in (*LIST_MARKS, SPACE):
        sets = tuple(_parts(text, mark) for text in texts)
        if _combines_few(sets, is_weak=mark == SPACE):
            return LabelSets(sets, mark)
    return LabelSets()


def _parts(text: str, mark: str, *, quotes: str = "") -> tuple[str, ...]:
    parts = (part.strip().strip(quotes).strip() for part in text.split(mark))
    return tuple(part for part in parts if part)


def _combines_few(sets: Sequence[Sequence[str]], *, is_weak: bool) -> bool:
    """Return whether the sets combine labels that are fewer than they, none of them twice."""
    if not all(sets) or any(len(set(labels)) < len(labels) for labels in sets):
        return False
    lists = [labels for labels in sets if len(labels) > 1]
    if not lists or len({label for labels in sets for label in labels}) >= len(sets):
        return False
    alone = {labels[0] for labels in sets if len(labels) == 1}
    return (
        not is_weak or 2 * len(lists) > len(sets) or all(set(labels) <= alone for labels in lists)
    )
