"""The weights that a run saved: of which epoch, chosen by what, and how sure that choice is."""

from collections.abc import Sequence
from math import isfinite

from thalweg.record.quantities import VAL_LOSS, quantity_called
from thalweg.report.facts import Facts, metric_name
from thalweg.report.score_interval import score_interval
from thalweg.wording import NARROW, count, figure

UNSURE = 0.05  # half the width of an interval from which on the choice is said to be unsure


def selection_text(facts: Facts) -> str:
    """Such as "weights of epoch 2 of 50 (best validation accuracy; ties by loss)"; "" if unknown.

    Where the validation split is small, the interval of its score and the number of other epochs
    within that interval.
    """
    selection = facts.meta.get("selection")
    if not selection or facts.has_no_updates:
        return ""
    validations = len(facts.history.series(VAL_LOSS))
    place, metric = _place(facts, selection["step"]), facts.validation_metric
    if not selection["by_score"] or not metric:
        return f"weights of {place}, the last"
    if validations < 2:
        return f"weights of {place}, the only one validated"
    reason = f"best {metric_name(metric)}; ties by loss"
    return f"weights of {place} ({reason})" + _doubt(facts, metric, validations)


def selection_in_short(facts: Facts) -> str:
    """Such as "weights of epoch 2 of 50"; "" if unknown."""
    return selection_text(facts).partition(" (")[0].partition(", the ")[0]


def selected_step(facts: Facts) -> int:
    """The step after which the saved weights stood; -1 where none is to be marked."""
    selection = facts.meta.get("selection") or {}
    return int(selection["step"]) - 1 if selection.get("by_score") else -1


def stages(facts: Facts) -> list[tuple[int, int]]:
    """(first step, side in pixels) of each stage of progressive resizing, the last one included."""
    resizing = facts.meta.get("resizing") or ()
    if not resizing:
        return []
    starts = [0, *(end for _, end in resizing)]
    sides = [
        *(side for side, _ in resizing),
        max((facts.meta.get("input_shape") or [0])[1:] or [0]),
    ]
    last = int(facts.meta.get("steps") or 0)
    pairs = zip(starts, sides, strict=True)
    return [(start, side) for start, side in pairs if side and start < max(last, 1)]


def stages_text(facts: Facts) -> str:
    """The sizes of the training images by epochs, and of the validation's; "" for one size."""
    changes = stages(facts)
    if len(changes) < 2:
        return ""
    ends = [start for start, _ in changes[1:]]
    parts = [
        f"{side}{NARROW}px to {_time(facts, end)}"
        for (_, side), end in zip(changes, ends, strict=False)
    ]
    final = f"{changes[-1][1]}{NARROW}px"
    return f"{', '.join(parts)}, then {final}; every validation at {final}"


def _place(facts: Facts, step: int) -> str:
    if not step:
        return "the fitted head, before the first epoch"
    per_epoch, epochs = facts.epoch_steps, int(facts.meta.get("epochs") or 0)
    if not per_epoch or step % per_epoch or not epochs:
        return f"step {count(step)} of {count(int(facts.meta.get('steps') or step))}"
    return f"epoch {count(step // per_epoch)} of {count(epochs)}"


def _time(facts: Facts, step: int) -> str:
    if not facts.epoch_steps:
        return f"step {count(step)}"
    epoch = step / facts.epoch_steps
    return f"epoch {count(epoch) if epoch == int(epoch) else figure(epoch, 2)}"


def _doubt(facts: Facts, metric: str, validations: int) -> str:
    interval = score_interval(facts, metric)
    if interval is None or interval.high - interval.low < 2 * UNSURE:
        return ""
    scores = [s for s in facts.history.series(quantity_called(metric)).values() if isfinite(s)]
    rivals = _within(scores, interval.low) - 1
    if rivals < 1:
        return f"; {interval}"
    others = count(validations - 1, "other validation")
    return f"; {interval}: {count(rivals)} of {others} are within it"


def _within(scores: Sequence[float], low: float) -> int:
    return sum(score >= low for score in scores)
