from thalweg.diagnosis.evidence import number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LAYERS, NONLINEARITIES


@rule(
    "no-nonlinearity",
    stage="signal",
    needs=(LAYERS, NONLINEARITIES),
    explains=("underfitting", "training-plateau"),
)
def no_nonlinearity(history: History) -> Finding | None:
    """Several linear layers follow each other without an activation, so they act as one.

    Why it matters: a product of matrices is a matrix. However deep, such a model can only draw
    straight boundaries.

    Evidence: every operation of a forward pass between the first and the last linear map.
    Threshold: exact: two linear maps or more, and only operations that keep a map affine between
    them; any unfamiliar operation counts as nonlinear.
    False alarms: a deep linear network on purpose; a low-rank factorisation of three matrices.
    Two that meet in fewer dimensions than either end has (word vectors) count as one layer.
    Convicted by: f(½a + ½b) = ½f(a) + ½f(b) to one part in 10⁵.
    Source: definition; Neuralint's missing-activation rule (Nikanjam et al. 2021).
    """
    layers = value(history, LAYERS)
    if not (layers >= 2 and value(history, NONLINEARITIES) == 0):
        return None
    return Finding(
        severity="warning",
        summary=f"{number(layers)} layers without any activation between them act as one",
        evidence={"layers": layers},
        prescriptions=(
            Prescription(
                change="put an activation (ReLU, GELU) between the layers",
                expect="a lower training loss",
            ),
        ),
    )
