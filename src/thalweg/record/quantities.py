"""The vocabulary of measurement: everything an instrument may record and a rule may read."""

from dataclasses import dataclass
from typing import Literal

Per = Literal["run", "group", "weight", "module", "class", "kind", "reason"]


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

GRADIENT_RATIO = Quantity("gradient_ratio", "1", "weight", "‖∂loss/∂w‖ / ‖w‖ of each weight matrix")
LEFTOVER_GRADIENT = Quantity(
    "leftover_gradient", "1", "weight", "‖gradient‖ still there when the next backward pass began"
)
GRADIENT_PRESENT = Quantity(
    "gradient_present",
    "1",
    "weight",
    "1 where a trainable weight had a gradient at the update, else 0",
)
HELD = Quantity("held", "1", "weight", "1 where an optimizer holds the trainable weight, else 0")
MODULE_CALLED = Quantity(
    "module_called", "1", "module", "1 where the module ran in the training pass, else 0"
)
FROZEN_AT_RANDOM = Quantity(
    "frozen_at_random",
    "1",
    "weight",
    "of weights that no update reaches: 1 where they look as initialised, 0 as trained",
)
WEIGHTS = Quantity("weights", "1", "run", "how many numbers the model's weights are")
STALE_WEIGHTS = Quantity(
    "stale_weights", "1", "run", "tensors that the optimizers hold and the model does not"
)
TRAIN_MODE = Quantity(
    "train_mode",
    "1",
    "module",
    "1 where the module was in train mode in a training pass; the empty place is the whole model",
)
VAL_MODE = Quantity(
    "val_mode", "1", "module", "1 where the module was in train mode in a pass without gradient"
)
LOSS_KIND = Quantity(
    "loss_kind", "1", "kind", "1 at the name of the loss function, as the graph shows it"
)
LOSS_INPUT = Quantity(
    "loss_input",
    "1",
    "kind",
    "1 at the name of the operation that the loss function was applied to",
)
OUTPUT_ACTIVATION = Quantity(
    "output_activation", "1", "kind", "1 at the name of the last operation of the model"
)
SUMMED_LOSS = Quantity(
    "summed_loss", "1", "run", "1 where the loss is a sum over the samples, 0 where it is not"
)
BROADCAST_LOSS = Quantity(
    "broadcast_loss",
    "1",
    "run",
    "1 where outputs and targets had different shapes and were expanded",
)
BATCH_SIZE = Quantity("batch_size", "1", "run", "samples in the training batch")
OUTPUT_WIDTH = Quantity("output_width", "1", "run", "numbers that the model gives for one sample")
OUTPUT_ROW_SUM_ERROR = Quantity(
    "output_row_sum_error",
    "1",
    "run",
    "largest |Σ − 1| over the rows of the output; infinite where one is negative",
)
OUTPUT_LOW = Quantity("output_low", "1", "run", "smallest output of the batch")
OUTPUT_HIGH = Quantity("output_high", "1", "run", "largest output of the batch")
TARGET_LOW = Quantity("target_low", "1", "run", "smallest target seen")
TARGET_HIGH = Quantity("target_high", "1", "run", "largest target seen")
TARGET_MEAN = Quantity("target_mean", "1", "run", "mean of the targets seen")
TARGET_STD = Quantity("target_std", "1", "run", "standard deviation of the targets seen")
TARGET_DISTINCT = Quantity("target_distinct", "1", "run", "different values among the targets seen")
TARGET_INTEGER = Quantity(
    "target_integer", "1", "run", "share of the targets that are whole numbers"
)
TARGET_ROW_SUM = Quantity(
    "target_row_sum", "1", "run", "mean of a target row's sum; of a target row with several columns"
)
TARGET_IS_INDEX = Quantity(
    "target_is_index", "1", "run", "1 where the targets are of an integer type"
)
OUT_OF_REACH = Quantity(
    "out_of_reach", "1", "run", "share of the targets that the output's activation cannot give"
)
INPUT_STD = Quantity(
    "input_std",
    "1",
    "kind",
    "std over samples of what the first weights see: lowest, median, highest feature",
)
INPUT_OFFSET = Quantity(
    "input_offset", "1", "run", "|mean| / std of the median feature that the first weights see"
)
INPUT_NOT_FINITE = Quantity(
    "input_not_finite", "1", "run", "share of the input numbers that are NaN or infinite"
)
CLASS_RUN_Z = Quantity(
    "class_run_z",
    "1",
    "run",
    "how many standard deviations fewer classes are in a batch than chance would put there",
)
CLASS_COUNT = Quantity(
    "class_count", "1", "class", "training samples of the class, among those seen"
)
CLASS_RECALL = Quantity(
    "class_recall", "1", "class", "share of the class's samples that the model gets right"
)
LEAKED = Quantity(
    "leaked",
    "1",
    "run",
    "share of the validation samples that are training samples too, bit for bit",
)
DUPLICATED = Quantity(
    "duplicated", "1", "run", "share of the training samples that occur more than once"
)
SHIFT = Quantity(
    "shift",
    "1",
    "kind",
    "validation against training inputs: mean shift in std, log2 of the std ratio, AUC",
)
DEAD_UNITS = Quantity(
    "dead_units",
    "1",
    "module",
    "share of a ReLU's units that are zero on all of the probe's samples",
)
SATURATED = Quantity(
    "saturated", "1", "module", "share of a sigmoid's or tanh's outputs with |slope| < 0.02"
)
ACTIVATION_STD = Quantity(
    "activation_std", "1", "module", "std of what each linear or convolution gives on the probe"
)
NONLINEARITIES = Quantity(
    "nonlinearities",
    "1",
    "run",
    "operations between the first and last weights that are not linear",
)
LAYERS = Quantity(
    "layers", "1", "run", "linear maps with weights that one forward pass goes through"
)
USELESS_BIAS = Quantity(
    "useless_bias",
    "1",
    "module",
    "1 where a bias is added right before a norm that subtracts the mean",
)
IDENTICAL_ROWS = Quantity(
    "identical_rows", "1", "weight", "1 where all rows of a weight matrix are equal, 0 where not"
)
CONSTANT_WEIGHT = Quantity(
    "constant_weight",
    "1",
    "weight",
    "|value| of a weight matrix whose entries are all equal, 0 where they differ",
)
NORM_SAMPLES = Quantity(
    "norm_samples", "1", "module", "numbers that a batch norm averages over for each channel"
)
TRAIN_MODE_LOSS = Quantity(
    "train_mode_loss", "nat", "run", "loss of training samples with the model in train mode"
)
EVAL_MODE_LOSS = Quantity(
    "eval_mode_loss", "nat", "run", "loss of the same samples with the model in eval mode"
)
TRAIN_ACCURACY = Quantity(
    "train_accuracy", "1", "run", "share of training samples right, in eval mode"
)
MEASURED_VAL_ACCURACY = Quantity(
    "measured_val_accuracy",
    "1",
    "run",
    "share of validation samples right in eval mode, as the watcher measured it",
)
VAL_SAMPLES = Quantity("val_samples", "1", "run", "validation samples that the watcher looked at")
BASELINE_ACCURACY = Quantity(
    "baseline_accuracy",
    "1",
    "kind",
    "share right out of fold of simple classifiers on the inputs, and of chance",
)
SUSPECT_LABELS = Quantity(
    "suspect_labels",
    "1",
    "run",
    "share of training labels that confident out-of-fold neighbours contradict",
)
STEP_TIME = Quantity("step_time", "s", "run", "median seconds from one update to the next")
DATA_WAIT = Quantity(
    "data_wait",
    "1",
    "run",
    "median share of a step between the end of one update and the next forward pass",
)

