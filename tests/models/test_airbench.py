"""The network of the speed records, piece by piece."""

import pytest
import torch

from thalweg.errors import UsageError
from thalweg.models import MODELS
from thalweg.models.pieces.fit_to_inputs import fit_to_inputs
from thalweg.models.pieces.whitening_filters import whitening_filters


def built(shape=(3, 32, 32), **changes):
    torch.manual_seed(0)
    return MODELS["airbench"](10, input_shape=shape, **changes)


@pytest.fixture
def smooth():
    """Images whose neighbouring pixels and channels are alike, as photographs' are."""
    torch.manual_seed(1)
    rough = torch.randn(80, 3, 16, 16)
    near = torch.nn.functional.avg_pool2d(rough, 3, stride=1)
    return near + 0.5 * near.roll(1, dims=1) + 0.1 * torch.randn_like(near)


def test_it_has_the_weights_of_the_published_network():
    """Counted by hand from airbench94's widths: 64, 256, 256, patches of 2 × 2 × 3."""
    model = built()
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    stages = [(24, 64), (64, 256), (256, 256)]
    convolutions = sum(9 * (before * after + after * after) for before, after in stages)
    biases = 24 + sum(2 * after for _, after in stages)
    assert trained == convolutions + biases + 2_560
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    scales = {f"stages.{stage}.norm{norm}.weight" for stage in range(3) for norm in (1, 2)}
    assert frozen == {"whiten.weight"} | scales


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_are_uncorrelated_and_of_variance_one(smooth, channels):
    """The second moments of what the filters say of every patch, by convolution."""
    images = smooth[:, :channels]
    filters = whitening_filters(images, side=2, epsilon=0.0)
    said = torch.nn.functional.conv2d(images, filters).movedim(1, 3).flatten(0, 2)
    before = images.unfold(2, 2, 1).unfold(3, 2, 1).movedim(1, 3).reshape(len(said), -1)
    identity = torch.eye(4 * channels)
    torch.testing.assert_close(said.T @ said / len(said), identity, atol=1e-3, rtol=0)
    assert (torch.corrcoef(before.T) - identity).abs().max() > 0.3


def test_damping_keeps_what_hardly_varies_small(smooth):
    flat = smooth.clone()
    flat[:, 2] = flat[:, 1]  # four directions of no variance at all
    said = torch.nn.functional.conv2d(flat, whitening_filters(flat, side=2))
    variances = said.movedim(1, 3).flatten(0, 2).square().mean(0)
    assert variances[:4].max() < 1e-3
    assert variances[4:].min() > 0.9


def test_the_first_layer_says_each_direction_with_both_signs(smooth):
    model = built()
    fit_to_inputs(model, {}, lambda least: smooth)
    said = model.whiten(smooth) - model.whiten.bias[:, None, None]
    torch.testing.assert_close(said[:, :12], -said[:, 12:])
    assert not model.whiten.weight.requires_grad


def test_nothing_is_read_for_a_network_that_needs_nothing():
    def refuse(least):
        raise AssertionError("no inputs are needed")

    fit_to_inputs(MODELS["convnet"](10, input_shape=(3, 8, 8)), {}, refuse)


def test_a_convolution_begins_by_passing_its_inputs_on():
    stage = built().stages[1]
    inputs = torch.randn(2, 64, 6, 6)
    torch.testing.assert_close(stage.conv1(inputs)[:, :64], inputs)
    assert stage.conv1(inputs)[:, 64:].std() > 0.1


def test_images_too_small_for_three_stages_are_refused():
    assert built((3, 9, 9))(torch.randn(2, 3, 9, 9)).shape == (2, 10)
    with pytest.raises(UsageError, match="at least 9 × 9"):
        built((3, 8, 32))
