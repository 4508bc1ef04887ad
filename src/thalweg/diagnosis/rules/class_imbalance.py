import numpy as np

from thalweg.diagnosis.evidence import finite_values, latest, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import CLASS_COUNT, CLASS_RECALL
from thalweg.wording import some


@rule(
    "class-imbalance",
    stage="data",
    needs=(CLASS_COUNT, CLASS_RECALL),
)
def class_imbalance(
    history: History, *, ratio: float = 8.0, poor: float = 0.6, least: float = 30.0
) -> Finding | None:
    """The model misses rare classes in favour of the common ones.

    Why it matters: the mean loss hardly changes when a class of 1 % is never predicted, and
    neither does accuracy. Only the recall by class shows it.

    Evidence: samples by class, and the share of each class's samples that the model gets right.
    Threshold: the commonest class, of at least 30 samples, is 8 times as frequent as a class whose
    recall is below 0.6 and at least 0.2 below the median recall of the common classes, those with
    more than a third of the commonest one's samples.
    False alarms: a rare class that is also hard in itself.
    Convicted by: a balanced sampler on a copy raises the mean recall.
    Source: He and Garcia 2009, "Learning from imbalanced data"; SageMaker Debugger has ratio 10.
    """
    counts, recalls = (
        finite_values(latest(history, CLASS_COUNT)),
        finite_values(latest(history, CLASS_RECALL)),
    )
    both = sorted(set(counts) & set(recalls), key=lambda name: counts[name])
    if len(both) < 2:
        return None
    most = max(counts.values())
    usual = [recalls[n] for n in both if counts[n] > most / 3]
    if most < least or not usual:
        return None
    common = float(np.median(usual))
    lost = [
        n
        for n in both
        if most / max(counts[n], 1) >= ratio and recalls[n] < min(poor, common - 0.2)
    ]
    if not lost:
        return None
    return Finding(
        severity="warning",
        summary=f"rare classes are missed: class {some(lost)} with {number(counts[lost[0]])} "
        f"samples against {number(most)} is recognised {recalls[lost[0]]:.0%} of the time; common "
        f"ones {common:.0%}",
        where=f"class {lost[0]}",
        evidence={"samples": counts[lost[0]], "most": most, "recall": recalls[lost[0]]},
        prescriptions=(
            Prescription(
                change="draw the classes equally often, or weight the loss by their inverse "
                "frequency; judge by the mean recall",
                expect=f"recall of class {lost[0]} above 60 %",
            ),
        ),
    )
