from thalweg.diagnosis.evidence import curve
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import IGNORED_CLASS


@rule(
    "class-never-counted",
    stage="data",
    needs=(IGNORED_CLASS,),
    explains=("class-imbalance", "metric-disagrees-with-loss", "underfitting"),
)
def class_never_counted(
    history: History, *, share: float = 0.02, readings: int = 3
) -> Finding | None:
    """The loss leaves out a class that has samples: its number is the ignore_index.

    Why it matters: ignore_index=0 is meant for padding. Where 0 is also a class, nothing ever
    teaches it, and the model never predicts it.

    Evidence: the ignore_index in the loss's graph, a class number that the model has a score for;
    samples whose rows of scores have a gradient of exactly zero, or places within a sequence of
    real numbers with targets after them. Sequences of tokens, where a number for padding is usual,
    and images are not judged.
    Threshold: exact; 2 % of the targets, at three readings or more.
    False alarms: a class "unlabelled" that is meant to be left out and has a score all the same.
    Convicted by: the model's predictions on samples of that class.
    Source: PyTorch documentation, "CrossEntropyLoss" (ignore_index).
    """
    for name in history.by_place(IGNORED_CLASS):
        shares = curve(history, IGNORED_CLASS, name).values
        if len(shares) < readings or not (shares > 0).mean() > 0.5 or shares.mean() < share:
            continue
        return Finding(
            severity="warning",
            summary=f"{float(shares.mean()):.0%} of the targets are of class {name} and never "
            f"counted: {name} is the loss's ignore_index",
            where=f"class {name}",
            evidence={"share of the targets": float(shares.mean())},
            prescriptions=(
                Prescription(
                    change="mark padding with −100, the default ignore_index, or give the classes "
                    "numbers from 1 on",
                    expect=f"recall of class {name} above 0",
                ),
            ),
        )
    return None
