"""Labels that the loss compares with other samples than those that the loader gave them to."""

from math import ceil

import torch
from torch import Tensor

from thalweg.observe.data_sample import row_digests
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import LABELS_SHUFFLED

MOST = 2**20  # numbers of a batch whose rows are told apart


@instrument(LABELS_SHUFFLED, when="loss", rare=True)
def shuffled_labels(moment: Moment) -> Measurements:
    """The share of samples whose target is another one's label.

    Exact: the targets, read off the gradient, are the batch's own labels in another order, while
    each row that the model was called with is found in the batch by its bytes. A loop that reorders
    inputs and labels alike gives 0; other labels, mixed samples or changed inputs give nothing.
    Cost: one hash a sample, at the thorough readings.
    """
    labels, targets = moment.batch_targets, moment.recovered_targets
    drawn = moment.batch_inputs
    called = None if moment.forward is None else moment.forward.first_input
    if labels is None or targets is None or drawn is None or called is None:
        return {}
    if not len(labels) == len(targets) == len(drawn) == len(called) > 1:
        return {}
    if labels.is_floating_point() or targets.is_floating_point() or targets.ndim != 1:
        return {}
    labels, targets = labels.detach().flatten().cpu().long(), targets.detach().cpu().long()
    if len(labels) != len(targets) or not torch.equal(labels.sort()[0], targets.sort()[0]):
        return {}
    places = _distinct_rows(drawn)
    pairs = [(row, places[key]) for key, row in _distinct_rows(called).items() if key in places]
    if len(pairs) < len(labels) / 2:
        return {}
    rows, origins = torch.tensor(pairs).T
    return {"": (targets[rows] != labels[origins]).double().mean()}


def _distinct_rows(inputs: Tensor) -> dict[bytes, int]:
    """The row number by the hash of evenly spaced numbers of it; rows that occur once only."""
    rows = inputs.detach().reshape(len(inputs), -1)
    rows = rows[:, :: max(1, ceil(rows.numel() / MOST))].cpu().double().contiguous()
    keys = row_digests(rows)
    last = {key: row for row, key in enumerate(keys)}
    first = {key: row for row, key in reversed([*enumerate(keys)])}
    return {key: row for key, row in first.items() if last[key] == row}
