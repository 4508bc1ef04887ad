"""95 % intervals of a score over the validation samples."""

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from thalweg.statistics import wilson_interval

RESAMPLES = 1_000
SAMPLES_PER_DRAW = 2**22  # bounds the memory of one draw


def score_interval(
    errors: Float64[Tensor, " sample"],
    targets: Shaped[Tensor, " sample"],
    *,
    is_classification: bool,
) -> tuple[float, float]:
    """Wilson's interval of an accuracy, or the bootstrap's of R².

    `errors` are 1 for a wrong class, or squared. Source of the percentile bootstrap: Efron &
    Tibshirani 1993, An Introduction to the Bootstrap, §13.3. Every call draws the same samples.
    """
    if is_classification:
        return wilson_interval(len(errors) - int(errors.sum().item()), len(errors))
    generator = torch.Generator().manual_seed(0)
    count, values = len(errors), targets.double()
    scores = []
    for start in range(0, RESAMPLES, step := max(1, SAMPLES_PER_DRAW // count)):
        size = min(step, RESAMPLES - start)
        rows = torch.randint(count, (size, count), generator=generator)
        resampled = values[rows]
        spread = (resampled - resampled.mean(1, keepdim=True)).square().sum(1)
        scores.append(1 - errors[rows].sum(1) / spread)
    low, high = torch.cat(scores).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return low.item(), high.item()
