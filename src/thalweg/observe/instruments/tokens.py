"""Tokens in sequences: targets that a loss ignores, padding that it counts, ends it never sees."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.observe.data_sample import TARGET_NAMES
from thalweg.observe.forward_pass import ForwardPass, tensors
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.lowest_entries import IGNORED
from thalweg.observe.targets_from_gradient import ENTROPY_KINDS, output_gradient
from thalweg.record import Quantity
from thalweg.record.quantities import END_IGNORED, PADDING, TARGETS_IGNORED

MOST = 256  # sequences
LEAST_LENGTH = 4
SAME_END = 0.9  # share of the sequences whose content ends in the same token
CONFIDENT = 0.99  # probability from which a target may have a gradient of zero without a mask
LEAST_PADDED = 0.3  # share of the sequences that end in the padding token
NEXT = 0.99  # share of the targets that are the next input of a language model


@instrument(TARGETS_IGNORED, PADDING, END_IGNORED, when="loss", rare=True)
def tokens(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Shares of the targets that are ignored, that are padding, and ends that are ignored."""
    if moment.forward is None or moment.graph is None or moment.graph.kind not in ENTROPY_KINDS:
        return {}
    targets = token_targets(moment)
    if targets is None or not targets.numel():
        empty = {"share": 1.0, "samples": 1.0, "batch": 1.0}
        return {TARGETS_IGNORED: empty} if _is_empty(moment) else {}
    measured: dict[Quantity, Measurements] = {}
    ignored = (targets == IGNORED).flatten(1) if targets.ndim > 1 else (targets == IGNORED)[:, None]
    if not bool(ignored.any()) or _ignores_surely(moment):
        shares = {"share": ignored.double().mean(), "samples": ignored.all(1).double().mean()}
        measured[TARGETS_IGNORED] = {**shares, "batch": 0.0}
    inputs = token_inputs(moment.forward, targets)
    if inputs is not None:
        measured |= _padding(moment, inputs.to(targets.device), targets=targets)
    return measured


def token_targets(moment: Moment) -> Tensor | None:
    """The class number of each position that the loss compares, one row a sequence."""
    forward = moment.forward
    if forward is not None and len(forward.token_classes) == 1:
        return forward.token_classes[0][:MOST]
    targets = moment.comparison.targets
    if targets is None or targets.is_floating_point() or targets.ndim == 0:
        return None
    whole = forward is not None and forward.is_whole
    return targets[:MOST] if whole else None


def token_inputs(forward: ForwardPass, targets: Tensor) -> Tensor | None:
    """The last argument of the model that holds one token for each target: a decoder's own."""
    rows: Tensor | None = None
    keywords = {k: v for k, v in forward.keywords.items() if k not in TARGET_NAMES}
    for one in tensors((forward.inputs, keywords)):
        if one.is_floating_point() or one.dtype == torch.bool or one.ndim != 2:
            continue
        if int(one.min()) < 0:  # labels, some of them ignored, which the model takes as well
            continue
        if one[:MOST].shape == targets.shape and int(one.max()) > 1:  # a mask is 0 and 1
            rows = one[:MOST]
    return rows


def _is_empty(moment: Moment) -> bool:
    """True where the mean over no target is 0/0: the loss is NaN, and every gradient zero."""
    gradient = output_gradient(moment.forward)
    if gradient is None or moment.loss is None or not gradient.numel():
        return False
    return bool(moment.loss.detach().isnan().all() & (gradient == 0).all())


def _ignores_surely(moment: Moment) -> bool:
    """False where a gradient of zero may be that of a target which is predicted for certain."""
    gradient, forward = output_gradient(moment.forward), moment.forward
    if gradient is None or forward is None or forward.output is None or gradient.ndim > 3:
        return False
    output, silent = forward.output.float(), (gradient == 0).all(-1)
    rows = output.flatten(0, -2)[silent.flatten()][: 4 * MOST]
    return not bool((rows.softmax(-1).amax(-1) > CONFIDENT).any()) if len(rows) else True


