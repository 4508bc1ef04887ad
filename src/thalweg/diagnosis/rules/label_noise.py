from thalweg.diagnosis.evidence import latest, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BASELINE_ACCURACY, SUSPECT_LABELS


@rule(
    "label-noise",
    stage="data",
    needs=(SUSPECT_LABELS, BASELINE_ACCURACY),
    explains=("overfitting", "underfitting", "training-plateau", "metric-disagrees-with-loss"),
)
def label_noise(
    history: History, *, share: float = 0.07, contrast: float = 3.0, samples: float = 512.0
) -> Finding | None:
    """Many labels differ from those of all similar samples.

    Why it matters: the model first learns what the labels agree on and then learns the wrong ones
    by heart. Validation falls while training rises, and with noise in the validation split too,
    no model can score above one minus its share.

    Evidence: samples whose ten nearest others agree on one class (eight or more), and how many of
    these carry another label.
    Threshold: 7 % of at least 50 such samples, among 512 samples or more, where neighbours predict
    well beyond chance. 1,400 clean digits give 0.5 %; of clean MNIST, 192 samples were accused in 8
    of 9 draws, 288 in 7 of 12, 384 in 3 of 12, 512 in none of 12. Classes that neighbours cannot
    tell apart give no confident ones.
    False alarms: classes that overlap in the inputs' space, where all neighbours are wrong.
    Convicted by: retraining without the suspects raises the score on held-out samples.
    Source: Wilson 1972 (edited nearest neighbours); Northcutt et al. 2021, "Confident learning".
    """
    suspects, scores = value(history, SUSPECT_LABELS), latest(history, BASELINE_ACCURACY)
    chance = scores.get("chance", 1.0)
    neighbours = scores.get("nearest neighbours", 0.0)
    informed = neighbours > min(contrast * chance, (1 + chance) / 2)
    enough = scores.get("samples", 0.0) >= samples
    if not (suspects > share and informed and enough):
        return None
    return Finding(
        severity="warning",
        summary=f"{suspects:.0%} of the labels contradict all the samples that resemble theirs",
        evidence={"suspect share": suspects, "neighbours right": neighbours},
        prescriptions=(
            Prescription(
                change="look at the suspects and relabel them; meanwhile smooth the labels",
                expect="a higher validation score, earlier",
                edit={"task.label_smoothing": 0.1},
            ),
        ),
    )
