"""The facts about a data set that a recipe is chosen by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """The shape and amount of the data. `modality` and `task` are names in those tables."""

    modality: str
    task: str
    input_shape: tuple[int, ...]  # of one sample, as the model takes it: channels first for images
    num_classes: int  # 1 where the targets are no classes
    counts: Mapping[str, int]  # split -> samples
    original_size: tuple[int, int] = (0, 0)  # median (height, width) of image files
    target_mean: float = 0.0  # of the training targets; 0 and 1 where they are no real numbers
    target_std: float = 1.0
    num_numbers: int = 0  # of a table: inputs that are measurements; they come first
    categories: tuple[int, ...] = ()  # of a table: entries of each one-hot category, last
    label_rates: tuple[float, ...] = ()  # shares of the training samples with each of many labels

    vocabulary: int = 0  # of a text: different tokens; of texts to classify: n-grams
    tokens: int = 0  # of a text: tokens of the training split
    words: int = 0  # of texts to classify: numbers of their words in order
    columns: int = 0  # inputs beside such a text
    token_noun: str = ""  # of a text: character, or token
    source_noun: str = ""  # of pairs: character, word, or token
    lags: int = 0  # of series: past steps that the network sees
    horizon: int = 0  # of series: steps to forecast
    season: int = 1  # of series: steps after which they repeat
    series: int = 0  # of series: their number
    interval: str = ""  # of series: day, month, or step
    extra: Mapping[str, Any] = field(default_factory=dict)  # of a modality of another package

    @property
    def has_one_class(self) -> bool:
        """True where each sample is of one class."""
        return self.num_classes > 1 and not self.label_rates
