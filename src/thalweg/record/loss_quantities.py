"""Quantities of a loss: weights of its classes, those left out, gradients that do not add up.

And the return of an agent, which a loss is to raise.
"""

from thalweg.record.quantity import Quantity

__all__ = [
    "CLASS_IN_BATCH",
    "CLASS_WEIGHT",
    "CLEARED_PASSES",
    "IGNORED_CLASS",
    "LABELS_SHUFFLED",
    "LABEL_SMOOTHING",
    "LOGITS_SQUASHED",
    "REDUCED_BATCH",
    "RETURN",
    "TRUE_LABELS",
]

LABEL_SMOOTHING = Quantity("label_smoothing", "share of a target that all classes share")
LOGITS_SQUASHED = Quantity(
    "logits_squashed",
    "1 where what a loss takes as logits comes from a softmax, sigmoid, tanh or ReLU, 0 where not",
    how="only for losses whose input shows in the graph: pass the loss tensor itself to "
    "watcher.step",
)
LABELS_SHUFFLED = Quantity(
    "labels_shuffled",
    "share of a batch's samples that the loss compares with the label of another sample",
    how="only for class numbers that a loader gives beside the model's inputs, one a sample",
)
CLASS_WEIGHT = Quantity(
    "class_weight", "weight of the class in the loss", per="class", how="only for cross-entropies"
)
CLASS_IN_BATCH = Quantity("class_in_batch", "targets of the class beside its weight", per="class")
IGNORED_CLASS = Quantity(
    "ignored_class",
    "share of the targets that are left out as those of this class",
    per="class",
    how="only for a cross-entropy whose ignore_index is a class number",
)
TRUE_LABELS = Quantity(
    "true_labels",
    "labels that hold at once in a row of a cross-entropy's targets; 0: not zeros and ones",
    how="only for a plain cross-entropy: call the watched model itself (model(inputs))",
)
CLEARED_PASSES = Quantity(
    "cleared_passes",
    "share of an update's later backward passes that met no gradient of the earlier ones",
    how="only for loops that accumulate gradients over several batches",
)
RETURN = Quantity(
    "return",
    "what an agent's episode pays, as the user logs it",
    per="kind",
    how="only for agents: watcher.log(mean_return=...) after each evaluation, or mean_reward",
)
REDUCED_BATCH = Quantity(
    "reduced_batch",
    "1 at the name of a sigmoid in the loss that gets a sum over the batch, or at none",
    per="kind",
    how="pass the loss tensor itself, with its graph, to watcher.step",
)
