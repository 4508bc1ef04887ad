"""Read a training log of another trainer as a history, by the names of its columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite, log
from pathlib import Path

from thalweg.errors import DataError, UnknownNameError, UsageError, shell_word
from thalweg.record.history import History
from thalweg.record.logs.read_scalars import read_scalars
from thalweg.record.logs.scalars import Points
from thalweg.record.metric_names import READABLE, Meaning, Split, meaning_of, split_of, words_of
from thalweg.record.quantities import (
    ACCURACY,
    CHANCE_LOSS,
    LOSS,
    NUM_CLASSES,
    VAL_ACCURACY,
)
from thalweg.record.quantity import Quantity
from thalweg.wording import some

PERCENT = 1.5  # an accuracy above this was logged in percent
NAMES = {quantity.name: quantity for quantity in READABLE}
NAMES |= {"train_loss": LOSS, "train_accuracy": ACCURACY}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLog:
    """The curves of a file, as a history."""

    path: Path
    history: History
    columns: Mapping[str, str]  # column or tag → quantity
    unread: tuple[str, ...]  # columns of numbers with unfamiliar names
    by_epoch: bool  # each point is the mean of a whole epoch

    def check_columns(self) -> None:
        """Raise DataError if no column has a name that tells what it measures."""
        if not self.columns:
            raise DataError(
                f"{self.path}: nothing could be checked, since no column has a known name",
                seen=some(list(self.unread), most=12),
                fix="name what a column measures, as --column "
                f"loss={shell_word(self.unread[0])} or "
                f"columns={{'loss': {self.unread[0]!r}}}; read are {', '.join(NAMES)}",
            )


def read_log(
    path: str | Path, *, columns: Mapping[str, str] | None = None, num_classes: int | None = None
) -> TrainingLog:
    """Read the curves of a file, or of the one log in a folder.

    `columns` names the column of a quantity that the names do not tell:
    {"val_loss": "validation/ce"}. Raises RunError, DataError or UsageError.
    """
    path = Path(path)
    if num_classes is not None and num_classes < 2:
        raise UsageError(
            "a classifier has two classes or more", seen=f"num_classes {num_classes}", fix="2, …"
        )
    scalars = read_scalars(path)
    curves = scalars.curves
    if not any(curves.values()):
        raise DataError(f"{path} has no column of numbers", fix="log at least a loss")
    meanings = _meanings(curves, columns or {}, path)
    chosen = _one_each(curves, meanings, named=set((columns or {}).values()))
    history = History()
    for name in chosen:
        _add(history, meanings[name], curves[name])
    if num_classes is not None:
        history.add(NUM_CLASSES, 0, {"": float(num_classes)})
        history.add(CHANCE_LOSS, 0, {"": log(num_classes)})
    return TrainingLog(
        path=path,
        history=history,
        columns={name: meanings[name].quantity.name for name in chosen},
        unread=tuple(name for name in curves if name not in chosen),
        by_epoch=scalars.by_epoch,
    )


def _meanings(
    curves: Mapping[str, Points], columns: Mapping[str, str], path: Path
) -> dict[str, Meaning]:
    """The quantity of each column: from `columns`, else by its name."""
    split = _split_of_the_rest(list(curves))
    meanings = {}
    for name in curves:
        is_loss = words_of(name)[-1:] == ["loss"]
        meaning = meaning_of(name, split="train" if is_loss else split)
        if meaning is not None:
            meanings[name] = meaning
    for quantity_name, name in columns.items():
        if name not in curves:
            near = get_close_matches(name, curves, 1) or sorted(curves)[:8]
            raise UsageError(
                f"{path} has no column {name!r}", fix=f"did you mean {', '.join(near)}?"
            )
        meanings[name] = Meaning(_readable(quantity_name))
    return meanings


def _split_of_the_rest(names: list[str]) -> Split:
    """The split of an accuracy without one in its name: that of the loss without one in its name.

    Keras writes loss, accuracy, val_loss, val_accuracy; fastai train_loss, valid_loss, accuracy.
    """
    losses = [name for name in names if meaning_of(name) and "loss" in words_of(name)]
    plain = [name for name in losses if not split_of(name)]
    return "train" if plain or not losses else "val"


def _readable(name: str) -> Quantity:
    if name not in NAMES:
        near = get_close_matches(name, NAMES, 1) or list(NAMES)
        raise UnknownNameError(
            f"curves are not read as {name!r}", fix=f"did you mean {', '.join(near)}?"
        )
    return NAMES[name]


def _one_each(
    curves: Mapping[str, Points], meanings: Mapping[str, Meaning], *, named: set[str]
) -> list[str]:
    """For each quantity and place one column: one in `named`, else the one with most points."""
    best: dict[tuple[str, str], str] = {}
    for name, meaning in meanings.items():
        key = (meaning.quantity.name, meaning.place)
        rank = (name in named, len(curves[name]))
        if key not in best or rank > (best[key] in named, len(curves[best[key]])):
            best[key] = name
    return [name for name in curves if name in best.values()]


def _add(history: History, meaning: Meaning, points: Points) -> None:
    highest = max((abs(value) for value in points.values() if isfinite(value)), default=0.0)
    share = meaning.quantity in (ACCURACY, VAL_ACCURACY)
    scale = 100 if share and highest > PERCENT else 1
    for step in sorted(points):
        value = points[step] / scale
        history.add(meaning.quantity, step, {meaning.place: meaning.to_quantity(value)})
