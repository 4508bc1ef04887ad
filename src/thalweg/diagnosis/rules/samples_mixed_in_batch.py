from typing import NamedTuple

from thalweg.diagnosis.evidence import kind, number
from thalweg.diagnosis.rule import Finding, Prescription, Severity, rule
from thalweg.record import History
from thalweg.record.quantities import BATCH_MIXING, LOSS_KIND, MIXING_OPERATION

CLASS_LOSSES = ("cross_entropy", "nll", "nll_of_log", "nll_of_probability")


class Cause(NamedTuple):
    """The words for one kind of operation that mixes samples."""

    severity: Severity
    text: str
    change: str


SEQUENCE = Cause(
    "error",
    "{} takes the samples of the batch for the steps of a sequence",
    "pass batch_first=True to {place} (its inputs are [batch, time, features]), or give it "
    "inputs.transpose(0, 1)",
)
SEQUENCE_SECOND = Cause(
    "error",
    "{} takes the samples of the batch for the steps of a sequence",
    "{place} has batch_first=True and gets [time, batch, features]: leave batch_first out, or give "
    "it inputs.transpose(0, 1)",
)
SOFTMAX = Cause(
    "error",
    "{} normalises over the samples of the batch, not over the classes",
    "take the softmax over the classes: dim=-1 in place of dim=0",
)
RESHAPE = Cause(
    "error",
    "in {}, a view or reshape deals the numbers of one sample out to others",
    "swap dimensions with transpose or permute: view and reshape keep the order of the numbers",
)
STATISTIC = Cause(
    "warning",
    "{} uses a statistic of the whole batch",
    "compute the statistic over the features of each sample, or use a layer with running averages",
)
PLACE = Cause(
    "warning",
    "{} gives the same samples in reverse order other outputs: by their place in the batch",
    "what is added by place (a positional encoding) must run along the sequence: for inputs "
    "[batch, time, features] encoding[:, :time], not encoding[:batch]",
)
ORDER = Cause(
    "error",
    "{} gives its outputs in an order of its own, so that labels and losses meet other samples",
    "put the outputs back into the order of the samples: outputs[order.argsort()] after a sort by "
    "length; or pack_padded_sequence(..., enforce_sorted=False), which needs no sort",
)
CAUSES = {
    "own order": ORDER,
    "place in the batch": PLACE,
    "softmax": SOFTMAX,
    "sequence first": SEQUENCE,
    "sequence second": SEQUENCE_SECOND,
    "reshape": RESHAPE,
    "statistic": STATISTIC,
}
NOTES = ("product", "one sequence", "reshape of rows", "statistic of rows")


@rule(
    "samples-mixed-in-batch",
    stage="wiring",
    needs=(BATCH_MIXING,),
    explains=(
        "initial-loss-above-chance",
        "logits-squashed-twice",
        "loss-does-not-fit-task",
        "metric-disagrees-with-loss",
        "output-cannot-reach-targets",
        "labels-without-signal",
        "loss-not-falling",
        "loss-oscillates",
        "optimisation-failure",
        "overfitting",
        "stopped-too-early",
        "training-plateau",
        "underfitting",
    ),
)
def samples_mixed_in_batch(history: History, *, least: float = 0.02) -> Finding | None:
    """In eval mode a sample's output depends on the other samples of its batch.

    Why it matters: a prediction must not depend on who is predicted beside it. A softmax over
    dim=0, `batch_first` left out, or `view` in place of `transpose` all run without an error; the
    network learns from the wrong numbers, or hardly at all.

    Evidence: a copy in eval mode runs on some samples of a real batch, then again with others in
    place of the first ones: the outputs of those that stayed are compared. The first operation
    whose result differs for them is the place. The same samples in reverse order must have the
    same outputs, too.
    Threshold: at any reading, 2 % of the change of the replaced samples, where the same pass twice
    differs by rounding alone. Errors are a softmax over samples, a recurrent or attention layer
    that takes [batch, time, features] for [time, batch, features], a reshape across samples, and
    an encoding of places that runs along the batch.
    False alarms: none are known of the errors. Silent where dimension 0 is time and dimension 1
    the batch, where samples are the nodes of a graph or the steps of one sequence, for batch norm
    without running averages, for one scale of the whole batch (quantisation), and for experts of
    limited capacity; a model that compares the samples of its batch on purpose (attention between
    rows) is at most a note.
    Convicted by: the same sample alone and in its batch has two outputs.
    Source: PyTorch documentation, `batch_first` of nn.LSTM and nn.TransformerEncoderLayer;
    Lightning Bolts, "BatchGradientVerification".
    """
    share = max(
        history.series(BATCH_MIXING).values(), default=0.0
    )  # later a layer may forget sooner
    operation, _, place = kind(history, MIXING_OPERATION).partition(": ")
    if not share > least or not operation:
        return None
    cause = CAUSES.get(operation)
    where = place or "the model's own forward"
    if cause is None:
        return _note(where, share) if operation in NOTES else None
    unknown_loss = cause is SOFTMAX and kind(history, LOSS_KIND) not in CLASS_LOSSES
    return Finding(
        severity="warning" if unknown_loss else cause.severity,
        summary=f"samples of a batch influence each other's outputs: {cause.text.format(where)}",
        where=place,
        evidence={"change of untouched samples, as a share of the replaced ones'": share},
        prescriptions=(
            Prescription(
                change=cause.change.format(place=where),
                expect="a sample's output is the same alone and in any batch; the loss falls lower",
            ),
        ),
    )


def _note(where: str, share: float) -> Finding:
    return Finding(
        severity="note",
        summary=f"entries along the first dimension influence each other in {where} "
        f"(by {number(share)} of their own effect): right if they are one sequence or set, "
        "wrong if they are samples",
        where=where,
        evidence={"change of untouched entries, as a share of the replaced ones'": share},
        prescriptions=(
            Prescription(
                change="if they are samples, give each its own computation: a batch dimension that "
                "no layer takes for time",
                expect="a sample's output is the same alone and in any batch",
            ),
        ),
    )
