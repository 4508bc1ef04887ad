from thalweg.diagnosis.evidence import kind, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import EVAL_NOISE, RANDOM_OPERATION


@rule(
    "dropout-in-eval-mode",
    stage="wiring",
    needs=(EVAL_NOISE,),
    explains=(
        "metric-disagrees-with-loss",
        "over-regularised",
        "overfitting",
        "stopped-too-early",
        "train-val-shift",
        "underfitting",
    ),
)
def dropout_in_eval_mode(history: History, *, least: float = 0.01) -> Finding | None:
    """Two passes in eval mode over the same samples differ: a dropout ignores the mode.

    Why it matters: `nn.Dropout(p)(x)` made in forward is always new and in train mode, and so is
    `F.dropout(x, p)`, whose `training` is True by default: neither knows of `model.eval()`.
    Validation and predictions are noisy and worse than the model.

    Evidence: two passes of a copy in eval mode from two random states, and the operation that
    draws random numbers.
    Threshold: a dropout was drawn, and the outputs differ by 1 % of their standard deviation.
    False alarms: Monte-Carlo dropout on purpose. Other random numbers in eval mode, as those of a
    variational autoencoder or an exploring policy, are a choice, and pass.
    Convicted by: with the dropout off, two passes agree and the validation loss is lower.
    Source: PyTorch documentation, `torch.nn.functional.dropout` (training=True).
    """
    noise = value(history, EVAL_NOISE)
    operation, _, place = kind(history, RANDOM_OPERATION).partition(" ")
    if not noise > least or operation != "dropout":
        return None
    where = place or "the model's own forward"
    return Finding(
        severity="warning",
        summary=f"dropout is on in eval mode, in {where}: two passes over the same samples differ "
        f"by up to {number(noise)} standard deviations of the outputs",
        where=place,
        evidence={"largest difference, in standard deviations": noise},
        prescriptions=(
            Prescription(
                change="make nn.Dropout in __init__ and call it in forward, or pass "
                "training=self.training to F.dropout (dropout_p=p if self.training else 0.0 to "
                "F.scaled_dot_product_attention)",
                expect="two passes in eval mode agree, and the validation score rises",
            ),
        ),
    )
