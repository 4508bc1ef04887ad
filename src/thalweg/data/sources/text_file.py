"""A text file: one long text to learn, whose end validates."""

from pathlib import Path

import numpy as np

from thalweg.data.samples import UNSPLIT, Samples
from thalweg.data.text.divide_text import Text
from thalweg.data.text.read_text import check_long_enough, read_text_file

SUFFIXES = (".txt", ".text")


def text_file(path: Path) -> Samples | None:
    """The text as a single sample, which its modality divides into windows."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return None
    text = read_text_file(path)
    check_long_enough(text, name=str(path))
    return Samples(
        inputs=Text(text, path),
        names=(path.name,),
        labels=np.zeros((1, 0), dtype=np.int64),
        splits=np.array([UNSPLIT], dtype=np.int8),
        label_place=f"the text {path.name}",
    )
