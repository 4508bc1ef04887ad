"""Quantities of the model: its layers, its norms, and its copies, as probes of it show them."""

from thalweg.record.quantity import Quantity

__all__ = [
    "ACTIVATION_STD",
    "BATCH_MIXING",
    "CHANGED_BESIDE",
    "CONSTANT_WEIGHT",
    "COPY_DISCOUNT",
    "COPY_MOVED",
    "COPY_STATISTICS",
    "DEAD_UNITS",
    "DROPOUT",
    "EVAL_NOISE",
    "IDENTICAL_ROWS",
    "LAYERS",
    "MIXING_OPERATION",
    "MODE_GAP",
    "NONLINEARITIES",
    "NORM_AT_START",
    "NORM_BATCHES",
    "NORM_GAP",
    "NORM_MOMENTUM",
    "NORM_NOISE",
    "NORM_SAMPLES",
    "OUTPUT_SPREAD",
    "OWN_NORM_GAP",
    "OWN_NORM_STORES",
    "RANDOM_OPERATION",
    "RECONSTRUCTED",
    "RESTORED_ITSELF",
    "SAME_STATE_DISCOUNT",
    "SATURATED",
    "SCALE_INVARIANT",
    "USELESS_BIAS",
]

_PROBE = "pass train= to watch, or call the watched model itself, so that a copy can be probed"
_MATRICES = "only for models with weight matrices"
DROPOUT = Quantity(
    "dropout",
    "share of its inputs that the dropout module zeroes in a training pass",
    per="module",
    how="only for models with dropout modules: call the watched model itself (model(inputs))",
)
SCALE_INVARIANT = Quantity(
    "scale_invariant",
    "1 where every optimizer divides the gradient by its own size, as Adam does, else 0",
    how="let the watched optimizer's step() run",
)
_CALL = "call the watched model itself (model(inputs)) in the training loop"
_OWN = "only for layers of your own that normalise by the batch in train mode: " + _CALL
_NORMS = "only for models with batch norm: " + _CALL
_SAMPLES = _CALL + " with batches of two samples or more along the first dimension"

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
NORM_MOMENTUM = Quantity(
    "norm_momentum",
    "share of the newest batch in a batch norm's running statistics; 0 for a plain mean",
    per="module",
    how=_NORMS,
)
NORM_BATCHES = Quantity(
    "norm_batches", "batches that a batch norm's running statistics have seen", per="module"
)
NORM_AT_START = Quantity(
    "norm_at_start",
    "1 where running statistics are still mean 0 and variance 1",
    per="module",
    how=_NORMS,
)
NORM_GAP = Quantity(
    "norm_gap",
    "|running mean − mean of a real batch| in its stds, of the median channel",
    per="module",
    how=_NORMS,
)
NORM_NOISE = Quantity(
    "norm_noise", "standard error of a batch's mean in its stds, median channel", per="module"
)
MODE_GAP = Quantity(
    "mode_gap",
    "difference of outputs with running statistics and with a batch's own, in their spread",
    how=_NORMS,
)
OWN_NORM_GAP = Quantity(
    "own_norm_gap", "difference of an own norm's outputs in both modes", per="module", how=_OWN
)
OWN_NORM_STORES = Quantity(
    "own_norm_stores", "1 where a pass in train mode changes its statistics", per="module"
)
BATCH_MIXING = Quantity(
    "batch_mixing",
    "change of samples' outputs in eval mode when other samples change, as a share of theirs",
    how=_SAMPLES,
)
MIXING_OPERATION = Quantity(
    "mixing_operation",
    "1 at 'kind: module' of the first operation at which samples influence each other",
    per="kind",
)
EVAL_NOISE = Quantity(
    "eval_noise",
    "largest difference of two eval passes on the same samples, in stds of the outputs",
    how=_SAMPLES,
)
RANDOM_OPERATION = Quantity(
    "random_operation", "1 at 'operation module' that draws random numbers in eval mode", per="kind"
)
OUTPUT_SPREAD = Quantity(
    "output_spread",
    "spread over samples / size: of outputs, of inputs that are the targets, by way of latents",
    per="kind",
    how=_SAMPLES,
)
RECONSTRUCTED = Quantity(
    "reconstructed", "lowest and highest input, where the inputs are the loss's targets", per="kind"
)
CHANGED_BESIDE = Quantity(
    "changed_beside",
    "1 where a trainable weight that no optimizer holds changed while training, else 0",
    per="weight",
)
RESTORED_ITSELF = Quantity(
    "restored_itself",
    "1 where load_state_dict was given the model's own weights, 0 where others",
    how="only where the model's load_state_dict is called after an update",
)
_COPIES = (
    "only where a copy of the model, or of a part of it, runs in the training loop, as a target "
    "network does"
)
COPY_MOVED = Quantity(
    "copy_moved",
    "1 where a copy's weights changed since it was first called, 0 where those of the model alone",
    per="module",
    how=_COPIES,
)
COPY_DISCOUNT = Quantity(
    "copy_discount",
    "slope of the loss's targets in the outputs of a copy on other inputs; 0 where it is not clear",
    per="module",
)
SAME_STATE_DISCOUNT = Quantity(
    "same_state_discount",
    "slope of the loss's targets in values of the same inputs; 0 where it is not clear",
    how="only for a regression of one of several outputs a sample, as of an action's value",
)
COPY_STATISTICS = Quantity(
    "copy_statistics",
    "1 where the batch norms' statistics of a copy in eval mode changed with its weights, else 0",
    per="module",
    how=_COPIES + ", and has batch norm",
)