RELABELLED_VAL_ACCURACY = Quantity(
    "relabelled_val_accuracy",
    "1",
    "run",
    "validation accuracy after the best one-to-one renaming of classes",
)
WEIGHT_DECAY = Quantity(
    "weight_decay",
    "1",
    "group",
    "share of a weight that decay takes in one step: decay × learning rate",
)
SHARPNESS = Quantity("sharpness", "1", "run", "largest eigenvalue of the loss's Hessian, a sample")
SHARPNESS_RATIO = Quantity(
    "sharpness_ratio", "1", "run", "sharpness as the optimizer feels it / what its lr can stand"
)
SADDLE_CURVATURE = Quantity(
    "saddle_curvature", "1", "run", "negative curvature that other samples confirm, at most; or 0"
)
ESCAPE_GAIN = Quantity(
    "escape_gain", "1", "run", "share of the loss gained by one step along negative curvature"
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
        GRADIENT_RATIO,
        LEFTOVER_GRADIENT,
        GRADIENT_PRESENT,
        HELD,
        MODULE_CALLED,
        FROZEN_AT_RANDOM,
        WEIGHTS,
        STALE_WEIGHTS,
        TRAIN_MODE,
        VAL_MODE,
        LOSS_KIND,
        LOSS_INPUT,
        OUTPUT_ACTIVATION,
        SUMMED_LOSS,
        BROADCAST_LOSS,
        BATCH_SIZE,
        OUTPUT_WIDTH,
        OUTPUT_ROW_SUM_ERROR,
        OUTPUT_LOW,
        OUTPUT_HIGH,
        TARGET_LOW,
        TARGET_HIGH,
        TARGET_MEAN,
        TARGET_STD,
        TARGET_DISTINCT,
        TARGET_INTEGER,
        TARGET_ROW_SUM,
        TARGET_IS_INDEX,
        OUT_OF_REACH,
        INPUT_STD,
        INPUT_OFFSET,
        INPUT_NOT_FINITE,
        CLASS_RUN_Z,
        CLASS_COUNT,
        CLASS_RECALL,
        LEAKED,
        DUPLICATED,
        SHIFT,
        DEAD_UNITS,
        SATURATED,
        ACTIVATION_STD,
        NONLINEARITIES,
        LAYERS,
        USELESS_BIAS,
        IDENTICAL_ROWS,
        CONSTANT_WEIGHT,
        NORM_SAMPLES,
        TRAIN_MODE_LOSS,
        EVAL_MODE_LOSS,
        TRAIN_ACCURACY,
        MEASURED_VAL_ACCURACY,
        VAL_SAMPLES,
        BASELINE_ACCURACY,
        SUSPECT_LABELS,
        STEP_TIME,
        DATA_WAIT,
        RELABELLED_VAL_ACCURACY,
        WEIGHT_DECAY,
        SHARPNESS,
        SHARPNESS_RATIO,
        SADDLE_CURVATURE,
        ESCAPE_GAIN,
    )
}


def quantity_called(name: str) -> Quantity:
    """The quantity of that name; one that is in no table is the user's own: a number of the run."""
    return QUANTITIES.get(name) or Quantity(name, "1", "run", "logged by the user")
