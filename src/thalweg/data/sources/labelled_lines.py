"""Lines that begin with their labels, as fastText has them: __label__good __label__short Nice."""

from pathlib import Path

import numpy as np

from thalweg.data.samples import UNSPLIT, RowNames, Samples
from thalweg.data.sources.label_columns import LabelColumns, labels_of
from thalweg.data.text.documents import DocumentNames, Documents
from thalweg.data.text.read_document import decode_document

MARK = "__label__"
SUFFIXES = (".txt", ".text", ".train", ".valid", ".test", ".ft")


def labelled_lines(path: Path) -> Samples | None:
    """A text and its labels for each line; None where the first line has no label."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return None
    with path.open("rb") as file:
        if not file.read(len(MARK) + 3).removeprefix(b"\xef\xbb\xbf").startswith(MARK.encode()):
            return None
    lines = decode_document(path.read_bytes(), name=str(path)).split("\n")
    texts, codes, rows = list[str](), list[int](), list[int]()
    numbers: dict[str, int] = {}
    for row, line in enumerate(lines, start=1):
        words = line.split(" ")
        labels = [word.removeprefix(MARK) for word in words if word.startswith(MARK)]
        if not labels:
            continue
        texts.append(" ".join(word for word in words if not word.startswith(MARK)).strip())
        key = LabelColumns(tuple(range(len(labels))), tuple(labels)).text(["1"] * len(labels))
        codes.append(numbers.setdefault(key, len(numbers)))
        rows.append(row)
    return Samples(
        inputs=Documents(texts, np.zeros((len(texts), 0), dtype=np.float32)),
        names=DocumentNames(RowNames(np.array(rows, dtype=np.int64)), texts),
        labels=labels_of(codes, tuple(numbers)),
        splits=np.full(len(texts), UNSPLIT, dtype=np.int8),
        label_place=f"the marks {MARK}… of {path.name}",
    )
