"""Compare the places that a loss counts with those that it leaves out: a mask chooses some."""

import torch
from torch import Tensor

from thalweg.observe.instruments.sample_independence import numbers


def left_out_tokens(tokens: Tensor, classes: Tensor, active: Tensor) -> dict[str, float]:
    """Facts of tokens, targets and counted places, all [sequence, time], of evenly spaced places.

    "seen" is the share of the counted targets that are the input of their place, "counted" and
    "distinct" the numbers of targets and of different ones. "left_out" is the share of the places
    between the first and the last counted one of their sequence that the loss leaves out, "either"
    the share of these whose token is a target elsewhere, "neighbours" that whose token is the one
    before it and never a target: a mask's, since no separator follows another.

    >>> tokens = torch.tensor([[1, 9, 9, 2], [3, 1, 9, 2]])
    >>> facts = left_out_tokens(tokens, tokens, tokens != 9)
    >>> facts["seen"], facts["left_out"], facts["either"], facts["neighbours"]
    (1.0, 0.375, 0.0, 0.3333333432674408)
    """
    after, before = active.cumsum(1) > 0, active.flip(1).cumsum(1).flip(1) > 0
    inside = after & before
    left_out = inside & ~active
    targets = classes[active].unique()
    either = torch.isin(tokens, targets) & left_out
    neighbours = torch.zeros_like(left_out)
    repeated = (tokens[:, 1:] == tokens[:, :-1]) & left_out[:, 1:] & left_out[:, :-1]
    neighbours[:, 1:] = repeated & ~either[:, 1:]
    counted, outside = active.sum().clamp_min(1), left_out.sum().clamp_min(1)
    names = ("seen", "counted", "distinct", "left_out", "either", "neighbours")
    values = numbers(
        ((tokens == classes) & active).sum() / counted,
        active.sum().float(),
        torch.tensor(float(len(targets))),
        left_out.sum() / inside.sum().clamp_min(1),
        either.sum() / outside,
        neighbours.sum() / outside,
    )
    return dict(zip(names, values, strict=True))
