"""The part of a history before the first NaN: nothing measured after it is evidence of a cause.

Every unit of a network whose weights are NaN is dead, and no gradient arrives: consequences.
"""

from math import isfinite

from thalweg.record import History
from thalweg.record import quantities as q
from thalweg.record.quantities import LOSS, WEIGHT_NOT_FINITE

# Facts about the data, the loop and the run, which the weights do not change.
LASTING = frozenset(
    one.name
    for one in (
        q.NUM_CLASSES, q.CHANCE_LOSS, q.OPTIMIZERS, q.INSTRUMENT_FAILED, q.WEIGHTS, q.STALE_WEIGHTS,
        q.HELD, q.INPUT_NOT_FINITE, q.CLASS_COUNT, q.CLASS_RUN_Z, q.LEAKED, q.DUPLICATED, q.SHIFT,
        q.NEAR_COPIED, q.BASELINE_ACCURACY, q.SUSPECT_LABELS, q.VAL_SAMPLES, q.STEP_TIME,
        q.DATA_WAIT, q.EVAL_SHARE, q.LEARNING_RATE, q.TRAINED_BESIDE, q.MODE_DIFFERS,
        q.TRAIN_MODE, q.VAL_MODE,
        q.WEIGHT_NOT_FINITE, q.RISKY_OPERATION, q.ZERO_EPS, q.NAN_ORIGIN, q.BATCH_SIZE,
        q.LOSS_KIND, q.LOSS_INPUT, q.SUMMED_LOSS, q.BROADCAST_LOSS, q.OUTPUT_ACTIVATION,
        q.LOGITS_SQUASHED, q.DROPOUT, q.LABELS_SHUFFLED,
        q.OUTPUT_WIDTH, q.TARGET_LOW, q.TARGET_HIGH, q.TARGET_MEAN, q.TARGET_STD,
        q.TARGET_DISTINCT, q.TARGET_INTEGER, q.TARGET_ROW_SUM, q.TARGET_IS_INDEX, q.OUT_OF_REACH,
        q.INPUT_STD, q.INPUT_OFFSET, q.TARGETS_IGNORED, q.TARGET_IS_INPUT,
    )
)  # fmt: skip


def first_lasting_nan(history: History) -> int | None:
    """The step from which on the run is NaN or infinite; None if it recovers or never is.

    A batch whose loss is 0/0 changes no weight: the steps after it are evidence as any others.
    Weights that overflow in the forward pass are finite themselves: then the losses alone show it.
    """
    weights = [step for step, flag in history.series(WEIGHT_NOT_FINITE).items() if flag == 1]
    lasting: list[int] = []
    for step, loss in sorted(history.series(LOSS).items(), reverse=True):
        if isfinite(loss):
            break
        lasting.append(step)
    return min([*weights, *lasting], default=None)


def finite_part(history: History, end: int) -> History:
    """Keep what was measured before that step, or at the first one, and what no weight changes."""
    part = History()
    for quantity in history:
        for place, series in history.by_place(quantity).items():
            for step, value in series.items():
                if quantity.name in LASTING or step < max(1, end):
                    part.add(quantity, step, {place: value})
    return part
