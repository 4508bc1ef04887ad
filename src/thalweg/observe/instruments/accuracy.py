from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.targets_from_gradient import ENTROPY_KINDS
from thalweg.record.quantities import ACCURACY


@instrument(ACCURACY, when="loss")
def accuracy(moment: Moment) -> Measurements:
    """Share of the last batch whose largest logit is the target's, before the update.

    Not applicable unless targets are class indices, one for each row of the logits; nor to a loss
    of numbers that does not compare them: an autoencoder's loader gives classes, too.
    """
    if _compares_numbers(moment):
        return {}
    logits, targets = moment.logits, moment.targets
    if logits is None or targets is None or targets.is_floating_point() or logits.ndim < 2:
        return {}
    if targets.shape != (logits.shape[0], *logits.shape[2:]) or logits.shape[1] < 2:
        return {}
    inside = (targets >= 0) & (targets < logits.shape[1])  # the others are ignored
    right = (logits.argmax(1) == targets) & inside
    return {"": right.sum() / inside.sum()}


def _compares_numbers(moment: Moment) -> bool:
    """True for a loss that is known, is none of classes, and was not seen to compare the labels."""
    if moment.graph is None or moment.graph.kind in ("", *ENTROPY_KINDS):
        return False
    if moment.recovers_targets:
        return moment.comparison.labels_agree is not True
    return moment.labels_compared is not True
