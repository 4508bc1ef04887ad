"""What has to be passed in for a quantity to be measured: what "not checked" tells the user."""

from thalweg.diagnosis.evidence import kind, value
from thalweg.record import History, Quantity
from thalweg.record.quantities import LOSS_KIND, TARGET_IS_INDEX

STEP = "call watcher.step(loss) after each update"
CALL = "call the watched model itself (model(inputs)) in the training loop"
TARGETS = "pass batch=(inputs, targets) to watcher.step"
TRAIN = "pass train=, an iterable of (inputs, targets) batches with class targets, to watch"
VAL = "pass val=, an iterable of (inputs, targets) batches, to watch"
CLASSES = "pass num_classes= to watch"
PROBE = "pass train= to watch, or call the watched model itself, so that a copy can be probed"
SHARPNESS = (
    "not measured unless asked for: pass sharpness=True, train= and loss_fn= to watch, or "
    "--watch.sharpness to thalweg train"
)

HOW = {
    "loss": STEP,
    "learning_rate": STEP,
    "optimizers": STEP,
    "gradient_norm": "let the watched optimizer's step() run",
    "gradient_ratio": "let the watched optimizer's step() run",
    "update_ratio": "let the watched optimizer's step() run",
    "leftover_gradient": "call backward() between two updates",
    "gradient_present": "call backward() between two updates",
    "accuracy": TARGETS,
    "target_std": TARGETS,
    "target_low": TARGETS,
    "target_high": TARGETS,
    "out_of_reach": TARGETS,
    "num_classes": CLASSES,
    "chance_loss": CLASSES,
    "loss_kind": "pass the loss tensor itself, with its graph, to watcher.step",
    "loss_input": "pass the loss tensor itself, with its graph, to watcher.step",
    "summed_loss": "pass the loss tensor itself, with its graph, to watcher.step",
    "broadcast_loss": "pass the loss tensor itself, with its graph, to watcher.step",
    "batch_size": CALL,
    "output_width": CALL,
    "output_low": CALL,
    "output_high": CALL,
    "output_activation": CALL,
    "train_mode": "only for models with dropout or batch norm: " + CALL,
    "val_mode": "only for models with dropout or batch norm: validate with the watched model, "
    "under no_grad",
    "layers": PROBE,
    "nonlinearities": PROBE,
    "dead_units": PROBE,
    "saturated": PROBE,
    "activation_std": PROBE,
    "input_std": PROBE,
    "input_offset": PROBE,
    "identical_rows": "only for models with weight matrices",
    "constant_weight": "only for models with weight matrices",
    "class_count": TRAIN,
    "class_run_z": TRAIN,
    "baseline_accuracy": TRAIN,
    "suspect_labels": TRAIN,
    "train_accuracy": TRAIN,
    "train_mode_loss": TRAIN,
    "eval_mode_loss": TRAIN,
    "class_recall": TRAIN,
    "input_not_finite": "pass train=, batches of floating-point inputs, to watch",
    "duplicated": TRAIN,
    "leaked": VAL,
    "shift": VAL,
    "val_samples": VAL,
    "measured_val_accuracy": VAL,
    "relabelled_val_accuracy": VAL,
    "sharpness": SHARPNESS,
    "sharpness_ratio": SHARPNESS,
    "saddle_curvature": SHARPNESS,
    "escape_gain": SHARPNESS,
    "val_loss": "call watcher.log(val_loss=…) when you validate",
    "val_accuracy": "call watcher.log(val_accuracy=…) when you validate",
}


CLASSES_ONLY = (
    "num_classes",
    "accuracy",
    "val_accuracy",
    "class_count",
    "class_run_z",
    "class_recall",
    "baseline_accuracy",
    "suspect_labels",
    "train_accuracy",
    "measured_val_accuracy",
    "relabelled_val_accuracy",
)


def how_to_measure(quantity: Quantity, history: History) -> str:
    """One sentence: what to pass in, or that no measurement of it was recorded."""
    if quantity.name in CLASSES_ONLY and _regresses(history):
        return "only for targets that are class numbers"
    return HOW.get(quantity.name, f"not measured: {quantity.name}")


def _regresses(history: History) -> bool:
    """Whether the targets are known to be real numbers, or several yes-or-no labels."""
    real = TARGET_IS_INDEX in history and value(history, TARGET_IS_INDEX) == 0
    return real or kind(history, LOSS_KIND) in ("mse", "l1", "smooth_l1")
