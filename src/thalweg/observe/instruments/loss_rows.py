from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.loss_graph import views_before_softmax
from thalweg.observe.pairs_in_loss import Shape
from thalweg.record.quantities import CLASSES_CUT


@instrument(CLASSES_CUT, when="loss", rare=True)
def loss_rows(moment: Moment) -> Measurements:
    """1 where a reshape before the softmax cuts across the classes, as the graph's shapes show.

    Scores [batch, classes, height, width] that are viewed as [-1, classes] give rows of
    neighbouring pixels of one class; a permute has to come first. Exact, without a wait.
    """
    views = views_before_softmax(moment.loss, moment.forward and moment.forward.output_node)
    if views is None:
        return {}
    return {"": float(any(_cuts_across_classes(before, after) for before, after in views))}


def _cuts_across_classes(before: Shape, after: Shape) -> bool:
    """True if [batch, classes, …] becomes rows of as many numbers, which are not the classes."""
    if len(before) < 3 or len(after) != 2 or before[-1] == after[-1]:
        return False
    return before[1] == after[-1] and any(size > 1 for size in before[2:])
