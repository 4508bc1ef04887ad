"""The table of modalities. One line each."""

from thalweg.data.modalities.document import DOCUMENT
from thalweg.data.modalities.image import IMAGE
from thalweg.data.modalities.pairs import PAIRS
from thalweg.data.modalities.question import QUESTION
from thalweg.data.modalities.series import SERIES
from thalweg.data.modalities.text import TEXT
from thalweg.data.modalities.vector import VECTOR
from thalweg.data.modality import Modality
from thalweg.errors import DataError
from thalweg.registry import Registry

MODALITIES: Registry[Modality] = Registry(
    "modality",
    (
        IMAGE,
        VECTOR,
        TEXT,
        PAIRS,
        QUESTION,
        SERIES,
        DOCUMENT,
    ),
)


def modality_of(inputs: object) -> Modality:
    """The modality of a source's `Samples.inputs`. Raises DataError where there is none."""
    for modality in MODALITIES.with_plugins():
        if modality.takes(inputs):
            return modality
    raise DataError(
        "these inputs are of no modality that is known",
        seen=f"{type(inputs).__name__}; there are {', '.join(MODALITIES)}",
        fix="install the package that the modality belongs to",
    )
