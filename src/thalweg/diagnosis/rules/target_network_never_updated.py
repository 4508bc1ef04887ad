from thalweg.diagnosis.evidence import latest, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import COPY_DISCOUNT, COPY_MOVED, LOSS


@rule(
    "target-network-never-updated",
    stage="wiring",
    needs=(COPY_MOVED,),
    explains=("loss-not-falling", "stopped-too-early", "training-plateau", "underfitting"),
)
def target_network_never_updated(history: History, *, least_steps: int = 150) -> Finding | None:
    """The network that computes the targets never received the weights of the trained one.

    Why it matters: in temporal difference learning the target is the reward plus the discounted
    value of the next state. A target network that keeps its first, random weights adds noise in
    place of that value: the agent learns the next reward alone.

    Evidence: a copy of the model that ran in the loop from the first reading to the last, whose
    weights never changed while those of the model did; the targets of a regression on other inputs,
    which for many pairs of samples differ by one factor (the discount) of the copy's outputs.
    Threshold: no entry changed in 150 steps: a warning where that factor was measured, else a note
    for a regression where the copy gets other inputs than the model.
    False alarms: none are known. Silent for a teacher or a reference model, which gets the inputs
    of the model, or whose outputs are the targets themselves. A run shorter than the interval
    between two synchronisations is named; then the interval is too long for it.
    Convicted by: synchronised more often, the values approach the discounted returns.
    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning", target
    network; Lillicrap et al. 2016, soft updates.
    """
    discounts = latest(history, COPY_DISCOUNT)
    frozen = [name for name, moved in latest(history, COPY_MOVED).items() if moved == 0]
    suspects = [name for name in frozen if discounts.get(name, -1) >= 0]
    if not suspects or history.count(LOSS) < least_steps:
        return None
    place = max(suspects, key=lambda name: discounts[name])
    discount, steps = discounts[place], history.count(LOSS)
    return Finding(
        severity="warning" if discount > 0 else "note",
        summary=f"a copy of {place} computes the targets, and its weights never changed in "
        f"{steps} updates of the model"
        if discount > 0
        else f"a copy of {place} runs on other inputs than the model, and its weights never "
        f"changed in {steps} updates: wrong if it is a target network",
        where=place,
        evidence={"factor of its outputs in the targets": discount} if discount > 0 else {},
        prescriptions=(
            Prescription(
                change="copy the weights in place, every few hundred updates at most "
                f"(at least ten times in {number(steps)}): "
                "target.load_state_dict(model.state_dict()); or after each update, under no_grad: "
                "for t, w in zip(target.parameters(), model.parameters()): t.lerp_(w, 0.005)",
                expect="the targets follow what the model has learned",
            ),
        ),
    )
