from thalweg.diagnosis.evidence import latest, number
from thalweg.diagnosis.rule import Finding, Prescription, Severity, rule
from thalweg.record import History
from thalweg.record.quantities import SAMPLES_DRAWN


@rule(
    "samples-never-drawn",
    stage="data",
    needs=(SAMPLES_DRAWN,),
    explains=(
        "overfitting",
        "train-val-shift",
        "metric-disagrees-with-loss",
        "class-imbalance",
        "labels-without-signal",
        "label-encoding-differs",
        "learning-rate-too-high",
        "unshuffled-batches",
        "stopped-too-early",
    ),
)
def samples_never_drawn(
    history: History, *, share: float = 0.5, copies: float = 0.5, few: float = 64.0
) -> Finding | None:
    """Training draws the same few samples again and again; the others are never seen.

    Why it matters: the model learns these samples by heart, the loss falls to zero, and validation
    stays poor, as if it were overfitting. Most often WeightedRandomSampler was given one weight for
    each class in place of one for each sample, or `__getitem__` wraps or ignores its index.

    Evidence: the weights of the loader's sampler against the size of its data set; where no loader
    is known, hashes of the inputs: copies within one batch, which a shuffled order never makes, and
    distinct samples among all that were read.
    Threshold: exact: fewer weights than samples, or less than half of the samples with a weight; or
    half of the samples of a batch copies of others in it, with at most 64 distinct ones, and one
    in eight, among 128 or more.
    False alarms: a data set that really consists of a few rows, each many times; a sampler that
    leaves most samples out on purpose (a note, as long as each sample has a weight).
    Convicted by: with shuffle=True in place of the sampler, validation improves.
    Source: PyTorch documentation, "WeightedRandomSampler": weights are "a sequence of weights, not
    necessary summing up to one", one for each index.
    """
    drawn = latest(history, SAMPLES_DRAWN)
    samples, weights = drawn.get("samples", 0.0), drawn.get("weights", 0.0)
    if 0 < weights < samples:
        summary = (
            f"the sampler has {number(weights)} weights for {number(samples)} samples: only the "
            f"first {number(weights)} samples are ever drawn"
        )
        return _finding(summary, "error", drawn)
    if samples and drawn.get("drawable", samples) < share * samples:
        summary = f"{number(samples - drawn['drawable'])} of {number(samples)} samples have the "
        return _finding(summary + "weight 0 in the sampler, and are never drawn", "note", drawn)
    repeats, distinct = drawn.get("copies within batches", 0.0), drawn.get("distinct", 0.0)
    rows = drawn.get("rows", 0.0)
    if repeats >= copies and 0 < distinct <= min(few, rows / 8):
        summary = (
            f"{number(rows)} training samples are {number(distinct)} different ones: "
            f"{repeats:.0%} are copies of another in the same batch"
        )
        return _finding(summary, "warning", drawn)
    return None


def _finding(summary: str, severity: Severity, drawn: dict[str, float]) -> Finding:
    return Finding(
        severity=severity,
        summary=summary,
        evidence={name: drawn[name] for name in sorted(drawn)[:4]},
        prescriptions=(
            Prescription(
                change="give the sampler one weight for each sample: class_weights[labels]; check "
                "that __getitem__ uses its index; or use shuffle=True",
                expect="an epoch draws most samples once, and validation follows training",
            ),
        ),
    )
