"""The samples that training gets: those its sampler can draw, and copies within one batch."""

from collections.abc import Mapping

from thalweg.observe.data_sample import DataSample
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record import Quantity
from thalweg.record.quantities import FLIPPED_PICTURES, SAMPLES_DRAWN, VAL_CHANGES

LEAST_ROWS = 128
LEAST_BATCH = 8


@instrument(SAMPLES_DRAWN, VAL_CHANGES, FLIPPED_PICTURES, when="samples")
def samples_drawn(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Samples that can be drawn, of how many; distinct rows; copies within a batch. By hash."""
    measured: dict[Quantity, Measurements] = {}
    train, val = moment.train, moment.val
    if val is not None and val.change is not None:
        measured[VAL_CHANGES] = {"": val.change}
    if train is None:
        return measured
    if train.flipped is not None:
        counts = train.flipped._asdict().items()
        measured[FLIPPED_PICTURES] = {kind: float(count) for kind, count in counts}
    drawn: dict[str, float] = {}
    if train.facts is not None:
        facts = train.facts
        drawn = {
            "samples": float(facts.samples),
            "weights": float(facts.weights),
            "drawable": float(facts.drawable),
        }
    if _shows_copies(train):
        drawn |= _copies(train)
    return measured | ({SAMPLES_DRAWN: drawn} if drawn else {})


def _shows_copies(train: DataSample) -> bool:
    """True for rows of real numbers: states, bits and tokens coincide by nature."""
    inputs = train.inputs
    if not inputs.is_floating_point() or len(train) < LEAST_ROWS:
        return False
    if max(train.batch_sizes) < LEAST_BATCH:
        return False
    few = inputs[:256]
    return bool((few != few.round()).double().mean() > 0.1)


def _copies(train: DataSample) -> dict[str, float]:
    digests = train.digests()
    start = again = 0
    for size in train.batch_sizes:
        again += size - len(set(digests[start : start + size]))
        start += size
    return {
        "rows": float(len(digests)),
        "distinct": float(len(set(digests))),
        "copies within batches": again / len(digests),
    }
