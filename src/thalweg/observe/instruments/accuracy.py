from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import ACCURACY


@instrument(ACCURACY, when="loss")
def accuracy(moment: Moment) -> Measurements:
    """Share of the last batch whose largest logit is the target's, before the update.

    Not applicable unless targets are class indices, one for each row of the logits.
    """
    logits, targets = moment.logits, moment.targets
    if logits is None or targets is None or targets.is_floating_point() or logits.ndim < 2:
        return {}
    if targets.shape != (logits.shape[0], *logits.shape[2:]) or logits.shape[1] < 2:
        return {}
    inside = (targets >= 0) & (targets < logits.shape[1])  # the others are ignored
    right = (logits.argmax(1) == targets) & inside
    return {"": right.sum() / inside.sum()}
