from thalweg.diagnosis.evidence import number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import SAME_STATE_DISCOUNT


@rule(
    "target-of-same-state",
    stage="wiring",
    needs=(SAME_STATE_DISCOUNT,),
    explains=(
        *("loss-not-falling", "stopped-too-early", "training-plateau", "underfitting"),
        *("exploding-gradients", "loss-oscillates", "learning-rate-too-high"),
        "target-network-never-updated",
    ),
)
def target_of_same_state(history: History, *, least: int = 2) -> Finding | None:
    """The targets of temporal difference learning use the value of the state itself, not the next.

    Why it matters: the target is the reward plus the discounted value of the state that follows.
    With the state's own value in its place nothing is known of what follows: the values become
    those of the best reward, repeated for ever, and no action looks ahead.

    Evidence: a regression of one of several outputs a sample, whose targets for many pairs of
    samples differ by one factor (the discount) of the highest, or the chosen, value that the model
    or its copy gave the same inputs in the same step.
    Threshold: at two readings, and at half of those where it was looked for.
    False alarms: none are known: values of the next states have no such factor in common with
    those of the states.
    Convicted by: with the next states' values, the returns rise.
    Source: Watkins and Dayan 1992, "Q-learning", the target r + γ·max Q(s′, a′).
    """
    factors = list(history.series(SAME_STATE_DISCOUNT).values())
    clear = [float(factor) for factor in factors if factor > 0]
    if len(clear) < max(least, len(factors) / 2):
        return None
    factor = clear[-1]
    return Finding(
        severity="error",
        summary="the targets contain the value of the state that is trained, times "
        f"{number(factor)}: the value of the next state is meant",
        evidence={"factor of the same state's value": factor, "readings": len(clear)},
        prescriptions=(
            Prescription(
                change="compute the target of the next states: "
                "reward + gamma * (1 - done) * target_net(next_states).max(1).values",
                expect="values that look ahead, and rising returns",
            ),
        ),
    )
