"""Map the names of logged numbers, as loggers and people choose them, to quantities."""

import re
from typing import Literal, NamedTuple

from thalweg.record.quantities import (
    ACCURACY,
    GRADIENT_NORM,
    LEARNING_RATE,
    LOSS,
    VAL_ACCURACY,
    VAL_LOSS,
    VAL_MAE,
    VAL_R2,
    VAL_TOP5_ACCURACY,
)
from thalweg.record.quantity import Quantity

Split = Literal["", "train", "val"]
SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "evaluation": "val",
    "dev": "val",
}
FILLERS = frozenset(  # words that do not change the quantity
    (
        *("epoch", "step", "batch", "mean", "avg", "average", "running", "total", "smooth"),
        *("metric", "metrics", "score", "top1", "sparse", "categorical", "binary", "multiclass"),
    )
)
RATES = frozenset(("lr", "learning", "rate"))
TRAINED: dict[frozenset[str], Quantity] = {
    frozenset({"loss"}): LOSS,
    frozenset({"acc"}): ACCURACY,
    frozenset({"accuracy"}): ACCURACY,
    frozenset({"error", "rate"}): ACCURACY,
    frozenset({"grad", "norm"}): GRADIENT_NORM,
    frozenset({"gradient", "norm"}): GRADIENT_NORM,
}
VALIDATED: dict[frozenset[str], Quantity] = {
    frozenset({"loss"}): VAL_LOSS,
    frozenset({"acc"}): VAL_ACCURACY,
    frozenset({"accuracy"}): VAL_ACCURACY,
    frozenset({"error", "rate"}): VAL_ACCURACY,
    frozenset({"acc", "top5"}): VAL_TOP5_ACCURACY,
    frozenset({"accuracy", "top5"}): VAL_TOP5_ACCURACY,
    frozenset({"mae"}): VAL_MAE,
    frozenset({"absolute", "error"}): VAL_MAE,
    frozenset({"r2"}): VAL_R2,
}
READABLE = tuple(dict.fromkeys((*TRAINED.values(), *VALIDATED.values(), LEARNING_RATE)))


class Meaning(NamedTuple):
    """The quantity that a logged number measures."""

    quantity: Quantity
    place: str = ""
    complement: bool = False  # an error rate: one minus it is the accuracy

    def to_quantity(self, number: float) -> float:
        """Convert to the quantity's unit: percent to a share, an error rate to an accuracy."""
        if self.quantity.name.endswith("accuracy") and number > 1:
            number /= 100
        return 1.0 - number if self.complement else number


def meaning_of(name: str, *, split: Split = "") -> Meaning | None:
    """The quantity behind a name; None where the name does not tell.

    `split` is the split for a name without one; training by default.

    >>> meaning_of("validation/Loss").quantity.name, meaning_of("train_acc_epoch").quantity.name
    ('val_loss', 'accuracy')
    """
    words = words_of(name)
    if words[:1] == ["lr"] or words[:2] == ["learning", "rate"]:
        rest = [word for word in words if word not in RATES]
        return Meaning(LEARNING_RATE, "/".join(rest) or "0")
    split = split_of(name) or split
    kind = frozenset(words) - FILLERS - frozenset(SPLITS)
    if kind == RATES - {"lr"} or kind == {"lr"}:
        return Meaning(LEARNING_RATE, "0")
    quantity = (VALIDATED if split == "val" else TRAINED).get(kind)
    if quantity is None:
        return None
    place = "all" if quantity is GRADIENT_NORM else ""
    return Meaning(quantity, place, complement={"error", "rate"} <= kind)


def split_of(name: str) -> Split:
    """The split in a name; "" for none."""
    return next((SPLITS[word] for word in words_of(name) if word in SPLITS), "")


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: "valLoss", "val/loss" and "Val Loss" have the same.

    >>> words_of("val/Top5Accuracy"), words_of("accuracy_top_5")
    (['val', 'top5', 'accuracy'], ['accuracy', 'top5'])
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
    return re.findall(r"[a-z]+\d*|\d+", re.sub(r"top\W*_*([15])(?!\d)", r" top\1 ", spaced))
