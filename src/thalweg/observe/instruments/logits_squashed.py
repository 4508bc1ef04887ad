"""Tell raw scores from squashed ones in what a loss takes as logits."""

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.outputs import row_sum_error
from thalweg.observe.loss_arguments import AFFINE, loss_arguments
from thalweg.record.quantities import LOGITS_SQUASHED

TAKING_LOGITS = ("cross_entropy", "bce_with_logits")
SQUASHING = ("softmax", "sigmoid", "relu", "tanh")
CLOSE = 1e-4  # of a row's sum to 1
# Operations after which scores have both signs and no bound, whatever came before.
UNBOUNDED = (
    *AFFINE, "sub", "mul", "div", "neg", "baddbmm", "addbmm", "sparseaddmm", "nativelayernorm",
    "nativebatchnorm", "nativegroupnorm", "log", "logsoftmax", "leakyrelu", "gelu", "silu", "elu",
)  # fmt: skip


@instrument(LOGITS_SQUASHED, when="loss", rare=True)
def logits_squashed(moment: Moment) -> Measurements:
    """1 where a loss function that takes logits is applied to squashed ones, 0 where it is not.

    By the operation before each such function in the graph; and where the model's output is the
    function's input, by its values: rows without a negative number that sum to 1, whatever made
    them. Nothing where neither can be read, as after an operation that is in no table.
    """
    graph = moment.graph
    if graph is None or not graph.kind or moment.loss is None:
        return {}
    node = None if moment.forward is None else moment.forward.output_node
    pairs = {argument.partition(": ")[::2] for argument in loss_arguments(moment.loss, node)}
    pairs.add((graph.kind, graph.applied_to))
    operations = {operation for loss, operation in pairs if loss in TAKING_LOGITS}
    if not operations.isdisjoint(SQUASHING):
        return {"": 1.0}
    error = row_sum_error(moment) if graph.takes_output else None
    if graph.kind == "cross_entropy" and error is not None:
        return {"": (error < CLOSE).float()}
    return {"": 0.0} if operations <= {*UNBOUNDED} else {}
