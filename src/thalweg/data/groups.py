"""Groups of samples that stay on one side of every split: one patient's slices, one video's frames.

Otherwise the validation split holds near copies of the training split, and its score is too good.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from thalweg.data.caveat import Caveat
from thalweg.data.images.cache_index import DIGEST_BYTES
from thalweg.wording import some

LEAST_SHARE = 0.8  # of the file names that must follow the pattern
LEAST_GROUPS = 4
_SOURCE = re.compile(r"(?:patient|subject|subj|video|vid|clip|scene|case)[-_ ]?\d+", re.IGNORECASE)
_PART = re.compile(
    r"(.*\d.*?)[-_ ]?(?:aug|augmented|copy|flip|rot|crop|frame|slice|burst|view)[-_ ]?\d+",
    re.IGNORECASE,
)


class Groups(NamedTuple):
    """The group of each sample, "" for a sample of its own, and where the groups stand."""

    names: Sequence[str]
    place: str  # in the user's words: "column 'patient'"


def groups_in_names(names: Sequence[str], classes: np.ndarray) -> Groups | None:
    """Groups by a pattern in file names: patient12_slice04, video3_frame0077, IMG_0012_aug3.

    None where few names follow it, where no group has two samples, or where a class has one group
    alone, which could not be divided.
    """
    groups = [_group_in(name) for name in names]
    used = [group for group in groups if group]
    distinct = len(set(used))
    if len(used) < LEAST_SHARE * len(names) or not LEAST_GROUPS <= distinct < len(used):
        return None
    of_class: dict[int, set[str]] = {}
    for group, label in zip(groups, classes.tolist(), strict=True):
        of_class.setdefault(label, set()).add(group)
    if any(len(members) < 2 for members in of_class.values()):
        return None
    return Groups(groups, "the file names")


def _group_in(name: str) -> str:
    folder, _, file = name.rpartition("/")
    stem = file.rpartition(".")[0] or file
    if (source := _SOURCE.search(stem)) and source.group() != stem:
        return source.group().lower()  # also across the folders of the classes
    part = _PART.fullmatch(stem)
    return f"{folder}/{part.group(1)}" if part else ""


def group_digests(digests: np.ndarray, groups: Groups) -> np.ndarray:
    """A digest for each sample that is equal within a group, uint8 [n, 16].

    Samples of equal content are of one group too, and so are the groups that they join. The digest
    follows from the first of the groups' names, so that an added sample moves no group.
    """
    _, contents = np.unique(digests, axis=0, return_inverse=True)
    links: dict[object, object] = {}

    def root(node: object) -> object:
        while (parent := links.setdefault(node, node)) != node:
            links[node] = links[parent]
            node = links[node]
        return node

    rows = list(zip(groups.names, contents.reshape(-1).tolist(), strict=True))
    for name, content in rows:
        if name:
            links[root(content)] = root(name)
    first: dict[object, str] = {}
    for name, content in rows:
        home = root(content)
        if name:
            first[home] = min(first.get(home, name), name)
    joined = digests.copy()
    for row, (_, content) in enumerate(rows):
        if name := first.get(root(content), ""):
            key = blake2b(name.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()
            joined[row] = np.frombuffer(key, dtype=np.uint8)
    return joined


def group_notes(groups: Groups, indices: Mapping[str, np.ndarray]) -> list[str]:
    """A note on the groups, and one on those that the splits in the data divide."""
    splits = {
        name: {groups.names[row] for row in rows.tolist()} - {""} for name, rows in indices.items()
    }
    count = len(set().union(*splits.values()))
    seen: set[str] = set()
    across: set[str] = set()
    for members in splits.values():
        across |= seen & members
        seen |= members
    place = f"{count:,} groups by {groups.place}"
    if across:
        text = f"{len(across):,} of {place} stand in more than one split: {some(sorted(across))}"
        return [Caveat(text, "Groups in more than one split")]
    return [f"{place}: each stays on one side of the split; --data.group none splits them"]
