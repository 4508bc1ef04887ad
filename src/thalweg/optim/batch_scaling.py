"""The learning rate for another batch size."""

from math import sqrt

from thalweg.errors import UsageError
from thalweg.registry import unknown_name

RULES = ("linear", "sqrt")


def scaled_lr(lr: float, *, batch_size: int, reference: int, rule: str = "linear") -> float:
    """The rate for `batch_size`, from one that was good at `reference`.

    "linear" for SGD, with a warm-up (Goyal et al. 2017, https://arxiv.org/abs/1706.02677); "sqrt"
    for Adam and its kin (Malladi et al. 2022, https://arxiv.org/abs/2205.10287). Both hold up to a
    critical batch size only. Raises UsageError for sizes below 1 or an unknown rule.
    """
    if batch_size < 1 or reference < 1:
        raise UsageError(
            "a batch holds at least one sample",
            seen=f"batch_size={batch_size}, reference={reference}",
            fix="sizes of 1 or more",
        )
    if rule not in RULES:
        raise unknown_name("scaling rule", rule, RULES)
    factor = batch_size / reference
    return lr * (factor if rule == "linear" else sqrt(factor))
