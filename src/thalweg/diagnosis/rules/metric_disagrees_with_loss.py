from math import sqrt

from thalweg.diagnosis.evidence import curve, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import MEASURED_VAL_ACCURACY, VAL_ACCURACY, VAL_SAMPLES


@rule(
    "metric-disagrees-with-loss",
    stage="output",
    needs=(VAL_ACCURACY, MEASURED_VAL_ACCURACY, VAL_SAMPLES),
)
def metric_disagrees_with_loss(history: History, *, apart: float = 0.1) -> Finding | None:
    """The logged accuracy is not the accuracy of the model.

    Why it matters: an argmax over the wrong axis, predictions shuffled against their targets, a
    mean of means over batches of unequal size, or a validation in the wrong mode: every decision
    then rests on a wrong number.

    Evidence: the last logged validation accuracy, and the accuracy of a copy of the model in eval
    mode on the same split.
    Threshold: 10 points and three standard errors (of 128 samples at most, since so few may have
    been evaluated) apart, measured after the same update as the accuracy was logged, and as far
    from every accuracy logged before: the best weights may have been restored.
    False alarms: a logged accuracy of other weights (an average), of another split, or in percent.
    Convicted by: counting by hand on one batch.
    Source: arithmetic.
    """
    logged, own = value(history, VAL_ACCURACY), value(history, MEASURED_VAL_ACCURACY)
    samples = value(history, VAL_SAMPLES)
    if not (samples >= 20 and 0 <= logged <= 1) or _apart_in_time(history):
        return None
    error = sqrt(max(own * (1 - own), 0.01) / min(samples, 128.0))
    earlier = curve(history, VAL_ACCURACY).values
    nearest = float(abs(earlier - own).min(initial=abs(logged - own)))
    if not min(abs(logged - own), 2 * nearest) > max(apart, 3 * error):
        return None
    return Finding(
        severity="warning",
        summary=f"logged validation accuracy is {logged:.1%}, but the model in eval mode gets "
        f"{own:.1%} of the same split right",
        evidence={"logged": logged, "measured": own},
        prescriptions=(
            Prescription(
                change="check the metric: argmax over the class dimension, predictions and targets "
                "in the same order, eval mode, sums divided by the number of samples",
                expect="both numbers agree",
            ),
        ),
    )


def _apart_in_time(history: History) -> bool:
    """Return whether updates came between the logged and the measured accuracy."""
    logged, own = history.series(VAL_ACCURACY), history.series(MEASURED_VAL_ACCURACY)
    return abs(max(logged, default=0) - max(own, default=0)) > 1