def _padding(moment: Moment, inputs: Tensor, *, targets: Tensor) -> dict[Quantity, Measurements]:
    """Padding is one token in the tails of the rows of inputs, and nowhere else."""
    tails = padded_tails(inputs)
    if tails is None or inputs.shape[1] < LEAST_LENGTH:
        return {}
    counted = targets != IGNORED
    at_padding = counted & tails
    total = counted.sum().clamp_min(1)
    measured: dict[Quantity, Measurements] = {
        PADDING: {
            "targets": at_padding.sum() / total,
            "inputs": tails.double().mean(),
            "token": inputs[tails][0].double(),
            **_loss_share(moment, targets, at_padding=at_padding),
        }
    }
    lengths = tails.sum(1)
    ends = inputs.shape[1] - lengths - 1  # the last position of the content
    within = (ends >= 0) & (lengths > 0)
    shift = _shift(inputs, targets)
    if shift >= 0 and bool(within.any()):
        behind = (ends + 1 - shift).clamp(0, inputs.shape[1] - 1)  # whose target is the first end
        last = targets.gather(1, behind[:, None])[:, 0]
        ignored = (last == IGNORED)[within].double().mean()
        endings = inputs.gather(1, ends.clamp_min(0)[:, None])[:, 0][within]
        own_end = (endings == endings.mode().values).double().mean() > SAME_END
        share = torch.where(own_end, 0.0, ignored)  # the content ends in a token for its end
        measured[END_IGNORED] = {"share": share, "shortest": lengths.min().double()}
    return measured


def _shift(inputs: Tensor, targets: Tensor) -> int:
    """1 where the target is the next input; 0: the same, of a model that shifts; −1: neither."""
    if is_next_token(inputs, targets):
        return 1
    counted = targets != IGNORED
    same = (inputs == targets)[counted]
    return 0 if bool(len(same)) and float(same.double().mean()) > NEXT else -1


def padded_tails(inputs: Tensor) -> Tensor | None:
    """True at the positions of padding; None where rows end in no token of their tails alone.

    >>> padded_tails(torch.tensor([[5, 3, 0, 0], [4, 0, 0, 0], [1, 2, 6, 3]])).sum(1).tolist()
    [2, 3, 0]
    >>> padded_tails(torch.tensor([[5, 0, 3, 0, 0], [4, 0, 0, 0, 0]])) is None
    True
    """
    last = inputs[:, -1]
    equal = inputs == last[:, None]
    tails = equal.flip(1).cumprod(1).flip(1).bool()
    long = tails.sum(1) > 1
    if not bool(long.any()):
        return None
    token = last[long].mode().values
    tails = tails & (last == token)[:, None]
    outside = (inputs == token) & ~tails
    if bool(outside.any()) or float(tails[:, -1].double().mean()) < LEAST_PADDED:
        return None
    if bool(tails.all()):
        return None
    return tails


def _loss_share(moment: Moment, targets: Tensor, *, at_padding: Tensor) -> dict[str, Tensor]:
    """The share of the loss that the padding makes, where all outputs are held."""
    output = moment.logits
    if output is None or output.ndim != 3 or output[:MOST].shape[:2] != targets.shape:
        return {}
    rows = output[:MOST].float().flatten(0, 1)
    losses = F.cross_entropy(rows, targets.flatten(), reduction="none", ignore_index=IGNORED)
    share = (losses * at_padding.flatten()).sum() / losses.sum().clamp_min(1e-12)
    return {"loss": share}


def is_next_token(inputs: Tensor, targets: Tensor) -> bool:
    """True for a language model: each counted target is the input of the next position."""
    counted = targets[:, :-1] != IGNORED
    same = (inputs[:, 1:] == targets[:, :-1])[counted]
    return bool(len(same)) and float(same.double().mean()) > NEXT
