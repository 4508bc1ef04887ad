from thalweg.diagnosis.evidence import latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import COPY_STATISTICS, LOSS
from thalweg.wording import some


@rule(
    "copy-without-statistics",
    stage="wiring",
    needs=(COPY_STATISTICS,),
    explains=("loss-not-falling", "loss-oscillates", "training-plateau", "underfitting"),
)
def copy_without_statistics(history: History, *, least_steps: int = 50) -> Finding | None:
    """A copy of the model received its weights, but not its batch norms' running statistics.

    Why it matters: in eval mode a batch norm divides by stored statistics. A target network or an
    averaged model that copies `parameters()` alone keeps the statistics of an untrained network,
    and its outputs are not those of the model that it stands for.

    Evidence: a copy of the model that ran in the loop in eval mode alone: its weights changed, and
    so did the model's statistics, but the copy's statistics are those of its first pass.
    Threshold: no number of them changed in 50 steps.
    False alarms: none are known. Silent for a copy in train mode, which has statistics of its own,
    and for statistics that are copied, averaged, or collected again (update_bn).
    Convicted by: with the model's buffers, the copy's outputs are close to the model's.
    Source: Cai et al. 2021, "Exponential moving average normalization for self-supervised and
    semi-supervised learning"; torch.optim.swa_utils.AveragedModel, which keeps buffers in step.
    """
    stale = [name for name, changed in latest(history, COPY_STATISTICS).items() if changed == 0]
    if not stale or history.count(LOSS) < least_steps:
        return None
    return Finding(
        severity="warning",
        summary=f"the copy of {some(stale)} received new weights but kept the batch norm "
        "statistics that it began with",
        where=stale[0],
        evidence={"share of the statistics that changed": 0.0},
        prescriptions=(
            Prescription(
                change="copy the buffers with the weights: copy.load_state_dict(...), or "
                "for a, b in zip(copy.buffers(), model.buffers()): a.copy_(b)",
                expect="in eval mode the copy's outputs are close to the model's",
            ),
        ),
    )
