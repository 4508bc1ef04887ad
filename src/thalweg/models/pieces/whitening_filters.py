"""Filters that decorrelate the patches of images and give them variance 1.

Source: Page 2018, "How to train your ResNet 8"; Jordan 2024, arXiv:2404.00498 §3.2. Coates, Ng
2012 whiten patches before k-means for the same reason.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import unfold

EPSILON = 5e-4  # added to each variance: smaller ones are damped, not amplified
CHUNK = 256  # images whose patches are in memory at once


def whitening_filters(
    images: Float[Tensor, "n c h w"], *, side: int, epsilon: float = EPSILON
) -> Float[Tensor, "filter c side side"]:
    """The principal axes of all patches of `side` pixels, each divided by its standard deviation.

    Moments are about 0: the mean of normalised images is close to it.
    """
    channels, dim = images.shape[1], images.shape[1] * side**2
    second_moment = torch.zeros(dim, dim, dtype=torch.float64, device=images.device)
    count = 0
    for chunk in images.float().split(CHUNK):
        patches = unfold(chunk, side).movedim(1, 2).reshape(-1, dim)
        second_moment += (patches.T @ patches).double()
        count += len(patches)
    variances, axes = torch.linalg.eigh(second_moment / count)
    filters = axes.T / (variances.clamp_min(0) + epsilon).sqrt()[:, None]
    return filters.to(images.dtype).view(dim, channels, side, side)
