"""How sure a score is: 95 % intervals over the validation samples."""

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from thalweg.report.written import wilson

RESAMPLES = 1_000
DRAWN_AT_ONCE = 2**22  # samples


def interval(
    errors: Float64[Tensor, " sample"], targets: Shaped[Tensor, " sample"], *, classifies: bool
) -> tuple[float, float]:
    """Wilson's interval of an accuracy, or the bootstrap's of R².

    `errors` are 1 for a wrong class, or squared. Source of the percentile bootstrap: Efron &
    Tibshirani 1993, An Introduction to the Bootstrap, §13.3. Always with the same draws.
    """
    if classifies:
        return wilson(len(errors) - int(errors.sum().item()), len(errors))
    draw = torch.Generator().manual_seed(0)
    count, values = len(errors), targets.double()
    scores = []
    for start in range(0, RESAMPLES, step := max(1, DRAWN_AT_ONCE // count)):
        size = min(step, RESAMPLES - start)
        rows = torch.randint(count, (size, count), generator=draw)
        drawn = values[rows]
        spread = (drawn - drawn.mean(1, keepdim=True)).square().sum(1)
        scores.append(1 - errors[rows].sum(1) / spread)
    low, high = torch.cat(scores).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return low.item(), high.item()
