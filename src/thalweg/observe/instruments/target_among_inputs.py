import torch
from torch import Tensor

from thalweg.observe.forward_pass import ForwardPass, is_plain, tensors
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import TARGET_AMONG_INPUTS

LEAST_SAMPLES = 8
LEAST_DISTINCT = 6  # values; two features with fewer agree by chance
MOST_SAMPLES = 128
EXACT = 1e-5  # of the spread: rounding of single precision
NEARLY = 1e-3  # of the std: rounding of targets that the gradient shows
FEW = 8  # values a sample; more of them are an image or a sequence to be reproduced


@instrument(TARGET_AMONG_INPUTS, when="loss", rare=True)
def target_among_inputs(moment: Moment) -> Measurements:
    """1 where the target of each sample stands in its inputs, up to scale and offset.

    Only for real-valued targets of a few numbers a sample, beside inputs of more numbers: an
    autoencoder's targets are its inputs on purpose. Those of a model that also gets a noise level
    a sample, as a diffusion model does, are compared as a whole. Cost: one pass over some samples.
    """
    forward, targets = moment.forward, moment.comparison.targets
    inputs = None if forward is None else forward.first_input
    if inputs is None or targets is None or not inputs.is_floating_point():
        return {}
    if not targets.is_floating_point() or not len(targets) == len(inputs) >= LEAST_SAMPLES:
        return {}
    rows = inputs[:MOST_SAMPLES].detach().flatten(1).double()
    columns = targets[:MOST_SAMPLES].detach().reshape(len(rows), -1).double().to(rows.device)
    if columns.shape == rows.shape and columns.shape[1] > FEW and _has_steps(forward, len(inputs)):
        error = (columns - rows).abs().amax()
        return {"whole": (error <= NEARLY * rows.std()).double()}
    if columns.shape[1] > FEW or rows.shape[1] <= columns.shape[1]:
        return {}
    if any(len(column.unique()) < LEAST_DISTINCT for column in columns.T):
        return {}
    copied = [_is_copied(column, rows) for column in columns.T]
    return {"": torch.stack(copied).all().double()}


def _has_steps(forward: ForwardPass | None, count: int) -> bool:
    """True if the model also gets a number a sample, mostly different ones: noise levels, times."""
    if forward is None:
        return False
    others = list(tensors((forward.inputs, dict(forward.keywords))))[1:]
    return any(
        is_plain(one) and one.numel() == count == one.shape[0] and 2 * len(one.unique()) > count
        for one in others
        if one.ndim
    )


def _is_copied(target: Tensor, rows: Tensor) -> Tensor:
    """True if a linear map of one input gives the target of each sample."""
    centred, own = rows - rows.mean(0), target - target.mean()
    slope = (own @ centred) / centred.square().sum(0).clamp_min(1e-30)
    error = (own[:, None] - slope * centred).abs().amax(0)
    return (error <= EXACT * own.abs().amax()).any()
