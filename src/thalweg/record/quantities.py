"""The vocabulary of measurement: everything an instrument may record and a rule may read."""

from thalweg.record.loss_quantities import *  # noqa: F403 (they are of this vocabulary)
from thalweg.record.model_quantities import *  # noqa: F403
from thalweg.record.quantity import Quantity
from thalweg.record.rank_quantities import *  # noqa: F403

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
_TOKENS = "only for models that give a class a token, called with the tokens in the training loop"
_SAME = "only where the loss compares tokens with the inputs of the same place"
_MODES = "only for models with dropout or batch norm: "
_SHARPNESS = "not measured unless asked for: pass sharpness=True, train= and loss_fn= to watch"
_SHARPNESS_OPTION = "not measured unless asked for: --watch.sharpness"

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
    "update_ratio",
    "‖w_after − w_before‖ / ‖w_before‖; of a large model at evenly spaced entries",
    per="weight",
    how=_UPDATE,
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
OPTIMIZERS = Quantity(
    "optimizers", "optimizers of the model and of those that are trained by turns", how=_STEP
)
WATCHED_BY = Quantity(
    "watched_by",
    '1 at "trainer" (thalweg\'s own), "script" (thalweg run) or "callback" (a library\'s); nothing '
    "for a loop of the user",
    per="kind",
)
INSTRUMENT_FAILED = Quantity(
    "instrument_failed", "1 where a measurement broke; the place is 'name: why'", per="reason"
)
NOT_MEASURED = Quantity(
    "not_measured",
    "1 where a measurement does not apply to the model; the place is 'name: why'",
    per="reason",
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
GRADIENT_AT_UPDATE = Quantity(
    "gradient_at_update",
    "1 where a weight had a gradient other than zero at the optimizer's update, else 0",
    per="weight",
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
LOSS_ARGUMENT = Quantity(
    "loss_argument", "1 at each function of the loss and its argument", per="kind", how=_GRAPH
)
OUTPUT_ACTIVATION = Quantity(
    "output_activation", "1 at the name of the last operation of the model", per="kind", how=_CALL
)
SUMMED_LOSS = Quantity(
    "summed_loss", "1 where the loss is a sum over the samples, 0 where it is not", how=_GRAPH
)
BARE_LOSS = Quantity(
    "bare_loss", "1 where the loss is the mean or the sum of one loss function alone", how=_GRAPH
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
TARGETS_COMPARED = Quantity(
    "targets_compared",
    "1 where labels reproduce the loss that was seen, 0 where it compares something else",
    per="kind",
    how=_TARGETS,
)
TARGETS_IGNORED = Quantity(
    "targets_ignored",
    "share of the targets, of the samples and of the batches that the loss leaves out",
    per="kind",
    how="only for cross-entropy: " + _CALL,
)
CLASSES_CUT = Quantity(
    "classes_cut",
    "1 where the scores are reshaped across their class dimension before the softmax",
    how="only for a cross-entropy of rows of scores: " + _GRAPH,
)
MASK_INVERTED = Quantity(
    "mask_inverted",
    "1 where an attention layer's padding mask hides the content and shows the padding",
    per="module",
    how="only for PyTorch's attention layers, called with padded tokens and their mask",
)
TARGET_AMONG_INPUTS = Quantity(
    "target_among_inputs",
    "1 where one of the inputs gives the target of each sample, up to scale and offset",
    how="only for a few real-valued targets a sample, beside floating-point inputs: " + _TARGETS,
)
PADDING = Quantity(
    "padding",
    "share of the counted targets, of the inputs and of the loss at padding; its token number",
    per="kind",
    how="only for a target at each token of padded sequences",
)
END_IGNORED = Quantity(
    "end_ignored",
    "share of padded sequences whose end is no target; tokens that end the longest one",
    per="kind",
    how="only for the next-token loss of padded sequences",
)
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
INPUT_SCALE = Quantity(
    "input_scale",
    "std, mean and largest |value| of the numbers that the model is called with, in training and "
    "in validation",
    per="kind",
    how=_CALL,
)
SAMPLES_DRAWN = Quantity(
    "samples_drawn",
    "samples of the data set, weights of its sampler, distinct ones and copies among those read",
    per="kind",
    how="pass train=, a DataLoader, to watch",
)
VAL_CHANGES = Quantity(
    "val_changes",
    "difference of validation inputs that are read twice, in their std",
    how="pass val=, a DataLoader in a fixed order, to watch",
)
FLIPPED_PICTURES = Quantity(
    "flipped_pictures",
    "training samples whose picture was flipped or turned between two readings, and of how many "
    "the target followed or stayed",
    per="kind",
    how="pass train=, a DataLoader that flips pictures, and that has masks or places as targets, "
    "to watch",
)
INPUT_NOT_FINITE = Quantity(
    "input_not_finite",
    "share of the input numbers that are not finite",
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
NEAR_COPIED = Quantity(
    "near_copied",
    "share of validation samples that are near copies of training samples, no exact ones",
    how="train with thalweg, on images of at least 24 px",
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
RENAMING_CHANCE = Quantity(
    "renaming_chance",
    "bound of the chance that any renaming fits predictions that know nothing of the classes so "
    "well",
    how=_VAL,
    classes_only=True,
)
WEIGHT_DECAY = Quantity(
    "weight_decay",
    "share of a weight that one step's decay removes: decay × learning rate",
    per="group",
)
SHARPNESS = Quantity(
    "sharpness",
    "largest eigenvalue of the loss's Hessian, on a sample",
    how=_SHARPNESS,
    how_in_trainer=_SHARPNESS_OPTION,
)
SHARPNESS_RATIO = Quantity(
    "sharpness_ratio",
    "preconditioned sharpness / the largest that the learning rate is stable at",
    how=_SHARPNESS,
    how_in_trainer=_SHARPNESS_OPTION,
)
SADDLE_CURVATURE = Quantity(
    "saddle_curvature",
    "upper bound of a negative curvature on other samples; 0 without a saddle",
    how=_SHARPNESS,
    how_in_trainer=_SHARPNESS_OPTION,
)
ESCAPE_GAIN = Quantity(
    "escape_gain",
    "share of the loss that a step along negative curvature removes",
    how=_SHARPNESS,
    how_in_trainer=_SHARPNESS_OPTION,
)
EVAL_SHARE = Quantity(
    "eval_share",
    'share of the updates at which the module was in eval mode; place "" is the model',
    per="module",
    how=_MODES + _STEP,
)
TRAINED_BESIDE = Quantity(
    "trained_beside",
    "1 where the module's weights, or those of the module around it, are trained",
    per="module",
)
INITIAL_STATISTICS = Quantity(
    "initial_statistics", "1 where a batch norm's statistics are those of a new one", per="module"
)
MODE_DIFFERS = Quantity(
    "mode_differs", "1 where the model's mode in the forward pass was another one than at step()"
)
WEIGHT_NOT_FINITE = Quantity(
    "weight_not_finite", "1 at the first update after which a weight was not finite", how=_STEP
)
TARGET_IS_INPUT = Quantity(
    "target_is_input",
    "share of the target tokens that equal the input so many places further on",
    per="kind",
    how=_TOKENS,
)
VISIBLE_TOKENS = Quantity(
    "visible_tokens",
    "change of outputs when later tokens, or that of the same place, change",
    per="kind",
    how=_TOKENS,
)
COUNTED_TOKENS = Quantity(
    "counted_tokens", "facts of places that the loss counts or leaves out", per="kind", how=_SAME
)
GRAPH_LEAVES = Quantity(
    "graph_leaves", "weights and other leaves that the loss's graph ends in", how=_GRAPH
)
HIDDEN_WEIGHT = Quantity(
    "hidden_weight",
    "a leaf in a list or attribute of the model, not registered: 1 where it looks initialised",
    per="weight",
)
RENEWED_WEIGHT = Quantity(
    "renewed_weight", "entries of a weight that only this pass's graph holds", per="weight"
)
FOREIGN_WEIGHT = Quantity(
    "foreign_weight",
    "a leaf of another module that no optimizer holds: 1 where it looks initialised",
    per="weight",
)
RISKY_OPERATION = Quantity(
    "risky_operation",
    "1 at an operation of the graph that can cease to be finite: its kind and name",
    per="kind",
    how=_GRAPH,
)
BEHIND_STEP = Quantity(
    "behind_step",
    "1 for a weight that the loss's graph reaches through round, sign or floor alone",
    per="weight",
    how=_GRAPH,
)
STEP_FUNCTION = Quantity(
    "step_function", "1 at a function of the graph whose slope is zero", per="kind"
)
ZERO_EPS = Quantity(
    "zero_eps",
    "half-precision weights in whose type the optimizer's eps is rounded to 0",
    how="only for optimizers with an eps",
)
NAN_ORIGIN = Quantity(
    "nan_origin",
    "share of rows without a number after the operation that makes the first; its module and name",
    per="kind",
    how=_CALL,
)
IDENTICAL_PASSES = Quantity(
    "identical_passes",
    "1 where two forward passes that the loss compares have bit for bit the same outputs",
    how="only for losses that compare several passes of the watched model in one step",
)
FORWARD_PASSES = Quantity(
    "forward_passes", "passes of the model with gradient from one update to the next", how=_CALL
)
BACKWARD_PASSES = Quantity(
    "backward_passes", "backward passes whose gradients one update adds up", how=_BACKWARD
)
UPDATES = Quantity("updates", "1 where a watched optimizer was called between two calls of step()")
GRADIENT_SCALE = Quantity(
    "gradient_scale",
    "gradient at the model's output, as a multiple of that of the mean loss of its batch",
    how=_GRAPH,
)
CALLED_WITH_GRADIENT = Quantity(
    "called_with_gradient",
    "1 where a module that ran in a training pass recorded gradient, 0 where it was switched off",
    per="module",
)
SCALER_SCALE = Quantity(
    "scaler_scale", "factor of the loss of a torch.amp.GradScaler; 1 without any"
)
SCHEDULER_CALLS = Quantity(
    "scheduler_calls",
    "calls of a scheduler's step(), by its class",
    per="kind",
    how="only where a scheduler of torch.optim.lr_scheduler drives the watched optimizer",
)
SCHEDULER_HORIZON = Quantity(
    "scheduler_horizon", "calls after which a scheduler has run through its schedule", per="kind"
)
SCHEDULER_MILESTONE = Quantity("scheduler_milestone", "calls to the last step down", per="kind")
SCHEDULER_WARMUP = Quantity("scheduler_warmup", "calls that a warm-up takes", per="kind")
RATES_FLATTENED = Quantity(
    "rates_flattened", "ratio of own rates that no step used", per="kind", how="only for groups"
)
PLATEAU_BEST = Quantity(
    "plateau_best",
    "best value that ReduceLROnPlateau was given, by its mode: min or max",
    per="kind",
    how="only where torch.optim.lr_scheduler.ReduceLROnPlateau drives the watched optimizer",
)

QUANTITIES = {one.name: one for one in list(globals().values()) if isinstance(one, Quantity)}


def quantity_called(name: str) -> Quantity:
    """The quantity of that name; one that is in no table is the user's own: a number of the run."""
    return QUANTITIES.get(name) or Quantity(name, "logged by the user")
