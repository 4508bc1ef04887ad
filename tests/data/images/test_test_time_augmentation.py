"""Averages over views of an image, against views made by hand with numpy."""

import numpy as np
import pytest
import torch

from thalweg.data.images.test_time_augmentation import AugmentedViews
from thalweg.models import MODELS


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS["convnet"](4, input_shape=(3, 12, 10), width=4).eval()


@pytest.fixture
def images():
    return torch.randn(6, 3, 12, 10, generator=torch.Generator().manual_seed(1))


def by_hand(images, kind):
    """(weight, images) of every view."""
    mirror = images[..., ::-1]
    if kind == "flip":
        return [(0.5, images), (0.5, mirror)]
    bordered = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    moved = [bordered[..., :-2, :-2], bordered[..., 2:, 2:]]
    shifted = [(0.125, view) for one in moved for view in (one, one[..., ::-1])]
    return [(0.25, images), (0.25, mirror), *shifted]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", ["flip", "shift"])
def test_it_is_the_mean_of_views_made_by_hand(model, images, kind, layout):
    views = by_hand(images.numpy(), kind)
    assert sum(weight for weight, _ in views) == 1
    with torch.no_grad():
        said = [weight * model(torch.tensor(view.copy())) for weight, view in views]
        found = AugmentedViews(views=kind)(model, images.contiguous(memory_format=layout))
        known = AugmentedViews(views=kind)(model, images, model(images))
    torch.testing.assert_close(found, sum(said))
    torch.testing.assert_close(known, found)


def test_only_the_unsure_are_looked_at_again(model, images):
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        one = AugmentedViews()(model, images)
        all_views = AugmentedViews(views="shift")(model, images)
        probability = one.softmax(1).amax(1)
        sure = probability.sort().values[2:4].mean().item()  # three of six are below
        seen.clear()
        found = AugmentedViews(views="shift", sure=sure)(model, images)
        assert seen == [6, 3, 3, 3, 3, 3]
        nobody = AugmentedViews(views="shift", sure=0.0)(model, images)
    unsure = probability < sure
    torch.testing.assert_close(found[unsure], all_views[unsure])
    torch.testing.assert_close(found[~unsure], one[~unsure])
    assert torch.equal(nobody, one)
