from thalweg.diagnosis.evidence import curve
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import RANK_DISTANCE, SAME_BATCHES


@rule("ranks-share-batches", stage="data", needs=(SAME_BATCHES, RANK_DISTANCE))
def ranks_share_batches(history: History, *, least: int = 3) -> Finding | None:
    """Every rank trains on the same batches.

    Why it matters: the averaged gradient is that of one rank, so the other ranks add nothing, and
    the batch is smaller than the learning rate was chosen for.

    Evidence: some numbers of each rank's input batch at the readings, compared exactly.
    Threshold: the same at every reading, three or more, while the ranks hold the same weights.
    False alarms: one batch that is meant to be learned by heart. Tensor parallelism shares batches,
    too: there the weights are sharded, or differ from the start, and nothing is compared.
    Convicted by: a DistributedSampler: the batches differ.
    Source: PyTorch documentation of torch.utils.data.distributed.DistributedSampler.
    """
    same, apart = curve(history, SAME_BATCHES).values, curve(history, RANK_DISTANCE).values
    if len(same) < least or not bool(same.all()) or not float(apart.max(initial=0.0)) < 0.01:
        return None
    return Finding(
        severity="warning",
        summary=f"the ranks trained on the same batch at each of {len(same)} readings",
        evidence={"readings with the same batch": float(len(same))},
        prescriptions=(
            Prescription(
                change="give each rank its share of the data: DataLoader(…, "
                "sampler=DistributedSampler(dataset)), with sampler.set_epoch(epoch) each epoch",
                expect="other batches on each rank, and an epoch of fewer steps",
            ),
        ),
    )
