from math import isfinite

import numpy as np

from thalweg.diagnosis.evidence import curve, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BATCH_SIZE, GRADIENT_RATIO, SUMMED_LOSS, UPDATE_RATIO

ALIKE = 4.0  # ratio of update and gradient between two weights: momentum changes it a little


@rule(
    "loss-summed-over-batch",
    stage="output",
    needs=(SUMMED_LOSS, BATCH_SIZE),
    explains=(
        "initial-loss-above-chance",
        "learning-rate-too-high",
        "exploding-gradients",
        "loss-oscillates",
        "dead-relu",
    ),
)
def loss_summed_over_batch(history: History) -> Finding | None:
    """The loss is the sum over the batch, so gradients grow with the number of samples in it.

    Why it matters: the learning rate then means something else for every batch size, the last,
    smaller batch of an epoch counts less, clipping and weight decay are out of proportion.

    Evidence: the last operation of the loss's graph.
    Threshold: exact: a sum, or `reduction="sum"`, of as many numbers as samples or more, with more
    than one sample in the batch. A sum of the mean losses of a few tasks is none. A note where the
    updates do not follow the size of the gradients, as with Adam: the rate means what it meant.
    False alarms: an evidence lower bound, summed by convention (as a sum of two terms it passes).
    Convicted by: the loss of a batch with every sample twice is twice as large.
    Source: Nikanjam et al. 2021, "TheDeepChecker" (loss growing with the batch size).
    """
    size = float(curve(history, BATCH_SIZE).values.max(initial=0))
    if value(history, SUMMED_LOSS) != 1 or size < 2:
        return None
    return Finding(
        severity="warning" if _follow_the_gradient(history) else "note",
        summary=f"the loss is a sum over {number(size)} samples, not their mean",
        evidence={"batch size": size},
        prescriptions=(
            Prescription(
                change='use reduction="mean", with the learning rate multiplied by the batch size '
                "if it was right before",
                expect=f"losses and gradients smaller by {number(size)}; the first loss at chance",
            ),
        ),
    )


def _follow_the_gradient(history: History) -> bool:
    """True if, at each reading, all weights moved by nearly the same multiple of their gradient.

    Also where it was not measured for two weights or more: then it is not known.
    """
    gradients, updates = history.by_place(GRADIENT_RATIO), history.by_place(UPDATE_RATIO)
    multiples: dict[int, list[float]] = {}
    for place in gradients.keys() & updates.keys():
        for step in gradients[place].keys() & updates[place].keys():
            gradient, update = gradients[place][step], updates[place][step]
            if gradient > 0 and update > 0 and isfinite(gradient) and isfinite(update):
                multiples.setdefault(step, []).append(update / gradient)
    spreads = [max(every) / min(every) for every in multiples.values() if len(every) > 1]
    return not spreads or float(np.median(spreads)) < ALIKE
