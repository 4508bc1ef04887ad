"""Learning rates scaled to another batch size.

No recipe applies these rules: they are here for experiments that compare batch sizes.
"""

from math import sqrt

from thalweg.errors import UsageError
from thalweg.registry import unknown_name

RULES = ("linear", "sqrt")


def scaled_lr(lr: float, *, batch_size: int, reference: int, rule: str = "linear") -> float:
    """The learning rate for `batch_size`, from one that is good at the batch size `reference`.

    "linear" for SGD, with a warm-up (Goyal et al. 2017, https://arxiv.org/abs/1706.02677); "sqrt"
    for Adam and its variants (Malladi et al. 2022, https://arxiv.org/abs/2205.10287). Both hold up
    to a critical batch size only.

    Raises: UsageError for sizes below 1; UnknownNameError for an unknown rule.
    """
    if batch_size < 1 or reference < 1:
        raise UsageError(
            "a batch size is at least 1",
            seen=f"batch_size={batch_size}, reference={reference}",
            fix="sizes of 1 or more",
        )
    if rule not in RULES:
        raise unknown_name("scaling rule", rule, RULES)
    factor = batch_size / reference
    return lr * (factor if rule == "linear" else sqrt(factor))
