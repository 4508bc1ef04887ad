"""Questions beside their images; many questions share an image, which is stored once."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from thalweg.data.rows import Rows
from thalweg.data.samples import Files


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions as listed, and the image files that they are about; nothing is decoded."""

    images: Files
    image_of: Int64[np.ndarray, " question"]  # the place of each one's image among the files
    texts: tuple[str, ...]
    kinds: tuple[str, ...] = ()  # the type of each, or none at all

    def __len__(self) -> int:
        return len(self.texts)


class PicturedQuestion(NamedTuple):
    """A sample: decoded pixels, and the numbers of the words."""

    image: np.ndarray  # uint8 [height, width, channel]
    words: np.ndarray  # int64 [word]


@dataclass(frozen=True, slots=True)
class PicturedQuestions(Rows[PicturedQuestion]):
    """The samples of all questions, made when they are read."""

    images: Any  # uint8 [image, height, width, channel], perhaps memory-mapped
    image_of: Int64[np.ndarray, " question"]
    words: tuple[np.ndarray, ...]  # int64 [word] of each question
    texts: tuple[str, ...]
    kinds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.words)

    def row(self, place: int) -> PicturedQuestion:
        return PicturedQuestion(self.images[self.image_of[place]], self.words[place])
