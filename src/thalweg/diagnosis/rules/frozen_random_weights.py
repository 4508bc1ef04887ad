from thalweg.diagnosis.evidence import latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import FROZEN_AT_RANDOM, GRADIENT_AT_UPDATE, HELD
from thalweg.wording import some


@rule("frozen-random-weights", stage="wiring", needs=(HELD,))
def frozen_random_weights(history: History) -> Finding | None:
    """Layers are frozen at the random values that they were initialised with.

    Why it matters: freezing is for trained weights. A frozen random layer is a fixed random
    projection, and all later layers must work with its output.

    Evidence: weight matrices with `requires_grad=False`, and whether their distribution is that of
    an initialiser (a uniform bound of exactly 1/√fan_in, a Gaussian with He's or Glorot's std)
    or that of trained weights (heavier tails, bounds crossed).
    Threshold: three standard errors of the moments of an initialiser. A note where half of the
    frozen matrices look trained: a pretrained model moves some, as embeddings, very little.
    False alarms: random features and fixed random embeddings on purpose.
    Convicted by: the same run with these layers unfrozen ends at a lower training loss.
    Source: distributions from He et al. 2015 and Glorot and Bengio 2010; PyTorch's documentation
    of nn.Linear and nn.Conv2d.
    """
    trainable = history.by_place(HELD)
    random = latest(history, FROZEN_AT_RANDOM)
    gradients = history.by_place(GRADIENT_AT_UPDATE)
    moved = {name for name, series in gradients.items() if 1.0 in series.values()}
    frozen = [name for name, flag in random.items() if flag == 1 and name not in trainable]
    frozen = [name for name in frozen if name not in moved]  # players freeze each other by turns
    if not frozen:
        return None
    trained = [name for name, flag in random.items() if flag == 0 and name not in trainable]
    return Finding(
        severity="note" if len(trained) >= len(frozen) else "warning",
        summary=f"{some(frozen)} will not be trained, and still look as they were initialised",
        where=frozen[0],
        evidence={"frozen at random values": float(len(frozen))},
        prescriptions=(
            Prescription(
                change=f"load trained weights for {some(frozen)}, or set requires_grad_(True)",
                expect="a lower training loss",
            ),
        ),
    )
