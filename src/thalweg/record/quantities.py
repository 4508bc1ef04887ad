"""The vocabulary of measurement: everything an instrument may record and a rule may read."""

from dataclasses import dataclass
from typing import Literal

Per = Literal["run", "group", "weight", "module", "class", "reason"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One measurable thing. The unit of a pure number is "1"."""

    name: str
    unit: str
    per: Per  # what a place is; of a run there is one, called ""
    meaning: str


LOSS = Quantity("loss", "nat", "run", "mean loss of the training batch, before its update")
ACCURACY = Quantity("accuracy", "1", "run", "share of the training batch classified rightly")
LEARNING_RATE = Quantity("learning_rate", "1", "group", "learning rate of each optimizer group")
GRADIENT_NORM = Quantity("gradient_norm", "1", "weight", "‖∂loss/∂w‖₂, before the update")
UPDATE_RATIO = Quantity("update_ratio", "1", "weight", "‖w_after − w_before‖ / ‖w_before‖")
NUM_CLASSES = Quantity("num_classes", "1", "run", "how many classes the targets can take")
CHANCE_LOSS = Quantity(
    "chance_loss", "nat", "run", "loss of a model that knows nothing: ln K, or the target variance"
)
VAL_LOSS = Quantity("val_loss", "nat", "run", "mean loss of the validation split, in eval mode")
VAL_ACCURACY = Quantity("val_accuracy", "1", "run", "share of the validation split right")
VAL_TOP5_ACCURACY = Quantity(
    "val_top5_accuracy", "1", "run", "share of the validation split with the class among five"
)
VAL_MAE = Quantity("val_mae", "target", "run", "mean absolute error on the validation split")
VAL_R2 = Quantity("val_r2", "1", "run", "1 − residual / total sum of squares, validation split")
OPTIMIZERS = Quantity("optimizers", "1", "run", "how many optimizers update the model")
INSTRUMENT_FAILED = Quantity(
    "instrument_failed", "1", "reason", "1 where a measurement broke; the place is 'name: why'"
)

QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        LOSS,
        ACCURACY,
        LEARNING_RATE,
        GRADIENT_NORM,
        UPDATE_RATIO,
        NUM_CLASSES,
        CHANCE_LOSS,
        VAL_LOSS,
        VAL_ACCURACY,
        VAL_TOP5_ACCURACY,
        VAL_MAE,
        VAL_R2,
        OPTIMIZERS,
        INSTRUMENT_FAILED,
    )
}


def quantity_called(name: str) -> Quantity:
    """The quantity of that name; one that is in no table is the user's own: a number of the run."""
    return QUANTITIES.get(name) or Quantity(name, "1", "run", "logged by the user")
