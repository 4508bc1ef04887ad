from collections import Counter
from collections.abc import Mapping

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record import Quantity
from thalweg.record.quantities import DUPLICATED, LEAKED, VAL_SAMPLES


@instrument(LEAKED, DUPLICATED, VAL_SAMPLES, when="samples")
def duplicates(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Samples that occur twice: within the training split, and across the splits. By hash."""
    train, val = moment.train, moment.val
    if train is None:
        return {}
    digests = train.digests()
    counts = Counter(digests)
    repeated = sum(counts[digest] > 1 for digest in digests)
    measured: dict[Quantity, Measurements] = {DUPLICATED: {"": repeated / len(digests)}}
    if val is not None:
        measured[VAL_SAMPLES] = {"": float(len(val))}
    elif moment.validation is not None and moment.validation.first_input is not None:
        measured[VAL_SAMPLES] = {"": float(moment.validation.batch_size)}
    if val is not None and len(val) and val.inputs.shape[1:] == train.inputs.shape[1:]:
        val_digests = val.digests(layout_of=train)
        leaked = sum(digest in counts for digest in val_digests)
        measured[LEAKED] = {"": leaked / len(val_digests)}
    return measured
