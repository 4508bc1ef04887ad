from thalweg.diagnosis.evidence import kind
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import REDUCED_BATCH


@rule(
    "batch-summed-inside-loss",
    stage="output",
    needs=(REDUCED_BATCH,),
    explains=("stopped-too-early", "training-plateau", "underfitting", "vanishing-gradients"),
)
def batch_summed_inside_loss(history: History) -> Finding | None:
    """The loss sums over the batch before its sigmoid: all samples together are judged as one.

    Why it matters: log σ(Σ x) is near zero as soon as the batch's sum is large, whatever each
    sample's x is. A few easy samples satisfy the loss, its gradient dies, and the others are never
    learned. `torch.sum` without `dim` in a ranking loss runs without an error.

    Evidence: the loss's graph: a sigmoid, softplus or log-sigmoid of one number that a sum or mean
    over the batch gave.
    Threshold: exact, in batches of four samples or more.
    False alarms: a loss that is meant for the batch as a whole, as of one bag of samples.
    Convicted by: summed over features alone (dim=1), the loss starts at the same value, falls more
    slowly, and the metric rises.
    Source: Rendle et al. 2009, "BPR: Bayesian personalized ranking from implicit feedback": the sum
    of ln σ over the triples.
    """
    function = kind(history, REDUCED_BATCH)
    if function in ("", "none"):
        return None
    return Finding(
        severity="error",
        summary=f"the loss sums over the whole batch and then takes {function.lower()} of that one "
        "number",
        prescriptions=(
            Prescription(
                change="sum over the features of a sample alone, sum(dim=1), and take the mean "
                "over the batch last",
                expect="a loss of each sample, and a rising metric",
            ),
        ),
    )
