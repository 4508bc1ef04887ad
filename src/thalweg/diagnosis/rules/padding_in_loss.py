from thalweg.diagnosis.evidence import curve, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import PADDING


@rule(
    "padding-in-loss",
    stage="data",
    needs=(PADDING,),
    explains=(
        "stopped-too-early",
        "training-plateau",
        "underfitting",
        "learning-rate-too-low",
        "loss-not-falling",
        "metric-disagrees-with-loss",
        "initialisation-scale",
        "train-val-leakage",
    ),
)
def padding_in_loss(history: History, *, share: float = 0.3, least: float = 0.05) -> Finding | None:
    """The loss counts the padding behind short sequences as if it were to be predicted.

    Why it matters: padding is learned in a few steps, and from then on it only dilutes: loss and
    accuracy look excellent, gradients of the real tokens shrink by the share of padding, and
    batches of short sequences weigh less than those of long ones.

    Evidence: one token fills the tails of the rows of inputs and occurs nowhere else; at these
    positions the gradient at the logits shows targets that the loss counts.
    Threshold: the positions are exact; a warning from 30 % of the counted targets on, a note from
    5 % on, since little padding does little harm.
    False alarms: rows that end in a constant on purpose, of a token that stands nowhere else.
    Convicted by: with these targets ignored the loss is that of the real tokens, and higher.
    Source: PyTorch documentation, "CrossEntropyLoss" (`ignore_index`).
    """
    targets = curve(history, PADDING, "targets").values
    if not len(targets) or not float(targets.mean()) >= least:
        return None
    mean, token = float(targets.mean()), value(history, PADDING, "token")
    of_loss = curve(history, PADDING, "loss").values
    evidence = {"share of targets": mean, "token": token}
    if len(of_loss):
        evidence["share of the loss, last"] = float(of_loss[-1])
    return Finding(
        severity="warning" if mean >= share else "note",
        summary=f"{mean:.0%} of the targets that the loss counts are padding (token "
        f"{number(token)} in the tails of the rows)",
        evidence=evidence,
        prescriptions=(
            Prescription(
                change=f"ignore them: cross_entropy(…, ignore_index={token:.0f}), or set these "
                "labels to −100; leave them out of accuracy and perplexity as well",
                expect="a higher, honest loss that is the mean over real tokens",
            ),
        ),
    )
