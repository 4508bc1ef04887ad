"""The vocabulary of measurement: everything an instrument may record and a rule may read."""

from dataclasses import dataclass
from typing import Literal

Per = Literal["run", "group", "weight", "module", "class", "kind", "reason"]

_STEP = "call watcher.step(loss) after each update"
_UPDATE = "let the watched optimizer's step() run"
_BACKWARD = "call backward() between two updates"
_GRAPH = "pass the loss tensor itself, with its graph, to watcher.step"
_CALL = "call the watched model itself (model(inputs)) in the training loop"
_TARGETS = "pass batch=(inputs, targets) to watcher.step"
_TRAIN = "pass train=, an iterable of (inputs, targets) batches with class targets, to watch"
_VAL = "pass val=, an iterable of (inputs, targets) batches, to watch"
_CLASSES = "pass num_classes= to watch"
_PROBE = "pass train= to watch, or call the watched model itself, so that a copy can be probed"
_MATRICES = "only for models with weight matrices"
_MODES = "only for models with dropout or batch norm: "
_SHARPNESS = (
    "not measured unless asked for: pass sharpness=True, train= and loss_fn= to watch, or "
    "--watch.sharpness to thalweg train"
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One measurable thing. The unit of a pure number is "1"."""

    name: str
    meaning: str
    unit: str = "1"
    per: Per = "run"  # what a place is; of a run there is one, called ""
    how: str = ""  # what the user does to have it measured
    classes_only: bool = False  # it exists only where the targets are class numbers


LOSS = Quantity("loss", "mean loss of the training batch, before its update", unit="nat", how=_STEP)
ACCURACY = Quantity(
    "accuracy", "share of the training batch classified correctly", how=_TARGETS, classes_only=True
)
LEARNING_RATE = Quantity(
    "learning_rate", "learning rate of each optimizer group", per="group", how=_STEP
)
GRADIENT_NORM = Quantity(
    "gradient_norm", "‖∂loss/∂w‖₂, before the update", per="weight", how=_UPDATE
)
UPDATE_RATIO = Quantity(
    "update_ratio", "‖w_after − w_before‖ / ‖w_before‖", per="weight", how=_UPDATE
)
NUM_CLASSES = Quantity(
    "num_classes", "number of classes that the targets can take", how=_CLASSES, classes_only=True
)
CHANCE_LOSS = Quantity(
    "chance_loss",
    "loss of a model that ignores its inputs: ln K, or the target variance",
    unit="nat",
    how=_CLASSES,
)
VAL_LOSS = Quantity(
    "val_loss",
    "mean loss of the validation split, in eval mode",
    unit="nat",
    how="call watcher.log(val_loss=…) when you validate",
)
VAL_ACCURACY = Quantity(
    "val_accuracy",
    "share of the validation split classified correctly",
    how="call watcher.log(val_accuracy=…) when you validate",
    classes_only=True,
)
VAL_TOP5_ACCURACY = Quantity(
    "val_top5_accuracy", "share of the validation split with its class in the top five"
)
VAL_MAE = Quantity("val_mae", "mean absolute error on the validation split", unit="target")
VAL_R2 = Quantity("val_r2", "1 − residual / total sum of squares, validation split")
OPTIMIZERS = Quantity("optimizers", "number of optimizers that update the model", how=_STEP)
INSTRUMENT_FAILED = Quantity(
    "instrument_failed", "1 where a measurement broke; the place is 'name: why'", per="reason"
)
GRADIENT_RATIO = Quantity(
    "gradient_ratio", "‖∂loss/∂w‖ / ‖w‖ of each weight matrix", per="weight", how=_UPDATE
)
LEFTOVER_GRADIENT = Quantity(
    "leftover_gradient",
    "‖gradient‖ left over when the next backward pass begins",
    per="weight",
    how=_BACKWARD,
)
GRADIENT_PRESENT = Quantity(
    "gradient_present",
    "1 where a trainable weight had a gradient at the update, else 0",
    per="weight",
    how=_BACKWARD,
)
HELD = Quantity("held", "1 where an optimizer holds the trainable weight, else 0", per="weight")
MODULE_CALLED = Quantity(
    "module_called", "1 where the module ran in the training pass, else 0", per="module"
)
FROZEN_AT_RANDOM = Quantity(
    "frozen_at_random",
    "1 where a weight without updates looks initialised, 0 where trained",
    per="weight",
)
WEIGHTS = Quantity("weights", "number of the model's parameters")
STALE_WEIGHTS = Quantity("stale_weights", "tensors that the optimizers hold and the model does not")
TRAIN_MODE = Quantity(
    "train_mode",
    '1 where the module was in train mode in a training pass; place "" is the model',
    per="module",
    how=_MODES + _CALL,
)
VAL_MODE = Quantity(
    "val_mode",
    "1 where the module was in train mode in a pass without gradient",
    per="module",
    how=_MODES + "validate with the watched model, under no_grad",
)
LOSS_KIND = Quantity(
    "loss_kind", "1 at the name of the loss function, as the graph shows it", per="kind", how=_GRAPH
)
LOSS_INPUT = Quantity(
    "loss_input",
    "1 at the name of the operation that the loss function was applied to",
    per="kind",
    how=_GRAPH,
)
OUTPUT_ACTIVATION = Quantity(
    "output_activation", "1 at the name of the last operation of the model", per="kind", how=_CALL
)
SUMMED_LOSS = Quantity(
    "summed_loss", "1 where the loss is a sum over the samples, 0 where it is not", how=_GRAPH
)
BROADCAST_LOSS = Quantity(
    "broadcast_loss", "1 where outputs and targets of different shapes were expanded", how=_GRAPH
)
BATCH_SIZE = Quantity("batch_size", "samples in the training batch", how=_CALL)
OUTPUT_WIDTH = Quantity("output_width", "numbers that the model returns for one sample", how=_CALL)
OUTPUT_ROW_SUM_ERROR = Quantity(
    "output_row_sum_error",
    "largest |Σ − 1| over the rows of the output; infinite where one is negative",
)
OUTPUT_LOW = Quantity("output_low", "smallest output of the batch", how=_CALL)
OUTPUT_HIGH = Quantity("output_high", "largest output of the batch", how=_CALL)
TARGET_LOW = Quantity("target_low", "smallest target seen", how=_TARGETS)
TARGET_HIGH = Quantity("target_high", "largest target seen", how=_TARGETS)
TARGET_MEAN = Quantity("target_mean", "mean of the targets seen")
TARGET_STD = Quantity("target_std", "standard deviation of the targets seen", how=_TARGETS)
TARGET_DISTINCT = Quantity("target_distinct", "different values among the targets seen")
TARGET_INTEGER = Quantity("target_integer", "share of the targets that are whole numbers")
TARGET_ROW_SUM = Quantity(
    "target_row_sum", "mean sum of a target row, where rows have several columns"
)
TARGET_IS_INDEX = Quantity("target_is_index", "1 where the targets are of an integer type")
OUT_OF_REACH = Quantity(
    "out_of_reach", "share of the targets that the output's activation cannot give", how=_TARGETS
)
INPUT_STD = Quantity(
    "input_std",
    "std over samples of the first layer's input: lowest, median, highest feature",
    per="kind",
    how=_PROBE,
)
INPUT_OFFSET = Quantity(
    "input_offset", "|mean| / std of the median feature of the first layer's input", how=_PROBE
)
INPUT_NOT_FINITE = Quantity(
    "input_not_finite",
    "share of the input numbers that are NaN or infinite",
    how="pass train=, batches of floating-point inputs, to watch",
)
CLASS_RUN_Z = Quantity(
    "class_run_z",
    "classes that a batch lacks, in standard deviations of a shuffled order",
    how=_TRAIN,
    classes_only=True,
)
CLASS_COUNT = Quantity(
    "class_count",
    "training samples of the class, among those read",
    per="class",
    how=_TRAIN,
    classes_only=True,
)
CLASS_RECALL = Quantity(
    "class_recall",
    "share of the class's samples classified correctly",
    per="class",
    how=_TRAIN,
    classes_only=True,
)
LEAKED = Quantity(
    "leaked", "share of validation samples that are also training samples, bit for bit", how=_VAL
)
DUPLICATED = Quantity(
    "duplicated", "share of the training samples that occur more than once", how=_TRAIN
)
SHIFT = Quantity(
    "shift",
    "validation against training inputs: mean in std, log2 of the std ratio, AUC",
    per="kind",
    how=_VAL,
)
DEAD_UNITS = Quantity(
    "dead_units",
    "share of a ReLU's units that are zero on every sample of the probe",
    per="module",
    how=_PROBE,
)
SATURATED = Quantity(
    "saturated",
    "share of a sigmoid's or tanh's outputs with |slope| < 0.02",
    per="module",
    how=_PROBE,
)
ACTIVATION_STD = Quantity(
    "activation_std",
    "std of the output of each linear or convolution on the probe",
    per="module",
    how=_PROBE,
)
NONLINEARITIES = Quantity(
    "nonlinearities", "nonlinear operations between the first and the last weights", how=_PROBE
)
LAYERS = Quantity("layers", "linear layers that one forward pass goes through", how=_PROBE)
USELESS_BIAS = Quantity(
    "useless_bias",
    "1 where a bias is added right before a norm that subtracts the mean",
    per="module",
)
IDENTICAL_ROWS = Quantity(
    "identical_rows",
    "1 where all rows of a weight matrix are equal, 0 where not",
    per="weight",
    how=_MATRICES,
)
CONSTANT_WEIGHT = Quantity(
    "constant_weight",
    "|value| of a weight matrix whose entries are all equal, 0 where they differ",
    per="weight",
    how=_MATRICES,
)
NORM_SAMPLES = Quantity(
    "norm_samples", "numbers that a batch norm averages over for each channel", per="module"
)
TRAIN_MODE_LOSS = Quantity(
    "train_mode_loss",
    "loss of training samples with the model in train mode",
    unit="nat",
    how=_TRAIN,
)
EVAL_MODE_LOSS = Quantity(
    "eval_mode_loss", "loss of the same samples with the model in eval mode", unit="nat", how=_TRAIN
)
TRAIN_ACCURACY = Quantity(
    "train_accuracy",
    "share of training samples classified correctly, in eval mode",
    how=_TRAIN,
    classes_only=True,
)
MEASURED_VAL_ACCURACY = Quantity(
    "measured_val_accuracy",
    "share of validation samples classified correctly, as the watcher measured it",
    how=_VAL,
    classes_only=True,
)
VAL_SAMPLES = Quantity("val_samples", "validation samples that the watcher read", how=_VAL)
BASELINE_ACCURACY = Quantity(
    "baseline_accuracy",
    "out-of-fold accuracy of simple classifiers on the inputs, and of chance",
    per="kind",
    how=_TRAIN,
    classes_only=True,
)
SUSPECT_LABELS = Quantity(
    "suspect_labels",
    "share of training labels that confident neighbours contradict",
    how=_TRAIN,
    classes_only=True,
)
STEP_TIME = Quantity("step_time", "median seconds from one update to the next", unit="s")
DATA_WAIT = Quantity("data_wait", "median share of a step from one update to the next forward pass")
RELABELLED_VAL_ACCURACY = Quantity(
    "relabelled_val_accuracy",
    "validation accuracy after the best one-to-one renaming of classes",
    how=_VAL,
    classes_only=True,
)
WEIGHT_DECAY = Quantity(
    "weight_decay",
    "share of a weight that one step's decay removes: decay × learning rate",
    per="group",
)
SHARPNESS = Quantity(
    "sharpness", "largest eigenvalue of the loss's Hessian, on a sample", how=_SHARPNESS
)
SHARPNESS_RATIO = Quantity(
    "sharpness_ratio",
    "preconditioned sharpness / the largest that the learning rate is stable at",
    how=_SHARPNESS,
)
SADDLE_CURVATURE = Quantity(
    "saddle_curvature",
    "upper bound of a negative curvature on other samples; 0 without a saddle",
    how=_SHARPNESS,
)
ESCAPE_GAIN = Quantity(
    "escape_gain", "share of the loss that a step along negative curvature removes", how=_SHARPNESS
)

QUANTITIES = {one.name: one for one in list(globals().values()) if isinstance(one, Quantity)}


def quantity_called(name: str) -> Quantity:
    """The quantity of that name; one that is in no table is the user's own: a number of the run."""
    return QUANTITIES.get(name) or Quantity(name, "logged by the user")
