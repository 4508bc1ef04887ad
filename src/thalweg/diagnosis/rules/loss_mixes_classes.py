from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import CLASSES_CUT


@rule(
    "loss-mixes-classes",
    stage="output",
    needs=(CLASSES_CUT,),
    explains=(
        "initial-loss-above-chance",
        "labels-without-signal",
        "loss-does-not-fit-task",
        "loss-not-falling",
        "metric-disagrees-with-loss",
        "output-ignores-inputs",
        "stopped-too-early",
        "training-plateau",
        "underfitting",
    ),
)
def loss_mixes_classes(history: History) -> Finding | None:
    """The scores are reshaped for the loss so that a row no longer holds one score a class.

    Why it matters: `scores.view(-1, classes)` of scores [batch, classes, height, width] runs
    without an error, and each of its rows holds neighbouring pixels of one class. The softmax then
    compares pixels, and the target of one pixel is applied to the scores of others.

    Evidence: the shapes before and after each reshape between the model and the softmax of the
    loss, as autograd's graph holds them.
    Threshold: exact: dimension 1 of the scores is as long as the rows, the last one is not.
    False alarms: none known.
    Convicted by: cross-entropy of the scores as they are, [batch, classes, …], has another value.
    Source: PyTorch documentation, `torch.Tensor.view` and `nn.CrossEntropyLoss` (class dimension).
    """
    if value(history, CLASSES_CUT) != 1:
        return None
    return Finding(
        severity="error",
        summary="the scores are reshaped to rows across their class dimension: a row holds "
        "neighbouring positions, not the classes of one",
        prescriptions=(
            Prescription(
                change="pass scores [batch, classes, …] and targets [batch, …] to cross_entropy as "
                "they are, or move the classes last before the view: scores.movedim(1, -1)"
                ".reshape(-1, classes)",
                expect="a loss that falls well below its first value",
            ),
        ),
    )
