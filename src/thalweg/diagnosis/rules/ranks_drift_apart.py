from thalweg.diagnosis.evidence import curve, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import RANK_DISTANCE


@rule(
    "ranks-drift-apart",
    stage="wiring",
    needs=(RANK_DISTANCE,),
    explains=("ranks-differ", "loss-oscillates", "overfitting", "training-plateau"),
)
def ranks_drift_apart(history: History, *, limit: float = 0.02, least: int = 3) -> Finding | None:
    """The ranks start from the same weights, and each trains on alone.

    Why it matters: without the averaged gradient each rank trains a model of its own on its share
    of the data; the one that is saved has learned from that share only.

    Evidence: some entries of the weights on each rank, beside how far they have moved.
    Threshold: at every reading, three or more, the ranks are apart by 2 % of their movement.
    False alarms: local SGD and federated training, which average the weights every so often: silent
    where a reading falls on such a step. Ranks that start from different weights are not compared,
    since the parts of one model do, too; nor are sharded weights.
    Convicted by: the model wrapped in DistributedDataParallel: the distance stays zero.
    Source: Li et al. 2020, "PyTorch Distributed", section 3.2 (replicas stay the same because their
    start and their gradients are the same).
    """
    apart = curve(history, RANK_DISTANCE).values
    if len(apart) < least or not float(apart.min()) > limit:
        return None
    return Finding(
        severity="warning",
        summary="the ranks started from the same weights, and are apart by "
        f"{number(float(apart[-1]))} × the distance that they have moved",
        evidence={"distance between ranks / movement": float(apart[-1])},
        prescriptions=(
            Prescription(
                change="wrap the model in DistributedDataParallel, and call the wrapper itself, "
                "not its .module, in the training loop",
                expect="the same weights on every rank",
            ),
        ),
    )
