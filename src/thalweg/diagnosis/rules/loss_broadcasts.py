from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BROADCAST_LOSS


@rule(
    "loss-broadcasts",
    stage="wiring",
    needs=(BROADCAST_LOSS,),
    explains=("output-cannot-reach-targets", "learning-rate-too-low"),
)
def loss_broadcasts(history: History) -> Finding | None:
    """Outputs and targets have different shapes, and the loss compares all pairs of samples.

    Why it matters: outputs of shape N×1 against targets of shape N broadcast to N×N. The loss is
    then smallest when every output is the mean of the targets: the model learns to be constant.

    Evidence: the shapes that entered the loss, or those of results in its graph: N×1 as the
    model gave it that meets N numbers and is averaged over all N×N, in hand-written losses too.
    Threshold: exact, from four samples in the graph.
    False alarms: a loss that averages all pairs on purpose without an inserted or transposed
    dimension; a product of the model's output with a constant table of N×N numbers.
    Convicted by: `squeeze` or `unsqueeze` changes the value of the loss on the same batch.
    Source: PyTorch's own warning "Using a target size that is different to the input size".
    """
    if value(history, BROADCAST_LOSS) != 1:
        return None
    return Finding(
        severity="error",
        summary="outputs and targets have different shapes; the loss is over all pairs of samples",
        prescriptions=(
            Prescription(
                change="give both the same shape: logits.squeeze(1), or targets.unsqueeze(1)",
                expect="the loss falls below the variance of the targets",
            ),
        ),
    )
