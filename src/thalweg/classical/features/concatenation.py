"""Concatenation of several features to one."""

import torch
from torch import Tensor

from thalweg.classical.features.images import Feature, Images
from thalweg.errors import UsageError


def concatenation(*features: Feature) -> Feature:
    """One feature whose rows are those of all features side by side.

    >>> import torch
    >>> from thalweg.classical.features import colour_histogram, concatenation, hog
    >>> concatenation(hog, colour_histogram)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 154])
    """
    if not features:
        raise UsageError("nothing to concatenate", seen="no feature", fix="name at least one")

    def joint_feature(images: Images) -> Tensor:
        return torch.cat([feature(images) for feature in features], dim=1)

    return joint_feature
